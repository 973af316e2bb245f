"""The latency predictor of a study, calibrated with progress on a console."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from nas.core.console import print_lines, progress_bar
from nas.core.errors import NasError
from nas.latency.predictors.base import LatencyPredictor, error_text
from nas.latency.settings import LatencySettings
from nas.latency.store import disturbance_warning, load_or_calibrate, load_predictor
from nas.study.config import StudyPlan
from nas.study.manifest import PREDICTOR_FILE


def find_or_calibrate(settings: LatencySettings, runs_dir: Path, console: Console) -> LatencyPredictor:
    """``load_or_calibrate`` with a progress bar on ``console``.

    Prints a warning if other programs disturbed the calibration.

    Raises: NasError.
    """
    with progress_bar(console, f"calibrating latency ({settings.backend}, once per device)") as progress:
        predictor = load_or_calibrate(settings, runs_dir, progress=progress)
    if warning := disturbance_warning(predictor):
        print_lines(console, f"{warning} python -m nas.calibrate device=cpu does it again.")
    return predictor


def study_predictor(plan: StudyPlan, console: Console) -> LatencyPredictor:
    """The study's own predictor if it has one; else this device's.

    A resumed study keeps its predictor, so that its latencies stay comparable.
    """
    saved = plan.folder / PREDICTOR_FILE
    if saved.is_file():
        try:
            return load_predictor(saved, plan.latency)
        except NasError as error:
            raise NasError(
                f"study {plan.name!r} was started with another latency predictor; choose another study.name. {error}"
            ) from None
    predictor = find_or_calibrate(plan.latency, plan.runs_dir, console)
    print_lines(console, f"latency: {predictor.device}; {error_text(predictor)}")
    return predictor
