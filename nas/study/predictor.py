"""The latency predictor of a study, calibrated with progress on a console."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from nas.core.console import print_lines, progress_bar
from nas.core.errors import NasError
from nas.latency.measure.system_load import WINDOW_S, LoadMeter, is_busy, other_cores, wait_until_quiet
from nas.latency.predictors.base import LatencyPredictor, error_text, forms_remark
from nas.latency.settings import LatencySettings
from nas.latency.speed import MachineSpeed, known_speed
from nas.latency.store import calibration_command, disturbance_warning, load_or_calibrate, load_predictor
from nas.study.config import StudyPlan
from nas.study.manifest import PREDICTOR_FILE

_REPORT_S: Final = 30.0  # between two lines on a busy machine


def find_or_calibrate(settings: LatencySettings, runs_dir: Path, console: Console) -> LatencyPredictor:
    """``load_or_calibrate`` with progress on ``console``.

    Prints a warning if other programs disturbed the calibration, and the speed that ``latency.speed=now`` finds.

    Raises: NasError.
    """
    predictor = load_with_progress(
        settings, runs_dir, console, f"calibrating latency ({settings.backend}, once per device)"
    )
    if settings.speed == "now":
        print_lines(console, _present_speed_text(known_speed(predictor)))
    if warning := disturbance_warning(predictor):
        command = calibration_command(predictor.device, runs_dir)
        print_lines(console, f"{warning} {command} when_busy=wait calibrates again when the machine is quiet.")
    return predictor


def _present_speed_text(present: MachineSpeed) -> str:
    return (
        f"latency.speed=now: networks take {present.moved or 1.0:.2f} times as long as at the machine's typical speed "
        f"during the calibration (its range then: {present.range_text}); predictions hold for the present speed"
    )


def load_with_progress(
    settings: LatencySettings, runs_dir: Path, console: Console, text: str, *, option: str = "latency.when_busy"
) -> LatencyPredictor:
    """``load_or_calibrate`` with a progress bar, which ``text`` describes.

    A calibration on a busy machine waits or says so; ``option`` is the name of the setting that decides.

    Raises: NasError.
    """
    with progress_bar(console, text) as progress:
        before_chunk = make_quiet_check(settings, console, other_cores, option)
        return load_or_calibrate(settings, runs_dir, progress=progress, before_chunk=before_chunk)


def make_quiet_check(
    settings: LatencySettings, console: Console, load: LoadMeter, option: str
) -> Callable[[bool], None]:
    """Function to be called before each chunk of a calibration.

    Its argument says whether other programs disturbed the chunk before. With ``when_busy=wait`` it waits until they are
    quiet, at the start and after each disturbed chunk; otherwise it says at the start how busy the machine is.
    """
    is_first, cores = True, os.cpu_count() or 1

    def describe(others: float) -> str:
        return f"other programs use {others:.1f} of {cores} cores"

    def wait() -> None:
        has_waited = False

        def on_busy(others: float, waited_s: float) -> None:
            nonlocal has_waited
            if not has_waited or waited_s % _REPORT_S == 0:  # lines: a second bar beside the calibration's is refused
                advice = "" if has_waited else f"; Ctrl-C ends this, {option}=warn does not wait"
                waited = f"waited {waited_s:g} of at most {settings.wait_s:g} s for a quiet machine"
                print_lines(console, f"{describe(others)}; {waited}{advice}")
            has_waited = True

        wait_until_quiet(settings.wait_s, on_busy, load)
        if has_waited:
            print_lines(console, "the machine is quiet: calibrating")

    def warn() -> None:
        others = load(WINDOW_S / 5)
        if others is not None and is_busy(others):
            print_lines(
                console,
                f"{describe(others)}, and beside them a calibration is inaccurate: {option}=wait waits until they are "
                "quiet.",
            )

    def check(disturbed: bool) -> None:
        nonlocal is_first
        if settings.when_busy == "wait" and (is_first or disturbed):
            wait()
        elif is_first:
            warn()
        is_first = False

    return check


def study_predictor(plan: StudyPlan, console: Console) -> LatencyPredictor:
    """The study's own predictor if it has one; else this device's.

    A resumed study keeps its predictor, so that its latencies stay comparable.
    """
    saved = plan.folder / PREDICTOR_FILE
    if saved.is_file():
        try:
            predictor = load_predictor(saved, plan.latency)
        except NasError as error:
            raise NasError(
                f"study {plan.name!r} was started with another latency predictor; choose another study.name. {error}"
            ) from None
        if warning := disturbance_warning(predictor):
            command = calibration_command(predictor.device, plan.runs_dir)
            print_lines(
                console,
                f"{warning} This study keeps that calibration; {command} when_busy=wait makes another for studies of "
                "another study.name.",
            )
        return predictor
    predictor = find_or_calibrate(plan.latency, plan.runs_dir, console)
    print_lines(console, f"latency: {predictor.device}{forms_remark(predictor)}; {error_text(predictor)}")
    return predictor
