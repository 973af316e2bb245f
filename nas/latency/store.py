"""Keep predictors in files, and find the one that the settings mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.progress import ProgressCallback
from nas.latency.calibration.calibrate import calibrate
from nas.latency.calibration.collect import DISTURBING_CORES
from nas.latency.device import Device, describe
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.predictors.block_table import BlockTable, read_table
from nas.latency.predictors.kernel_sum import KernelPredictor
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.predictors.op_regression import PricePredictor
from nas.latency.predictors.queue_model import QueuePredictor
from nas.latency.settings import LatencySettings

CALIBRATION_FORMAT: Final = (
    "nas.latency/2"  # raise it with every change of features: prices of old files would be misread
)
_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], LatencyPredictor]]] = {
    KernelPredictor.kind: KernelPredictor.from_dict,
    MacsPredictor.kind: MacsPredictor.from_dict,
    PricePredictor.kind: PricePredictor.from_dict,
    QueuePredictor.kind: QueuePredictor.from_dict,
    BlockTable.kind: BlockTable.from_dict,
}


def save_predictor(predictor: LatencyPredictor, path: Path) -> None:
    """Write a predictor as JSON, whole or not at all; ``load`` reads it."""
    write_text_atomically(path, json.dumps({"format": CALIBRATION_FORMAT, **predictor.to_dict()}, indent=1) + "\n")


def load_predictor(path: Path, settings: LatencySettings) -> LatencyPredictor:
    """The predictor that was saved to ``path``.

    Raises: NasError as ``read``, and if it is of another device than ``settings`` mean on this machine (unless they
    allow that).
    """
    # A file that the user named may be anything of theirs; one that we keep is written over.
    named = settings.calibration is not None
    remedy = "leave latency.calibration out to calibrate this machine" if named else "set latency.recalibrate=true"
    predictor = read_predictor(path, remedy)
    meant = device_of(settings)
    if predictor.device != meant and not settings.allow_other_device:
        raise NasError(
            f"{path}: was measured on {predictor.device}, but {meant} is asked for; "
            f"calibrate here, or set latency.allow_other_device=true if that device is meant."
        )
    return predictor


def read_predictor(path: Path, remedy: str = "calibrate that device again") -> LatencyPredictor:
    """The predictor that was saved to ``path``, whatever its device; ``remedy`` ends an error.

    Raises: NasError if the file holds none, or one of another format.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != CALIBRATION_FORMAT:
            raise NasError(f"{path}: format {data['format']!r} is not {CALIBRATION_FORMAT}; {remedy}.")
        return _KINDS[data["kind"]](data)
    except FileNotFoundError:
        raise NasError(f"calibration {path}: does not exist; {remedy}.") from None
    except NasError:
        raise
    except OSError as error:
        raise NasError(f"calibration {path}: cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise NasError(f"{path}: is no calibration ({error!r}); {remedy}.") from None


def disturbance_warning(predictor: LatencyPredictor) -> str:
    """A sentence on other programs' work during the calibration, if there was enough of it to matter; else nothing."""
    others = predictor.others if isinstance(predictor, KernelPredictor) else None
    if others is None or others <= DISTURBING_CORES:
        return ""
    return (
        f"Other programs kept {others:.1f} cores busy during the calibration: networks may be predicted some 5 to 10% "
        "too slow."
    )


def calibration_path(device: Device, runs_dir: Path) -> Path:
    """Where the predictor of ``device`` is kept below ``runs_dir``."""
    return runs_dir / "latency" / f"{device.key}.json"


def device_of(settings: LatencySettings) -> Device:
    """The device that ``settings`` mean, on this machine or in a table. Raises: NasError if its backend is missing."""
    if settings.backend == "macs":
        return MacsPredictor(settings.ms_per_gmac).device
    if settings.path is not None:
        return read_table(Path(settings.path)).device
    return describe(settings.backend, settings.threads, settings.batch, settings.precision)


def load_or_calibrate(
    settings: LatencySettings, runs_dir: Path, progress: ProgressCallback | None = None
) -> LatencyPredictor:
    """The predictor that ``settings`` ask for: the one kept below ``runs_dir``, or a new one, which is then kept.

    Raises: NasError as ``calibrate`` and ``load``.
    """
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
    kept = path.with_suffix(".measured")
    predictor = calibrate(device, seed=settings.seed, budget_s=settings.budget_s, progress=progress, kept=kept)
    save_predictor(predictor, path)
    return predictor
