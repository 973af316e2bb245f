"""``python -m nas.export arch=runs/w1/best.yaml format=onnx``: export a network.

The file is run once and compared with torch before it is accepted; a model card and an example stand beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.arch.spec import ArchSpec
from nas.cli import app, hydra_config
from nas.cli.help_layout import entries, option_lines, paragraph
from nas.cli.resolve.networks import is_spec_file, known_networks, resolve_arch
from nas.cli.resolve.weights import own_weights, resolve_weights
from nas.core.errors import NasError, quoted
from nas.core.streams import write_lines
from nas.exporters.formats import FORMATS, format_of

if TYPE_CHECKING:
    from rich.console import Console

    from nas.data.dense import DenseDataSettings
    from nas.data.sources import DataSettings
    from nas.exporters.deployment import ExportedNetwork, ExportPlan, ExportResult, QuantisedFile
    from nas.exporters.formats import ImageBatch, Run
    from nas.exporters.rewriting.forms import FormChoice, Forms
    from nas.latency.predictors.base import LatencyPredictor
    from nas.training.exported_images import DenseExportImages

_NAME: Final = "export"
_DATA: Final = "data"
_KEYS: Final = (
    *("arch", "weights", "format", "out", "overwrite", "resolution_px", "batch", "threads", "seed"),
    *("precision", "tolerance", "rewrite", "processing"),
    *("json", "runs_dir", _DATA),
)
_FOLDER: Final = "exports"
_FLOAT: Final = "float32"
_NUMBERS: Final = ("resolution_px", "batch", "threads", "seed")


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Export a network, and print what was checked and written."""
    arguments = app.word_as_setting(arguments, "arch")
    if app.answer_option(_NAME, arguments, _help):
        return 0
    config = _composed(arguments)
    plan = _plan_of(config, arguments)
    _show(exported(plan, to_stderr=config["json"]), as_json=config["json"])
    return 0


def make_plan(arguments: list[str]) -> ExportPlan:
    """Build the checked plan of an export; loads no torch but for ``timm/NAME``.

    Raises: NasError.
    """
    return _plan_of(_composed(arguments), arguments)


def exported(plan: ExportPlan, *, to_stderr: bool, quiet: bool = False) -> ExportResult:
    """Carry out ``plan``. ``to_stderr``: progress goes there. Raises: NasError."""
    from rich.console import Console

    format_of(plan.format).module()
    app.check_writable(plan.out.parent, "out")
    if plan.weights is not None:
        app.import_heavy("nas.model.weights.source")
    from nas.exporters.deployment.write import run_export

    console = Console(stderr=to_stderr, quiet=quiet)
    return run_export(
        plan,
        console,
        partial(_latency_text, plan),
        partial(_int8_latency, plan),
        lambda arch: _fastest_forms(plan, arch),
        partial(_dense_images, console),
    )


def _composed(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration of an export.

    Settings of images select ``data=`` of the task of a detector or segmenter.
    """
    names = [argument.partition("=")[0].lstrip("+") for argument in arguments]
    others = [one for name, one in zip(names, arguments, strict=True) if not name.startswith(f"{_DATA}.")]
    if _DATA not in names and len(others) < len(arguments):
        from nas.data.dense import DENSE_TASKS

        arch = hydra_config.compose_config(_NAME, others)["arch"]
        task = resolve_arch(arch).task if isinstance(arch, str) and is_spec_file(arch) else None
        if task in DENSE_TASKS:
            arguments = [f"{_DATA}={task}", *arguments]
    return hydra_config.compose_config(_NAME, arguments)


def _plan_of(config: Mapping[str, Any], arguments: Sequence[str]) -> ExportPlan:
    app.check_keys(config, _KEYS, optional=(_DATA,))
    app.check_flags(config, "json", "overwrite")
    app.check_texts(config, "arch", "weights", "format", "out", "precision", "processing")
    from nas.arch.files import load_spec_file
    from nas.core.credentials import masked_command
    from nas.exporters.deployment.plan import ExportPlan, export_name

    file_format = format_of(config["format"])
    arch, data = resolve_arch(config["arch"]), config.get(_DATA)
    spec_file = Path(config["arch"]) if is_spec_file(config["arch"]) else None
    name, runs_dir = export_name(arch, spec_file), app.runs_dir(config)
    folder = file_format.name if config["precision"] == _FLOAT else f"{file_format.name}-{config['precision']}"
    plan = ExportPlan(
        arch=arch,
        name=name,
        format=file_format.name,
        out=Path(config["out"]).expanduser() if config["out"] else runs_dir / _FOLDER / name / folder,
        runs_dir=runs_dir,
        weights=resolve_weights(config["weights"] or own_weights(spec_file)),
        overwrite=config["overwrite"],
        precision=config["precision"],
        tolerance=config["tolerance"],
        rewrite=_names(config["rewrite"]),
        processing=config["processing"],
        data=None if data is None else _data_settings(data),
        origin={} if spec_file is None else load_spec_file(spec_file).provenance,
        command=masked_command(["python", "-m", "nas.export", *arguments]),
        **{name: config[name] for name in _NUMBERS},
    )
    if plan.data is not None:
        app.check_images(plan.data)
    return plan


def _data_settings(data: Mapping[str, Any]) -> DataSettings | DenseDataSettings:
    """Settings of images with one class each, or with boxes or masks."""
    from nas.core.dataclass_io import from_mapping
    from nas.data.dense import DENSE_TASKS, DenseDataSettings
    from nas.data.sources import DataSettings

    if data.get("name") in DENSE_TASKS:
        return from_mapping(DenseDataSettings, data, _DATA)
    return from_mapping(DataSettings, data, _DATA)


def _dense_images(console: Console, plan: ExportPlan, network: ExportedNetwork) -> DenseExportImages:
    """Images with boxes or masks of ``plan``."""
    from nas.core.console import print_lines, progress_bar
    from nas.data.dense import DenseDataSettings
    from nas.training.exported_images import DenseExportImages

    if not isinstance(plan.data, DenseDataSettings):
        raise NasError(f"data {plan.data and plan.data.name}: {plan.arch.name} is for {plan.arch.task}.")
    with progress_bar(console, f"images of {plan.data.name}") as progress:
        images = DenseExportImages(plan.data, network, on_progress=progress)
    print_lines(console, *images.notices)
    return images


def _names(rewrite: Any) -> tuple[str, ...]:
    """The setting ``rewrite`` as names. Raises: NasError."""
    names = [rewrite] if isinstance(rewrite, str) else rewrite
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise NasError(f"rewrite {quoted(rewrite)}: must be auto, none, or names of rewrites: [one,another].")
    return tuple(names)


def _fastest_forms(plan: ExportPlan, arch: ArchSpec) -> FormChoice:
    """Measure the fastest forms of blocks in the runtime of ``plan``.

    Plain ones for a runtime that is not timed.
    """
    from nas.exporters.rewriting.forms import FormChoice
    from nas.latency.settings import REWRITTEN_BACKENDS

    backend = format_of(plan.format).backend
    if backend not in REWRITTEN_BACKENDS:
        return FormChoice(None, f"plain blocks: {plan.format} is not measured here")
    from nas.latency.host import describe
    from nas.latency.predictors.base import forms_of
    from nas.latency.rewrite_choice import fastest_forms

    device, predictor = describe(backend, plan.threads, plan.batch), _predictor(plan)
    predicted = None if predictor is None else forms_of(predictor, arch)
    return fastest_forms(arch, device, seed=plan.seed, predicted=predicted, precision=plan.precision)


def _int8_latency(plan: ExportPlan, before: Run, after: Run, images: ImageBatch) -> str:
    """Whether int8 pays on this machine, measured; empty if its runtime is not timed."""
    from nas.latency.settings import PRECISIONS

    backend = format_of(plan.format).backend
    if "int8" not in PRECISIONS.get(backend, ()):
        return ""
    from nas.latency.bench import compare_int8

    return compare_int8(before, after, images, backend=backend, threads=plan.threads)


def _latency_text(plan: ExportPlan, arch: ArchSpec, forms: Forms | None) -> str:
    """Predicted latency of the file, if its runtime is calibrated on this machine.

    ``forms``: of the blocks that are written; None for plain ones, which are priced then. Empty for named rewrites: a
    predictor prices blocks that are plain, or the fastest.
    """
    predictor = _predictor(plan)
    if predictor is None or plan.rewrite not in (("auto",), ("none",)):
        return ""
    from nas.core.formatting import interval
    from nas.latency.predictors.base import error_text, forms_remark, with_plain_blocks

    predictor = with_plain_blocks(predictor) if forms is None else predictor
    found = predictor.predict(arch)
    ends = f" (90% interval {interval(found.low_ms, found.high_ms)})" if predictor.error else ""
    device = f"{predictor.device}{forms_remark(predictor)}"
    return f"Predicted: {found.latency_ms:.2f} ms{ends} on {device}; {error_text(predictor)}."


def _predictor(plan: ExportPlan) -> LatencyPredictor | None:
    """The predictor of the runtime, if it is calibrated on this machine."""
    from nas.latency.settings import MEASURED_BACKENDS, LatencySettings
    from nas.latency.store import as_priced, calibration_path, device_of, load_predictor

    backend = format_of(plan.format).backend
    if backend not in MEASURED_BACKENDS:
        return None
    rewrite = "none" if plan.rewrite == ("none",) else "auto"
    try:
        settings = LatencySettings(
            backend=backend, precision=plan.precision, threads=plan.threads, batch=plan.batch, rewrite=rewrite
        )
        path = calibration_path(device_of(settings), plan.runs_dir)
        return as_priced(load_predictor(path, settings), settings) if path.is_file() else None
    except NasError:  # one that cannot be read is not worth an export
        return None


def _show(result: ExportResult, *, as_json: bool) -> None:
    from nas.core.formatting import shown_path

    if as_json:
        write_lines(json.dumps(_facts(result)))
        return
    names = ", ".join(path.name for path in result.files)
    write_lines(f"written: {shown_path(result.folder)} ({names}); {result.size_bytes / 1e6:.2f} MB")
    example = result.folder / "example.py"
    if example in result.files:
        verb = {"detection": "finds objects", "segmentation": "segments images"}.get(
            result.spec.task, "classifies images"
        )
        write_lines(f"python {shown_path(example)} IMAGE {verb} with it")


def _facts(result: ExportResult) -> dict[str, Any]:
    accuracy = result.accuracy
    return {
        "name": result.spec.name,
        "arch_id": result.spec.arch_id,
        "format": result.format,
        "folder": str(result.folder),
        "file": str(result.file),
        "files": [str(path) for path in result.files],
        "size_bytes": result.size_bytes,
        "difference": asdict(result.difference),
        "accuracy": accuracy and accuracy.accuracy,
        "standard_error": accuracy and accuracy.standard_error,
        "validation_images": accuracy and accuracy.images,
        "metric": getattr(accuracy, "metric", None),
        "metrics": getattr(accuracy, "metrics", None),
        "int8": result.int8 and _int8_facts(result.int8),
    }


def _int8_facts(found: QuantisedFile) -> dict[str, Any]:
    paired = found.accuracy
    return {
        "float_layers": list(found.float_layers),
        "accuracy_loss": paired and paired.loss,
        "accuracy_loss_error": paired.loss_error if paired and math.isfinite(paired.loss_error) else None,
        "remarks": list(found.texts),
    }


def _help() -> str:
    settings = entries(
        ("arch=NAME, or NAME", "mixnet_s, timm/fbnetc_100, or a spec file such as runs/w1/best.yaml"),
        ("weights=pretrained", "timm's, timm/NAME, a file, SPEC.yaml; without it those beside arch, else random ones"),
        (f"format={'|'.join(FORMATS)}", "the runtime that the file is for"),
        (
            "out=folder",
            "where; without it <runs_dir>/exports/<name>/<format>[-int8]; overwrite=true replaces an export",
        ),
        ("rewrite=auto", "exact rewrites of blocks, measured; none; or names such as [split_mixconv,group_pointwise]"),
        (
            "processing=auto",
            "normalisation and post-processing of a detector or segmenter in the file; none: beside it",
        ),
        ("resolution_px=160 batch=1", "the shape of the input"),
        ("precision=int8", "static quantisation; layers that cost more accuracy than tolerance=0.01 stay float32"),
        ("data.root data.fit ...", "of data=: validation images, for the accuracy through the file"),
        ("runs_dir=runs", "the folder of exports and calibrations"),
    )
    return f"""{paragraph(__doc__ or "")}

Choices:
{hydra_config.choices_help("data")}

Settings (name=value):
{settings}
{option_lines(_NAME, ("json=true", "the result as one JSON object on stdout, all else on stderr"))}

{known_networks()}"""


if __name__ == "__main__":
    main()
