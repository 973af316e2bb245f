"""Storage of latency predictors: JSON files, lookup by settings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.core.progress import ProgressCallback
from nas.latency.device import Device
from nas.latency.host import describe
from nas.latency.measure.system_load import is_busy
from nas.latency.predictors.base import LatencyPredictor, with_plain_blocks
from nas.latency.predictors.block_table import read_table
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.settings import GPU_BACKENDS, PRECISIONS, LatencySettings
from nas.latency.speed import HasSpeed, MachineSpeed

BeforeChunk = Callable[[bool], object]
CALIBRATION_FORMAT: Final = (
    "nas.latency/2"  # increment with every change of features: prices of old files would be misread
)
_UNSETTLED_NOISE: Final = 0.1  # relative error of one measurement, beyond which a machine did not settle
# Module and class by the kind in a file; only the module of a kind that is read is loaded.
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "kernels": ("kernel_sum", "KernelPredictor"),
    "macs": ("macs", "MacsPredictor"),
    "prices": ("op_regression", "PricePredictor"),
    "whole": ("queue_model", "QueuePredictor"),
    "table": ("block_table", "BlockTable"),
}


def save_predictor(predictor: LatencyPredictor, path: Path) -> None:
    """Write a predictor to a JSON file atomically; ``load_predictor`` reads it."""
    write_text_atomically(path, json.dumps({"format": CALIBRATION_FORMAT, **predictor.to_dict()}, indent=1) + "\n")


def load_predictor(path: Path, settings: LatencySettings) -> LatencyPredictor:
    """Predictor from the file at ``path``, checked against the device of ``settings``.

    Raises: NasError as ``read_predictor``, and if the predictor was measured on another device than the one that
    ``settings`` describe on this machine (unless ``allow_other_device`` is set).
    """
    # The remedy must not overwrite a file that the user named, which may hold anything; a saved one is ours.
    user_named = settings.calibration is not None
    remedy = "leave latency.calibration out to calibrate this machine" if user_named else "set latency.recalibrate=true"
    predictor = read_predictor(path, remedy)
    requested = device_of(settings)
    if predictor.device != requested and not settings.allow_other_device:
        raise NasError(
            f"{path}: was measured on {predictor.device}, but {requested} is requested; "
            f"calibrate here, or set latency.allow_other_device=true to use it for that device."
        )
    return predictor


def read_predictor(path: Path, remedy: str = "calibrate that device again") -> LatencyPredictor:
    """Predictor from the file at ``path``, of any device.

    ``remedy``: advice that ends an error message.

    Raises: NasError if the file cannot be read, holds no predictor, or has another format version.
    """
    predictor: LatencyPredictor = _read(path, remedy, _predictor_from_dict)
    return predictor


def read_device(path: Path) -> Device:
    """Device of the predictor in the file at ``path``, without loading the predictor.

    Raises: NasError as ``read_predictor``.
    """
    device: Device = _read(path, "calibrate that device again", lambda data: Device.from_dict(data["device"]))
    return device


def read_speed(path: Path) -> MachineSpeed | None:
    """Speed at which the predictor in the file at ``path`` holds, from its text alone.

    None where it is not known. Raises: NasError as ``read_predictor``.
    """
    speed: MachineSpeed | None = _read(
        path, "calibrate that device again", lambda data: MachineSpeed.from_dict(data.get("speed"))
    )
    return speed


def _predictor_from_dict(data: Mapping[str, Any]) -> LatencyPredictor:
    if not isinstance(data["kind"], str) or data["kind"] not in _KINDS:
        raise unknown_choice("kind", data["kind"], _KINDS)
    module, name = _KINDS[data["kind"]]
    predictor: LatencyPredictor = getattr(import_module(f"nas.latency.predictors.{module}"), name).from_dict(data)
    return predictor


def _read(path: Path, remedy: str, parse: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Result of ``parse`` for the data in the file at ``path``.

    Raises: NasError as ``read_predictor``.
    """
    try:
        data = _parsed(path, remedy)
        if data["format"] != CALIBRATION_FORMAT:
            raise NasError(f"{path}: format {quoted(data['format'])} is not {CALIBRATION_FORMAT}; {remedy}.")
        try:
            return parse(data)
        except NasError as error:
            raise NasError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise NasError(f"calibration {path}: does not exist; {remedy}.") from None
    except NasError:
        raise
    except OSError as error:
        raise NasError(f"calibration {path}: cannot be read: {error.strerror}.") from None
    except KeyError as error:
        raise NasError(
            f"{path}: not a valid calibration file ({quoted(error.args[0])} is missing); {remedy}."
        ) from None
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise NasError(f"{path}: not a valid calibration file ({error!r}); {remedy}.") from None


def _parsed(path: Path, remedy: str) -> dict[str, Any]:
    """The mapping in the file. Raises: NasError, and OSError if it cannot be read."""
    text = read_text(path, max_characters=MAX_JSON_CHARACTERS)
    try:
        data = parse_json(text)
    except NasError as error:
        raise NasError(f"{path}: not a valid calibration file ({str(error).rstrip('.')}); {remedy}.") from None
    if not isinstance(data, dict):
        raise NasError(f"{path}: not a valid calibration file (a mapping is expected); {remedy}.")
    return data


def disturbance_warning(predictor: LatencyPredictor) -> str:
    """Warning that other programs, or an unsteady machine, disturbed a calibration.

    It quotes the error that the calibration measured on held-out networks. Empty if neither matters, or is known.
    """
    return " ".join(filter(None, (_load_warning(predictor), _noise_warning(predictor))))


def _load_warning(predictor: LatencyPredictor) -> str:
    """Warning that other programs loaded the machine, empty without."""
    others: float | None = getattr(predictor, "others", None)  # only predictors that are calibrated here have it
    if not is_busy(others):
        return ""
    start, error = f"Other programs used {others:.1f} cores during the calibration", predictor.error
    if error is None:
        return f"{start}; its error was not measured."
    # The held-out networks were measured in the same minutes: their error does not show by what all are too slow.
    return (
        f"{start}: on {error.networks} held-out networks its median error is {error.median:.1%}, {error.within_10:.0%} "
        "are within 10%; on a quiet machine all may be faster than predicted."
    )


def _noise_warning(predictor: LatencyPredictor) -> str:
    """Warning that measuring causes most of the held-out error, empty otherwise."""
    noise: float | None = getattr(predictor, "noise", None)
    sources = predictor.error and predictor.error.sources
    if noise is None or not sources:
        return ""
    if noise > _UNSETTLED_NOISE:
        return (
            f"The machine did not settle during the calibration: one measurement of a network errs by {noise:.0%} "
            f"(RMS, from {sources.repeated_text}); the calibration is kept, but predictions may be "
            "off by as much."
        )
    if sources.is_mostly_measuring:
        return (
            f"Measuring causes most of the held-out error: {sources.measuring:.1%} of an RMS of {sources.total:.1%}; "
            "the predictor is better than that; a longer budget_s, or a quieter machine, would tell by how much."
        )
    return ""


def calibration_command(device: Device, runs_dir: Path | None = None) -> str:
    """Command that calibrates ``device``, this machine, again into ``runs_dir``."""
    is_gpu = device.backend in GPU_BACKENDS
    default_backend = "cuda" if is_gpu else "onnxruntime"
    default_precision = PRECISIONS.get(device.backend, ("float32",))[0]
    options = (
        ("backend", device.backend, default_backend),
        ("precision", device.precision, default_precision),
        ("threads", device.threads, 1),
        ("batch", device.batch, 1),
        ("runs_dir", str(runs_dir or "runs"), "runs"),
    )
    words = [f"{name}={shlex.quote(str(value))}" for name, value, default in options if value != default]
    return " ".join(["python -m nas.calibrate", f"device={'cuda' if is_gpu else 'cpu'}", *words])


def calibration_path(device: Device, runs_dir: Path) -> Path:
    """Path below ``runs_dir`` of the saved predictor of ``device``."""
    return runs_dir / "latency" / f"{device.key}.json"


def device_of(settings: LatencySettings) -> Device:
    """Device that ``settings`` describe: this machine, a table's device, or a formula.

    Raises: NasError if its backend is not installed, or the table cannot be read.
    """
    if settings.backend == "macs":
        return MacsPredictor(settings.ms_per_gmac).device
    if settings.path is not None:
        return read_table(Path(settings.path)).device
    return describe(settings.backend, settings.threads, settings.batch, settings.precision)


def load_or_calibrate(
    settings: LatencySettings,
    runs_dir: Path,
    progress: ProgressCallback | None = None,
    before_chunk: BeforeChunk | None = None,
) -> LatencyPredictor:
    """Predictor that ``settings`` describe: loaded, or calibrated here and saved.

    A saved predictor is looked up below ``runs_dir``; a new one is saved there, for the machine's typical speed.
    ``progress(done, total)``: called during a calibration; ``before_chunk``: see ``calibrate``.

    Raises: NasError as ``calibrate`` and ``load_predictor``, and where the present speed cannot be measured.
    """
    predictor = as_priced(_saved_or_calibrated(settings, runs_dir, progress, before_chunk), settings)
    return _at_present_speed(predictor, settings, runs_dir) if settings.speed == "now" else predictor


def as_priced(predictor: LatencyPredictor, settings: LatencySettings) -> LatencyPredictor:
    """``predictor`` as calibrated, or with plain blocks where ``settings`` say so."""
    return with_plain_blocks(predictor) if settings.rewrite == "none" else predictor


def _at_present_speed(predictor: LatencyPredictor, settings: LatencySettings, runs_dir: Path) -> LatencyPredictor:
    """``predictor`` for the speed that this machine has now, which is measured.

    Raises: NasError if the predictor holds for another device or an unknown speed, or the speed cannot be measured.
    """
    if not isinstance(predictor, HasSpeed) or predictor.device != device_of(settings):
        raise NasError(
            f"latency.speed now: the latency is that of {predictor.device}, whose speed cannot be measured here; "
            "leave latency.speed out, or calibrate this machine."
        )
    if predictor.speed is None:
        raise NasError(
            "latency.speed now: the calibration is of an older version, and does not say at which speed of the machine "
            f"its latencies hold; calibrate again ({calibration_command(predictor.device, runs_dir)}"
            f"{', then leave latency.calibration out' if settings.calibration else ''}), or leave latency.speed out."
        )
    from nas.latency.measure.present_speed import present_probe_ms

    return predictor.at_speed(present_probe_ms(predictor.device))


def _saved_or_calibrated(
    settings: LatencySettings, runs_dir: Path, progress: ProgressCallback | None, before_chunk: BeforeChunk | None
) -> LatencyPredictor:
    if settings.calibration is not None:
        return load_predictor(Path(settings.calibration), settings)
    if settings.backend == "macs":
        return MacsPredictor(settings.ms_per_gmac)
    if settings.path is not None:
        return read_table(Path(settings.path))
    device = device_of(settings)
    path = calibration_path(device, runs_dir)
    if path.exists() and not settings.recalibrate:
        return load_predictor(path, settings)
    from nas.latency.calibration.calibrate import calibrate

    partial_path = path.with_suffix(".measured")
    predictor = calibrate(
        device,
        seed=settings.seed,
        budget_s=settings.budget_s,
        progress=progress,
        partial_path=partial_path,
        before_chunk=before_chunk,
    )
    save_predictor(predictor, path)
    return predictor
