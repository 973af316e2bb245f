"""Check of a search's predicted latencies by networks measured on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import optuna

from nas.latency.measure.system_load import is_busy
from nas.latency.scale import LEAST_NETWORKS, LatencyScale
from nas.methods.search.trials.warm_start import best_records
from nas.study.objective import ObjectiveSettings
from nas.study.trial_attributes import LATENCY_SCALE, count_searched, latency_scale, trial_records
from nas.study.trial_record import Outcome, TrialRecord

_NETWORKS: Final = 8
_LEAST_TRIALS: Final = 8  # a shorter search has little left to correct
_TRIALS_SHARE: Final = 0.25  # after which a search is checked
_MANY_TURNED_DOWN: Final = 40  # candidates


def is_check_due(study: optuna.Study, n_trials: int) -> bool:
    """Whether the latencies of a search of ``n_trials`` should be checked now.

    Once in a search: after a quarter of its trials, or when many candidates were turned down, however few were trained.
    """
    if n_trials < _LEAST_TRIALS or LATENCY_SCALE in study.user_attrs:
        return False
    finished = count_searched(study)
    if finished >= _TRIALS_SHARE * n_trials:
        return finished < n_trials
    outcomes = [trial.user_attrs.get("outcome") for trial in study.get_trials(deepcopy=False)]
    return outcomes.count(Outcome.INFEASIBLE) >= _MANY_TURNED_DOWN


def networks_to_check(
    rows: Sequence[TrialRecord], objective: ObjectiveSettings, limit_ms: float | None
) -> list[TrialRecord]:
    """The best networks so far, each once, and some that ``limit_ms`` turned down.

    Of the latter those closest to it, which the search would train first if the limit were a little higher. Empty while
    there are too few to tell a common factor from chance.
    """
    chosen = {row.arch_id: row for row in best_records(rows, objective)}
    if limit_ms is not None:
        turned_down = [row for row in rows if row.outcome is Outcome.INFEASIBLE and (row.latency_ms or 0.0) > limit_ms]
        for row in sorted(turned_down, key=lambda row: row.latency_ms or 0.0):
            chosen.setdefault(row.arch_id, row)
    return list(chosen.values())[:_NETWORKS] if len(chosen) >= LEAST_NETWORKS else []


def measured_scale(study: optuna.Study) -> LatencyScale:
    """How far the calibration is off, by all networks that ``study`` measured."""
    corrected = latency_scale(study)
    measured = {row.arch_id: row for row in trial_records(study) if row.measured_ms and row.predicted_ms}
    return LatencyScale.of(
        [(row.measured_ms or 0.0) / (row.predicted_ms or 0.0) * corrected for row in measured.values()]
    )


def correct_latencies(study: optuna.Study, others: float | None, recalibration: str) -> str:
    """Record the factor by which ``study`` corrects predictions; return it in words.

    Empty if nothing is to say. Where all measured networks are off alike, one factor is recorded in the study: every
    worker and every later run uses it. ``others``: cores that other programs used during the measurement. They can only
    slow a network down, so that latencies above the prediction are no evidence then; those below are.
    ``recalibration``: command that calibrates the device again.
    """
    scale, before = measured_scale(study), latency_scale(study)
    if not scale.is_known:
        return ""
    if scale.factor > 1 and scale.is_off and others is not None and is_busy(others):
        _record(study, before)
        return f"{scale}, but other programs used {others:.1f} cores meanwhile: predictions are left as they are."
    factor = round(scale.factor, 4) if scale.is_common else 1.0
    _record(study, factor)
    if scale.is_common:
        return f"{scale}, all off alike: limits and results count with predictions x {factor:.2f} from here on."
    if scale.is_off:
        return (
            f"{scale}: they are not off alike, so that no common factor corrects them. Calibrate again when the "
            f"machine is quiet ({recalibration} when_busy=wait), or set latency.refine=true; either under another "
            "study.name."
        )
    return ""


def correction_text(study: optuna.Study) -> str:
    """The factor by which ``study`` corrects predictions and its evidence, in words.

    Empty where nothing is corrected.
    """
    factor = latency_scale(study)
    return "" if factor == 1 else f"predictions x {factor:.2f}: {measured_scale(study)}, all off alike"


def skip_correction(study: optuna.Study) -> None:
    """Record that the check was made and corrects nothing."""
    _record(study, latency_scale(study))


def _record(study: optuna.Study, factor: float) -> None:
    study.set_user_attr(LATENCY_SCALE, factor)
