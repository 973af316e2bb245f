"""A plan: settings refused by name, the identity of a study, and the way to worker processes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.core.errors import NasError
from nas.data.sources import DataSettings
from nas.estimators.proxy.settings import ProxySettings
from nas.latency.settings import LatencySettings
from nas.methods.search.config import SearchPlan
from nas.methods.search.settings import PrunerSettings, SamplerSettings, StudySettings
from nas.study.config import EngineSettings
from nas.study.constraints import Constraints
from nas.study.objective import ObjectiveSettings
from tests.study.fakes import make_plan, mobilenet_v1


@pytest.fixture
def plan() -> SearchPlan:
    return make_plan(mobilenet_v1())


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        (StudySettings, "name", "a/b", r"study\.name 'a/b': may hold letters"),
        (StudySettings, "name", "..", r"study\.name '\.\.'"),
        (StudySettings, "name", "", r"study\.name ''"),
        (StudySettings, "n_trials", 0, r"study\.n_trials 0: must be a whole number of at least 1"),
        (StudySettings, "seed", -1, r"study\.seed -1: must be a whole number of at least 0"),
        (StudySettings, "max_screened", 0, r"study\.max_screened 0"),
        (StudySettings, "storage", "optuna.db", r"study\.storage 'optuna\.db': must be one of sqlite:///FILE, journal"),
        (StudySettings, "patience_s", -1, r"study\.patience_s -1: must be a number of at least 0"),
        (SamplerSettings, "name", "tpee", r"sampler\.name 'tpee': choose from guided, tpe, .* Did you mean 'tpe'"),
        (SamplerSettings, "startup", -1, r"sampler\.startup -1"),
        (SamplerSettings, "population", 1, r"sampler\.population 1: must be a whole number of at least 2"),
        (PrunerSettings, "name", "asa", r"pruner\.name 'asa': choose from none, .* Did you mean 'asha'"),
        (PrunerSettings, "eta", 1, r"pruner\.eta 1: must be a whole number of at least 2"),
        (PrunerSettings, "min_epochs", 0, r"pruner\.min_epochs 0"),
        (PrunerSettings, "latency_window", 0.9, r"pruner\.latency_window 0\.9: must be a number of at least 1"),
        (PrunerSettings, "startup", 0, r"pruner\.startup 0"),
        (EngineSettings, "name", "slurm", r"engine\.name 'slurm': choose from local"),
        (EngineSettings, "workers", 0, r"engine\.workers 0: must be a whole number of at least 1"),
    ],
)
def test_impossible_settings_are_refused_by_name(kind: type, field: str, value: Any, message: str) -> None:
    with pytest.raises(NasError, match=message):
        kind(**{field: value})


def test_names_and_places_follow_from_what_is_searched(plan: SearchPlan) -> None:
    assert plan.name == "mobilenet_v1-digits"
    assert plan.folder == Path("runs/mobilenet_v1-digits")
    assert plan.storage_url == "sqlite:///runs/optuna.db"
    reward = replace(plan, objective=ObjectiveSettings(kind="mnasnet", target_ms=5.0))
    assert reward.name == "mobilenet_v1-digits-mnasnet"
    named = replace(plan, study=StudySettings(name="mine", storage="sqlite:////tmp/x.db"))
    assert (named.name, named.storage_url) == ("mine", "sqlite:////tmp/x.db")


def test_identity_changes_with_anything_that_trials_would_differ_by(plan: SearchPlan) -> None:
    before = plan.identity("here")
    changes: dict[str, Any] = {
        "data.subset": {"data": DataSettings(subset=100)},
        "proxy.epochs": {"proxy": ProxySettings(epochs=plan.proxy.epochs + 1)},
        "objective.kind": {"objective": ObjectiveSettings(kind="mnasnet", target_ms=5.0)},
        "constraint.latency_ms": {"constraints": Constraints(latency_ms=5.0)},
        "study.seed": {"study": StudySettings(seed=1)},
        "latency.backend": {"latency": LatencySettings(backend="torch")},
        "latency.refine": {"latency": LatencySettings(refine=True)},
        "latency.speed": {"latency": LatencySettings(speed="now")},
        "space.width": {"space_config": {**plan.space_config, "width": [0.5]}},
    }
    for name, fields in changes.items():
        after = replace(plan, **fields).identity("here")
        assert name in {key for key in after if before.get(key) != after[key]}
    assert plan.identity("there") != before


def test_going_on_with_more_trials_or_workers_is_the_same_study(plan: SearchPlan) -> None:
    more = replace(plan, study=StudySettings(n_trials=99), engine=EngineSettings(workers=4), runs_dir=Path("x"))
    more = replace(more, proxy=ProxySettings(checkpoint_s=None), pruner=PrunerSettings(name="asha"))
    assert more.identity("here") == plan.identity("here")


def test_a_plan_travels_to_worker_processes(plan: SearchPlan) -> None:
    arrived = pickle.loads(pickle.dumps(plan))
    assert arrived.space.parameters == plan.space.parameters
    genotype = {"width": 0.5, "resolution_px": 160}
    assert arrived.space.decode(genotype).arch_id == plan.space.decode(genotype).arch_id
    assert arrived.identity("here") == plan.identity("here")
