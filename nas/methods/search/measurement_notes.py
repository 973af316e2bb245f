"""Notes of a search on its measurements: the machine's speed, large errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import optuna

from nas.core.formatting import plural, sentence_case
from nas.latency.predictors.base import LatencyPredictor
from nas.latency.settings import LatencySettings
from nas.latency.speed import MachineSpeed, speed_of
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.trial_attributes import MeasuredLatency, probed_measurements

_SAID: Final = "nas:measurement_notes"  # system attribute of the study: what the terminal has said
_SLOWEST, _FASTEST = "slowest", "fastest"  # slowdowns that were said
_FURTHER: Final = 1.1  # times the slowdown that was said, at which another is said
_UNCERTAIN: Final = 0.1  # relative standard error beyond which a measurement is named


def new_notes(study: optuna.Study, predictor: LatencyPredictor, settings: LatencySettings) -> list[str]:
    """Lines on the measurements of ``study`` for the terminal, each said once.

    One where the machine left the range of speeds of the calibration, and one where measurements are uncertain because
    its speed did not settle.
    """
    measured, speed = probed_measurements(study), speed_of(predictor)
    said: dict[str, Any] = system_attributes(study).get(_SAID, {})
    found, lines = dict(said), []
    left = _left(measured, speed)
    for name, slowdown in ((_SLOWEST, max([1.0, *left])), (_FASTEST, min([1.0, *left]))):
        known = _distance(said[name]) + math.log(_FURTHER) if name in said else 0.0
        if speed and _distance(slowdown) > known:
            found[name] = round(slowdown, 4)
            lines.append(_speed_text(f"{slowdown:.2f}", speed, settings))
    uncertain = _uncertain_text(measured)
    if uncertain and "uncertain" not in said:
        found["uncertain"] = True
        lines.append(uncertain)
    if lines:
        set_system_attribute(study, _SAID, found)
    return lines


def present_speed_note(study: optuna.Study, speed: MachineSpeed, probe_ms: float) -> str:
    """Line on the speed at which a search begins; empty if the calibration knows it.

    It counts as said. ``speed``: of the calibration; ``probe_ms``: what the speed probe takes now.
    """
    if not speed.is_left(probe_ms):
        return ""
    slowdown = speed.slowdown(probe_ms)
    name, said = _SLOWEST if slowdown > 1 else _FASTEST, system_attributes(study).get(_SAID, {})
    set_system_attribute(study, _SAID, {**said, name: round(slowdown, 4)})
    return (
        f"networks now take {slowdown:.2f} times as long as at the machine's typical speed during the calibration (its "
        f"range then: {speed.range_text}): predicted and measured latencies are stated at that speed; "
        "latency.speed=now predicts for the present one (another study.name)"
    )


def measurement_remarks(study: optuna.Study, predictor: LatencyPredictor, settings: LatencySettings) -> tuple[str, ...]:
    """Remarks of the report on all measurements of ``study``, as ``new_notes``."""
    measured, speed, texts = probed_measurements(study), speed_of(predictor), []
    if speed and _left(measured, speed):
        slowdowns = [speed.slowdown(one.probe_ms) for one in measured if one.probe_ms is not None]
        ends = dict.fromkeys(f"{end:.2f}" for end in (min(slowdowns), max(slowdowns)))
        texts.append(_speed_text(" to ".join(ends), speed, settings))
    texts += filter(None, [_uncertain_text(measured)])
    return tuple(f"{sentence_case(text)}." for text in texts)


def _left(measured: Sequence[MeasuredLatency], speed: MachineSpeed | None) -> list[float]:
    """Slowdowns outside of the calibration's range of speeds."""
    probes = [one.probe_ms for one in measured if one.probe_ms is not None]
    return [speed.slowdown(probe_ms) for probe_ms in probes if speed.is_left(probe_ms)] if speed else []


def _distance(slowdown: float) -> float:
    return abs(math.log(slowdown))


def _speed_text(slowdown: str, speed: MachineSpeed, settings: LatencySettings) -> str:
    """That networks take ``slowdown`` times as long as they did, and what it means."""
    known = f"(its range then: {speed.range_text})"
    if settings.speed == "now":
        return (
            f"measured networks took {slowdown} times as long as at the speed of the machine that latency.speed=now "
            f"found at the start {known}: measured latencies are stated at the speed of the start"
        )
    return (
        f"measured networks took {slowdown} times as long as at the machine's typical speed during the calibration "
        f"{known}: measured latencies are stated at that speed; latency.speed=now predicts for the present one "
        "(another study.name)"
    )


def _uncertain_text(measured: Sequence[MeasuredLatency]) -> str:
    """How many measurements have a large error; empty if none."""
    errors = [one.error_ms / one.latency_ms for one in measured if one.error_ms is not None]
    large = [error for error in errors if error > _UNCERTAIN]
    if not large:
        return ""
    return (
        f"standard errors above {_UNCERTAIN:.0%}: {len(large)} of {plural(len(errors), 'measurement')} (up to "
        f"{max(large):.0%}), because the machine did not keep its speed; their latencies are kept"
    )
