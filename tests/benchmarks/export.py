"""Exported networks against the runtimes' own conversions of timm's modules, in turns.

    OMP_NUM_THREADS=1 python tests/benchmarks/export.py --runtime onnxruntime --networks mixnet_s mixnet_m [--files DIR]

For each network, timm's own module with random weights is converted as the runtime's makers document it
(``torch.onnx.export``, ``litert_torch.convert``, ``openvino.convert_model``, ``pnnx.export``), and written by this
project with plain blocks (``rewrite=none``) and with the fastest rewrites that it measures (``rewrite=auto``; among
them the forms that a calibration in --runs-dir prices). The three run interleaved, one thread, batch 1, each timed by
the CPU time of its thread; a ratio is that of lower quartiles, with its standard error over resampled rounds.
Conversions need onnxscript, litert-torch, openvino, or pnnx; their files are kept in --files, because one may take a
minute. The last line is one JSON object.

Results: tests/benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas.arch import zoo
from nas.arch.spec import ArchSpec
from nas.exporters.formats import FORMATS, Format
from nas.exporters.rewriting.forms import Forms
from nas.latency.host import describe
from nas.latency.measure.backends import Runner, random_images, runner
from nas.latency.measure.side_by_side import measure_side_by_side
from nas.latency.predictors.base import forms_of
from nas.latency.rewrite_choice import fastest_forms
from nas.latency.settings import LatencySettings
from nas.latency.store import calibration_path, device_of, load_predictor

ROUNDS, RUNS = 15, 2
SIDES = ("timm", "none", "auto")


def onnx_file(model: Any, images: Any, path: Path) -> Runner:
    from nas.exporters.onnx import onnx_session

    if not path.is_file():
        import torch

        torch.onnx.export(model(), (torch.from_numpy(images),), path, dynamo=True, external_data=False, verbose=False)
    session = onnx_session(path.read_bytes(), 1)
    feed = {session.get_inputs()[0].name: images}
    return lambda: session.run(None, feed)


def litert_file(model: Any, images: Any, path: Path) -> Runner:
    from nas.exporters.litert import litert_interpreter

    if not path.is_file():
        import litert_torch
        import torch

        litert_torch.convert(model(), (torch.from_numpy(images),)).export(str(path))
    interpreter = litert_interpreter(path.read_bytes(), 1)
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run() -> Any:
        interpreter.set_tensor(source, images)
        interpreter.invoke()
        return interpreter.get_tensor(target)

    return run


def openvino_file(model: Any, images: Any, path: Path) -> Runner:
    import openvino

    from nas.exporters.openvino.session import compiled

    if not path.is_file():
        import torch

        converted = openvino.convert_model(model(), example_input=torch.from_numpy(images))
        converted.reshape(images.shape)
        openvino.save_model(converted, path, compress_to_fp16=False)
    run = compiled(openvino.Core().read_model(path), 1)
    return lambda: run(images)


def ncnn_file(model: Any, images: Any, path: Path) -> Runner:
    import ncnn

    if not path.is_file():
        import pnnx
        import torch

        pnnx.export(model(), str(path.with_suffix("").with_suffix(".pt")), (torch.from_numpy(images),), fp16=False)
    net = ncnn.Net()
    net.opt.num_threads = 1
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage"):
        setattr(net.opt, name, False)
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(images[0]))
        return np.array(extractor.extract("out0")[1])

    return run


CONVERTERS: dict[str, Callable[[Any, Any, Path], Runner]] = {
    "onnxruntime": onnx_file,
    "litert": litert_file,
    "openvino": openvino_file,
    "ncnn": ncnn_file,
}


def timm_module(name: str, side_px: int) -> Any:
    import timm
    import torch

    torch.manual_seed(0)
    return timm.create_model(name, exportable=True).eval()


def predicted_forms(runtime: str, spec: ArchSpec, runs_dir: Path) -> Forms | None:
    """The forms that this machine's calibration prices, as nas.export takes them; None without a calibration."""
    settings = LatencySettings(backend=runtime)
    path = calibration_path(device_of(settings), runs_dir)
    return forms_of(load_predictor(path, settings), spec) if path.is_file() else None


def format_in(runtime: str) -> Format:
    return next(one for one in FORMATS.values() if one.backend == runtime)


def compare(runtime: str, name: str, files: Path, runs_dir: Path) -> dict[str, Any]:
    spec, device = zoo.get(name), describe(runtime)
    images = random_images(spec, 1, 0)
    suffix = format_in(runtime).suffix
    theirs = CONVERTERS[runtime](partial(timm_module, name, spec.resolution_px), images, files / f"{name}{suffix}")
    choice = fastest_forms(spec, device, predicted=predicted_forms(runtime, spec, runs_dir))
    ours = [runner(spec, backend=runtime, forms=forms) for forms in (None, choice.forms)]
    timed = measure_side_by_side([theirs, *ours], [device] * 3, rounds=ROUNDS, runs=RUNS)
    base = timed.measurements[0].latency_ms
    row: dict[str, Any] = {"runtime": runtime, "network": name, "timm_ms": base, "form": choice.reason}
    for side, one, error in zip(SIDES[1:], timed.measurements[1:], timed.ratio_errors[0][1:], strict=True):
        row |= {side: one.latency_ms / base, f"{side}_error": one.latency_ms / base * error}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runtime", choices=CONVERTERS, default="onnxruntime")
    parser.add_argument("--networks", nargs="+", default=["mixnet_s", "mixnet_m", "mixnet_l"])
    parser.add_argument("--files", type=Path, default=Path("runs/benchmarks/conversions"))
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    arguments.files.mkdir(parents=True, exist_ok=True)
    format_in(arguments.runtime).check_installed()
    rows = []
    for name in arguments.networks:
        row = compare(arguments.runtime, name, arguments.files, arguments.runs_dir)
        rows.append(row)
        text = ", ".join(f"{side} {row[side]:.3f} +- {row[f'{side}_error']:.3f}" for side in SIDES[1:])
        print(f"{row['runtime']} {name}: timm {row['timm_ms']:.2f} ms, {text}; {row['form']}", flush=True)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    sys.exit(main())
