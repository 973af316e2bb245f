"""``python -m nas.calibrate device=cpu``: calibrate a latency predictor.

It measures networks here or on a connected device, or reads measurements made elsewhere, and reports the error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.cli import app, device_kits, hydra_config
from nas.cli.help_layout import option_lines, paragraph
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.streams import write_lines

if TYPE_CHECKING:
    from nas.latency.kits.fit import KitFit
    from nas.latency.predictors.base import LatencyPredictor
    from nas.latency.predictors.held_out import HeldOutCheck

# The backends of each device; the first is the default.
_BACKENDS: Final = {
    "cpu": ("onnxruntime", "litert", "openvino", "ncnn", "torch"),
    "cuda": ("cuda", "cuda_graph"),
}
_DEVICES: Final = (*_BACKENDS, "measurements", "bundle", "adb", "ssh")
_KIT: Final = {**device_kits.MADE, **device_kits.CONNECTED, **device_kits.BY_SSH, **device_kits.BY_ADB}
_KEYS: Final = (
    "device", "backend", "precision", "threads", "batch", "budget_s", "seed", "when_busy", "wait_s", "path", "base",
    "runs_dir", "json", *_KIT,
)  # fmt: skip
_PREDICTOR_KINDS: Final = {
    "kernels": "sum of kernel latencies",
    "prices": "latency per operation",
    "whole": "regression on whole networks",
}
_HERE: Final[dict[str, Any]] = {"precision": None, "threads": 1, "batch": 1}
_BACKEND: Final[dict[str, Any]] = {"backend": None}
_FILE: Final[dict[str, Any]] = {"path": None}
_BASE: Final[dict[str, Any]] = {"base": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """A predictor and its file.

    ``notes``: on the measurements of a kit. ``outliers``: networks to be measured again.
    """

    predictor: LatencyPredictor
    path: Path
    here: bool
    outliers: tuple[HeldOutCheck, ...] = ()
    notes: tuple[str, ...] = ()


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Calibrate a predictor, save it, and report its error."""
    if app.answer_option("calibrate", arguments, _help):
        return 0
    config = hydra_config.compose_config("calibrate", arguments)
    app.check_keys(config, _KEYS, optional=("device",))
    device = config.get("device")
    if device is None or device == "???":
        raise NasError(f"which device? Add device= with one of {', '.join(_DEVICES)}.")
    if device not in _DEVICES:
        raise unknown_choice("device", device, _DEVICES)
    app.check_flags(config, "json")
    if device == "bundle":
        return _bundle(config)
    folder = app.runs_dir(config)
    app.check_writable(folder)
    if device in _BACKENDS:
        result = _from_here(device, config, folder)
    else:
        result = _from_measurements(config, folder) if device == "measurements" else _from_connected(config, folder)
    _report(result, as_json=config["json"])
    return 0


def _from_here(device: str, config: dict[str, Any], folder: Path) -> _Result:
    """Calibrate by measuring on this machine."""
    _refuse(config, {**_FILE, **_BASE}, "belongs to device=measurements")
    _refuse(config, _KIT, "belongs to device=bundle, adb and ssh")
    backends = _BACKENDS[device]
    backend = config["backend"] or backends[0]
    if backend not in backends:
        raise unknown_choice(f"backend of device={device}", backend, backends)
    from nas.latency.settings import LatencySettings

    config = {**config, "precision": config["precision"] or "float32"}
    names = ("precision", "threads", "batch", "budget_s", "seed", "when_busy", "wait_s")
    with _top_level_settings():
        settings = LatencySettings(backend=backend, recalibrate=True, **{name: config[name] for name in names})
    from rich.console import Console

    from nas.core.console import print_lines
    from nas.latency.store import calibration_path, device_of
    from nas.study.predictor import load_with_progress

    console = Console(stderr=True)
    print_lines(console, str(device_of(settings)))
    with _top_level_settings():
        text = f"calibrating for {settings.budget_s:g} CPU seconds"
        predictor = load_with_progress(settings, folder, console, text, option="when_busy")
    return _Result(predictor=predictor, path=calibration_path(predictor.device, folder), here=True)


@contextmanager
def _top_level_settings() -> Iterator[None]:
    """Context in which errors say ``budget_s`` instead of ``latency.budget_s``."""
    try:
        yield
    except NasError as error:
        raise NasError(re.sub(rf"\blatency\.(?=(?:{'|'.join(_KEYS)})\b)", "", str(error))) from None


def _bundle(config: dict[str, Any]) -> int:
    """Write a kit, and say what to do with it."""
    connected = {**device_kits.CONNECTED, **device_kits.BY_SSH, **device_kits.BY_ADB}
    _refuse(config, {**_FILE, **_BASE, **connected}, "is not needed to write a kit")
    _refuse(config, _BACKEND, "runtime= says it")
    from rich.console import Console

    folder, kit = device_kits.write_bundle(config, Console(stderr=True))
    if config["json"]:
        write_lines(json.dumps({"path": str(folder), "kit_id": kit.kit_id, "networks": len(kit.networks)}))
    else:
        write_lines(*device_kits.bundle_lines(folder, kit))
    return 0


def _from_connected(config: dict[str, Any], folder: Path) -> _Result:
    """Measure a kit on a connected device, and fit."""
    other = device_kits.BY_ADB if config["device"] == "ssh" else device_kits.BY_SSH
    _refuse(config, {**_FILE, **other}, "belongs to another device=")
    _refuse(config, _BACKEND, "runtime= says it")
    from rich.console import Console

    return _saved_kit(device_kits.calibrate_connected(config, folder, Console(stderr=True)), folder)


def _from_measurements(config: dict[str, Any], folder: Path) -> _Result:
    """Fit a predictor to measurements made elsewhere: a CSV file, or a kit."""
    _refuse(config, _KIT, "belongs to device=bundle, adb and ssh")
    if not isinstance(config["path"], str) or not config["path"]:
        raise NasError(
            f"path {quoted(config['path'])}: add path= with the CSV file of measurements, or the folder of a kit; see "
            "nas/latency/README.md."
        )
    path = Path(config["path"]).expanduser()
    is_kit = path.is_dir()
    _refuse(config, {**_BACKEND, **_HERE}, f"is given by the {'kit' if is_kit else 'header of the file'}")
    from rich.console import Console

    from nas.core.console import progress_bar
    from nas.latency.calibration.external import fit_measurements
    from nas.latency.predictors.held_out import outliers_of

    console = Console(stderr=True)
    if is_kit:
        return _saved_kit(device_kits.fitted(path, None, config, console), folder)
    bases = device_kits.base_predictors(config)
    with progress_bar(console, "fitting") as progress:
        predictor = fit_measurements(path, bases=bases, progress=progress)
    return _saved(predictor, folder, outliers=outliers_of(predictor.checks))


def _saved_kit(fit: KitFit, folder: Path) -> _Result:
    return _saved(fit.predictor, folder, notes=fit.notes)


def _saved(predictor: LatencyPredictor, folder: Path, **details: Any) -> _Result:
    """Save a predictor of a device elsewhere."""
    from nas.latency.store import calibration_path, save_predictor

    path = calibration_path(predictor.device, folder)
    save_predictor(predictor, path)
    return _Result(predictor=predictor, path=path, here=False, **details)


def _refuse(config: dict[str, Any], defaults: dict[str, Any], why: str) -> None:
    for name, default in defaults.items():
        if config[name] != default:
            raise NasError(f"{name} {quoted(config[name])}: {why}; leave it out with device={config['device']}.")


def _report(result: _Result, *, as_json: bool) -> None:
    from nas.latency.calibration import unknown_kernels
    from nas.latency.predictors.base import error_text
    from nas.latency.speed import speed_of
    from nas.latency.store import calibration_command, disturbance_warning

    predictor, error = result.predictor, result.predictor.error
    speed = speed_of(predictor)
    if as_json:
        figures = {
            "device": predictor.device.to_dict(),
            "error": asdict(error) if error else None,
            "speed": speed and speed.to_dict(),
            "noise": getattr(predictor, "noise", None),
            **({"notes": list(result.notes)} if result.notes else {}),
        }
        write_lines(json.dumps({"path": str(result.path), **figures}))
        return
    write_lines(*result.notes, str(predictor.device))
    if speed:
        write_lines(str(speed))
    write_lines(f"{_PREDICTOR_KINDS[predictor.kind]}: {error_text(predictor)}")
    if error and error.sources:
        write_lines(str(error.sources))
    if result.here and (unknown := unknown_kernels(predictor.device)):
        write_lines(unknown)
    if warning := disturbance_warning(predictor):
        command = calibration_command(predictor.device, result.path.parent.parent)
        again = f" {command} when_busy=wait calibrates again when the machine is quiet." if result.here else ""
        write_lines(f"{warning}{again}")
    for check in result.outliers:
        comparison = f"measured {check.measured_ms:.3g} ms, where the others predict {check.predicted_ms:.3g} ms"
        write_lines(f"  {check.name}: {comparison}; measure it again, or remove it")
    if result.here:
        write_lines(
            f"saved to {result.path}: searches on this machine with the same backend, threads and batch use it."
        )
    else:
        write_lines(
            f"saved to {result.path}: search with latency.calibration={result.path} latency.allow_other_device=true"
        )


def _help() -> str:
    settings = option_lines(
        "calibrate",
        ("device=cpu", f"backend={'|'.join(_BACKENDS['cpu'])} precision=float32|int8 threads=1 batch=1"),
        ("device=cuda", f"backend={'|'.join(_BACKENDS['cuda'])} precision=float32|float16|bfloat16 batch=1"),
        (
            "device=ssh",
            "host=user@box runtime=litert|onnxruntime|ncnn|tensorrt n=100: measures a kit of networks there",
        ),
        ("device=adb", "runtime=litert serial=R58M... run_with='taskset 80': the same on an Android phone"),
        ("device=bundle", "out=kit runtime=litert n=100: writes the kit, for a device that is not connected"),
        (
            "device=measurements",
            "path=kit or path=phone.csv base=runs/latency/other.json: from latencies measured anywhere (see "
            "nas/latency/README.md)",
        ),
        ("when_busy=warn|wait", "wait: begin only when other programs are quiet, after at most wait_s=600 seconds"),
        ("budget_s=120", "CPU seconds; after an interrupt, the same command resumes"),
        ("runs_dir=runs", "calibrations are saved in <runs_dir>/latency"),
        ("json=true", 'one JSON object: {"path", "device", "error", "speed", "noise"}'),
    )
    return f"{paragraph(__doc__ or '')}\n\n{settings}"


if __name__ == "__main__":
    main()
