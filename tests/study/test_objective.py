"""MnasNet's reward against published exponents and reference values computed outside this project."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from nas.core.errors import NasError
from nas.study.objective import FORMS, ObjectiveSettings, choose_winners, mnasnet_reward
from nas.study.trial_record import Outcome, TrialRecord
from tests.paths import REFERENCE

REFERENCE = json.loads((REFERENCE / "reward.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", REFERENCE["vectors"], ids=lambda v: f"{v['acc']}-{v['lat']}-{v['T']}-{v['beta']}")
def test_reward_equals_the_reference(vector: dict[str, float]) -> None:
    got = mnasnet_reward(vector["acc"], vector["lat"], vector["T"], alpha=vector["alpha"], beta=vector["beta"])
    assert got == pytest.approx(vector["reward"], rel=1e-12)
    settings = ObjectiveSettings(kind="mnasnet", target_ms=vector["T"], alpha=vector["alpha"], beta=vector["beta"])
    assert settings.values(vector["acc"], vector["lat"]) == (pytest.approx(vector["reward"], rel=1e-12),)


@pytest.mark.parametrize("form", ["soft", "hard"])
def test_forms_have_the_published_exponents(form: str) -> None:
    assert FORMS[form] == (REFERENCE[form]["alpha"], REFERENCE[form]["beta"])


def test_soft_exponent_pays_five_percent_of_accuracy_for_a_doubling_of_latency() -> None:
    exact = -math.log2(1.05)
    assert exact == pytest.approx(REFERENCE["beta_exact"], rel=1e-12)
    assert FORMS["soft"][0] == round(exact, 2)
    target_ms = REFERENCE["T_ms"]
    slow_and_good = mnasnet_reward(0.5 * 1.05, 2 * target_ms, target_ms, alpha=exact, beta=exact)
    assert slow_and_good == pytest.approx(mnasnet_reward(0.5, target_ms, target_ms, alpha=exact, beta=exact))


def test_hard_form_pays_nothing_for_being_faster_and_in_proportion_for_being_slower() -> None:
    hard = ObjectiveSettings(kind="mnasnet", target_ms=20, form="hard")
    assert hard.reward(0.7, 5) == hard.reward(0.7, 20) == 0.7
    assert hard.reward(0.7, 40) == pytest.approx(0.35)


def test_given_exponents_override_one_side_of_the_form() -> None:
    settings = ObjectiveSettings(kind="mnasnet", target_ms=20, form="soft", beta=-1.0)
    assert settings.reward(0.6, 40) == pytest.approx(0.3)
    assert settings.reward(0.6, 10) == pytest.approx(0.6 * 0.5**-0.07)


def test_pareto_maximises_accuracy_and_minimises_latency() -> None:
    pareto = ObjectiveSettings()
    assert dict(zip(pareto.metric_names, pareto.directions, strict=True)) == {
        "accuracy": "maximize",
        "latency_ms": "minimize",
    }
    assert pareto.values(0.7, 12.0) == (0.7, 12.0)
    assert ObjectiveSettings(kind="mnasnet", target_ms=1).directions == ("maximize",)


def row(number: int, accuracy: float, latency_ms: float, outcome: Outcome = Outcome.TRAINED) -> TrialRecord:
    return TrialRecord(number=number, outcome=outcome, accuracy=accuracy, latency_ms=latency_ms)


ROWS = [
    row(0, 0.70, 40.0),
    row(1, 0.60, 10.0),
    row(2, 0.59, 11.0),  # beaten by 1
    row(3, 0.68, 20.0),
    row(4, 0.99, 1.0, Outcome.INFEASIBLE),
    row(5, 0.68, 20.0, Outcome.DUPLICATE),
]


def test_pareto_winners_are_the_front_fastest_first() -> None:
    assert [winner.number for winner in choose_winners(ROWS, ObjectiveSettings())] == [1, 3, 0]


@pytest.mark.parametrize(
    ("target_ms", "form", "best"),
    [
        (20.0, "hard", 3),  # 0.68 against 0.70 / 2 and 0.60
        (40.0, "hard", 0),  # all fast enough: accuracy decides
        (10.0, "soft", 3),  # 0.68 * 2**-0.07 = 0.648 against 0.600 and 0.70 * 4**-0.07 = 0.635
    ],
)
def test_the_winner_of_a_reward_has_the_highest(target_ms: float, form: str, best: int) -> None:
    objective = ObjectiveSettings(kind="mnasnet", target_ms=target_ms, form=form)
    assert [winner.number for winner in choose_winners(ROWS, objective)] == [best]


def test_without_trained_candidates_there_is_no_winner() -> None:
    for objective in (ObjectiveSettings(), ObjectiveSettings(kind="mnasnet", target_ms=1.0)):
        assert choose_winners(ROWS[4:], objective) == []


def test_a_reward_needs_a_target() -> None:
    with pytest.raises(NasError, match=r"objective\.target_ms: missing"):
        ObjectiveSettings().reward(0.5, 1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "paretto"}, r"objective\.kind 'paretto'.*pareto, mnasnet.*Did you mean 'pareto'"),
        ({"kind": "mnasnet"}, r"objective\.target_ms: missing; add objective\.target_ms=20"),
        ({"kind": "mnasnet", "target_ms": 0.0}, r"objective\.target_ms 0\.0: must be a number above 0"),
        ({"kind": "mnasnet", "target_ms": float("nan")}, r"objective\.target_ms nan"),
        ({"form": "sof"}, r"objective\.form 'sof'"),
        ({"kind": "mnasnet", "target_ms": 1.0, "alpha": 0.07}, r"objective\.alpha 0\.07: must not be positive"),
        ({"kind": "mnasnet", "target_ms": 1.0, "beta": 1.0}, r"objective\.beta 1\.0: must not be positive"),
    ],
)
def test_impossible_settings_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        ObjectiveSettings(**fields)
