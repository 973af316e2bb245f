"""How a study was run, on what, and where it is kept: facts that every report ends with."""

from __future__ import annotations

from collections.abc import Mapping

import optuna

from nas.latency.predictors.base import LatencyPredictor, error_text
from nas.study.catalog import trial_times
from nas.study.config import StudyPlan
from nas.study.storage.urls import mask_credentials


def run_facts(
    plan: StudyPlan, predictor: LatencyPredictor, versions: Mapping[str, str], study: optuna.Study
) -> tuple[tuple[str, str], ...]:
    """What the report of every kind of study says last: how ``study`` was run, on what, and where it is kept."""
    return (
        ("engine", str(plan.engine)),
        ("seeds", f"study {plan.study.seed}, data {plan.data.seed}, latency {plan.latency.seed}"),
        ("device", str(predictor.device)),
        ("latency predictor", error_text(predictor)),
        ("last change", _last_change(study)),
        ("storage", mask_credentials(plan.storage_url)),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
    )


def _last_change(study: optuna.Study) -> str:
    """When the newest trial of ``study`` began or ended, to the minute, by the clock of the machine that ran it."""
    found = trial_times(study.get_trials(deepcopy=False))
    return f"{max(found):%Y-%m-%d %H:%M}" if found else ""
