"""Stand-in for a runtime's benchmark tool, by its Python package.

    python3 bench.py --runtime onnxruntime --network networks/001.onnx --px 224 \
        --reference networks/reference.onnx --reference-px 28

Every timed run stands between two runs of the reference network, which fits into the inner caches: a device changes its
speed from moment to moment. Both networks are printed in the format of the runtime's own tool, a section each, with the
network's times as if the reference network had taken its median throughout. Needs numpy and the runtime. With one
thread the clock is the CPU time of the thread, which excludes waiting for a busy core.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[], object]

LEAST_TURNS = 5
TIMED_RUNS = 2  # timed runs of a turn
# Untimed runs: caches fill again.
NETWORK_COLD_RUNS = 3
REFERENCE_COLD_RUNS = 2


def main() -> None:
    """Measure a network and the reference network, and print both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", choices=sorted(RUNTIMES), required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--px", type=int, required=True, help="side of its images")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--reference-px", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    load, show = RUNTIMES[options.runtime]
    reference, version = load(options.reference, options.reference_px, options.threads)
    network, _ = load(options.network, options.px, options.threads)
    for run in (reference, network):
        for _ in range(options.warmup):
            run()
    # With one thread kernels run on the calling one.
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    kind = "CPU time of the thread" if options.threads == 1 else "wall time"
    network_s, reference_s = in_turns(network, reference, clock, options.seconds)
    typical_s = statistics.median(reference_s)
    steady_s = [typical_s * own_s / near_s for own_s, near_s in zip(network_s, reference_s)]  # noqa: B905
    for section, path, times_s in (
        ("reference", options.reference, reference_s),
        ("network", options.network, steady_s),
    ):
        print(f"# section {section}")
        print(f"bench.py: {options.runtime} {version}, Python {platform.python_version()}, {kind}")
        show(path, times_s)
        # The median repeats best: on virtual machines a thread's CPU time is now and then far too short.
        print(f"bench.py: median {1e3 * statistics.median(times_s):.6g} ms of {len(times_s)} runs")


def in_turns(
    network: Run, reference: Run, clock: Callable[[], float], seconds: float
) -> tuple[list[float], list[float]]:
    """Durations in s of the network, and of the reference network around each.

    Of the runs of the reference network right before and after, the faster. Measured for ``seconds`` by ``clock`` and
    at least five turns.
    """
    network_s: list[float] = []
    reference_s: list[float] = []

    def timed(run: Run, cold_runs: int) -> float:
        for _ in range(cold_runs):
            run()
        start = clock()
        run()
        return clock() - start

    end = clock() + seconds
    while len(network_s) < LEAST_TURNS * TIMED_RUNS or clock() < end:
        for _ in range(NETWORK_COLD_RUNS):
            network()
        before = timed(reference, REFERENCE_COLD_RUNS)
        for _ in range(TIMED_RUNS):
            network_s.append(timed(network, 0))
            after = timed(reference, REFERENCE_COLD_RUNS)
            reference_s.append(min(before, after))
            before = after
    return network_s, reference_s


def images(shape: Any) -> Any:
    """Images of ``shape``, float32, drawn from a fixed seed."""
    return np.random.RandomState(0).standard_normal([int(side) for side in shape]).astype(np.float32)


def load_onnxruntime(path: str, px: int, threads: int) -> tuple[Run, str]:
    """Open an ONNX file in ONNX Runtime; a run of it, and the version."""
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    feed = {entry.name: images(entry.shape)}
    return lambda: session.run(None, feed), str(onnxruntime.__version__)


def load_litert(path: str, px: int, threads: int) -> tuple[Run, str]:
    """Open a .tflite file in LiteRT; a run of it, and the version."""
    try:
        name, module = "ai-edge-litert", importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        name, module = "tflite-runtime", importlib.import_module("tflite_runtime.interpreter")
    interpreter = module.Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    interpreter.set_tensor(entry["index"], images(entry["shape"]))
    return interpreter.invoke, importlib.import_module("importlib.metadata").version(name)


def load_ncnn(path: str, px: int, threads: int) -> tuple[Run, str]:
    """Open a .param file in ncnn; a run of it, and the version.

    Its weights are in the .bin file beside it. Options are those of benchncnn: weights and maps in float16 where the
    processor has it.
    """
    ncnn = importlib.import_module("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.load_param(path)
    net.load_model(path[: -len(".param")] + ".bin")
    array = images((3, px, px))
    image = ncnn.Mat(array).clone()  # a Mat of an array does not keep it
    first, last = net.input_names()[0], net.output_names()[0]

    def run() -> object:
        extractor = net.create_extractor()
        extractor.input(first, image)
        return extractor.extract(last)

    return run, str(ncnn.__version__)


def show_onnxruntime(path: str, times_s: list[float]) -> None:
    """Print durations as onnxruntime_perf_test does."""
    print(f"Total inference requests: {len(times_s)}")
    print(f"Average inference time cost: {1e3 * statistics.mean(times_s):.6g} ms")
    print(f"Min Latency: {min(times_s):.6g} s")
    print(f"Max Latency: {max(times_s):.6g} s")
    for share in (50, 90, 95, 99):
        print(f"P{share} Latency: {np.percentile(times_s, share):.6g} s")


def show_litert(path: str, times_s: list[float]) -> None:
    """Print durations as benchmark_model does."""
    us = [1e6 * one for one in times_s]
    low, middle, high = np.percentile(us, (5, 50, 95))
    print(
        f"INFO: count={len(us)} first={us[0]:.0f} curr={us[-1]:.0f} min={min(us):.0f} max={max(us):.0f} "
        f"avg={statistics.mean(us):.6g} std={statistics.pstdev(us):.0f} p5={low:.0f} median={middle:.0f} p95={high:.0f}"
    )


def show_ncnn(path: str, times_s: list[float]) -> None:
    """Print durations as benchncnn does, with more digits."""
    ms = [1e3 * one for one in times_s]
    print(f"loop_count = {len(ms)}")
    print(f"{path:>20}  min = {min(ms):8.4f}  max = {max(ms):8.4f}  avg = {statistics.mean(ms):8.4f}")


RUNTIMES = {
    "litert": (load_litert, show_litert),
    "ncnn": (load_ncnn, show_ncnn),
    "onnxruntime": (load_onnxruntime, show_onnxruntime),
}

if __name__ == "__main__":
    main()
