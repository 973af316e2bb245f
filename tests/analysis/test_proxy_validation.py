"""Proxy validation: which studies qualify, and Kendall's tau by counting pairs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import optuna
import pytest
from optuna.trial import create_trial

from nas.analysis.proxy_validation import longer_trainings, validation_command
from nas.search import make_plan
from nas.study.storage.attributes import set_system_attribute
from nas.study.storage.opening import open_study
from nas.study.storage.study_format import FORMAT_ATTRIBUTE, STUDY_FORMAT
from nas.study.trial_record import Outcome, TrialRecord
from tests.study.fakes import PARETO, Memory

EFFORT = {"proxy.epochs": 2, "proxy.width_multiplier": 0.25, "proxy.depth_multiplier": 1.0, "proxy.resolution_px": 12}
IDENTITY = {"data.name": "digits", "data.root": None, "data.seed": 0, "data.val_fraction": 0.2, **EFFORT}
HERE = {"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8, "e": 0.55}


def row(number: int, arch_id: str, accuracy: float) -> TrialRecord:
    return TrialRecord(number=number, outcome=Outcome.TRAINED, arch_id=arch_id, accuracy=accuracy)


def study(storage: Memory, name: str, accuracies: Mapping[str, Any], **identity: Any) -> optuna.Study:
    """Create a study that trained the networks of ``accuracies``; tuples are repeats."""
    created = open_study(
        storage, name, PARETO, {**IDENTITY, **{key.replace("_", ".", 1): identity[key] for key in identity}}
    )
    for arch_id, values in accuracies.items():
        for value in values if isinstance(values, tuple) else (values,):
            attrs = {"arch_id": arch_id, "accuracy": value, "outcome": "trained"}
            created.add_trial(create_trial(values=[value, 1.0], user_attrs=attrs))
    return created


def rows() -> list[TrialRecord]:
    return [row(number, *item) for number, item in enumerate(HERE.items())]


def test_tau_uses_the_networks_in_common() -> None:
    storage, there = Memory(), {"a": (0.6, 0.8), "b": 0.65, "c": 0.9, "d": 0.95, "z": 0.1}
    own = study(storage, "own", HERE)
    study(storage, "long", there, proxy_epochs=9)
    (result,) = longer_trainings(own, rows())
    means = {"a": 0.7, "b": 0.65, "c": 0.9, "d": 0.95}
    signs = [(HERE[one] - HERE[two]) * (means[one] - means[two]) > 0 for one, two in combinations(means, 2)]
    assert result.kendall_tau == pytest.approx((2 * sum(signs) - len(signs)) / len(signs)) == pytest.approx(2 / 3)
    assert "Kendall tau 0.67" in str(result) and "the same 4 networks in study long" in str(result)
    assert result.effort == "epochs 9 instead of 2"


def test_two_networks_are_too_few_for_tau() -> None:
    storage = Memory()
    own = study(storage, "own", HERE)
    study(storage, "long", {"a": 0.6, "b": 0.7}, proxy_epochs=9)
    (result,) = longer_trainings(own, rows())
    assert result.kendall_tau is None and "also trained 2 networks of this study: no rank correlation" in str(result)


@pytest.mark.parametrize(
    "identity",
    [
        {},
        {"proxy_epochs": 1},
        {"proxy_epochs": 9, "proxy_resolution_px": 8},
        {"proxy_epochs": 9, "data_name": "cifar10"},
        {"proxy_epochs": 9, "data_seed": 1},
    ],
)
def test_studies_without_longer_training_are_ignored(identity: dict[str, Any]) -> None:
    storage = Memory()
    own = study(storage, "own", HERE)
    study(storage, "other", HERE, **identity)
    optuna.create_study(study_name="foreign", storage=storage)
    assert longer_trainings(own, rows()) == ()


def test_studies_of_a_newer_format_are_ignored() -> None:
    storage = Memory()
    own, other = study(storage, "own", HERE), study(storage, "long", HERE, proxy_epochs=9)
    assert len(longer_trainings(own, rows())) == 1
    set_system_attribute(other, FORMAT_ATTRIBUTE, STUDY_FORMAT + 1)
    assert longer_trainings(own, rows()) == ()


def test_the_study_with_most_in_common_comes_first() -> None:
    storage = Memory()
    own = study(storage, "own", HERE)
    study(storage, "some", {"a": 0.6}, proxy_epochs=9)
    study(storage, "most", HERE, proxy_width_multiplier=1.0)
    assert [result.study for result in longer_trainings(own, rows())] == ["most", "some"]


def test_validation_command_trains_the_same_space_and_seed_longer() -> None:
    command = (
        "python -m nas.search +space=mixnet latency=macs estimator=proxy pruner=asha proxy.epochs=2 study.name=it "
        "study.seed=7"
    )
    words = shlex.split(validation_command(command, "it", 2, 8))
    assert words[:3] == ["python", "-m", "nas.search"]
    before, after = make_plan(shlex.split(command)[3:]), make_plan(words[3:])
    assert (after.proxy.epochs, after.name, after.study.n_trials, after.study.first) == (6, "it-longer", 8, "it")
    assert (before.pruner.name, after.pruner.name) == ("asha", "none")
    assert (after.study.seed, after.sampler, after.space_config) == (7, before.sampler, before.space_config)


@pytest.mark.parametrize("given", ["", "estimator=zero_cost estimator.anchors=9"])
def test_validation_of_a_study_that_scores_most_networks_trains_them(given: str) -> None:
    command = f"python -m nas.search space=mixnet {given} study.name=it"
    words = shlex.split(validation_command(command, "it", 2, 8))
    assert "estimator=proxy" in words and "estimator=zero_cost" not in words
    plan = make_plan(words[3:])
    assert (plan.estimator.name, plan.study.n_trials, plan.proxy.epochs) == ("proxy", 8, 6)
