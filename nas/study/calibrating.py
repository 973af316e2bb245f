"""The latency predictor that settings ask for, with what a person sees while it is made and should know of it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from nas.latency.predictor import LatencyPredictor
from nas.latency.settings import LatencySettings
from nas.latency.store import disturbance, load_or_calibrate
from nas.study.progress import bar, say


def find_or_calibrate(settings: LatencySettings, runs_dir: Path, console: Console) -> LatencyPredictor:
    """``load_or_calibrate`` with a bar on ``console``, and a warning there if other programs disturbed the calibration.

    Raises: NasError.
    """
    with bar(console, f"calibrating latency ({settings.backend}, once per device)") as progress:
        predictor = load_or_calibrate(settings, runs_dir, progress=progress)
    if said := disturbance(predictor):
        say(console, f"{said} python -m nas.calibrate device=cpu does it again.")
    return predictor
