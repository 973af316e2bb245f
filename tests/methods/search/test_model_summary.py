"""Tests of the report's model of accuracy: fitted to made-up searches, shown, and left out."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace
from html import unescape
from itertools import product

import pytest

from nas.analysis.surrogate import ModelSummary
from nas.methods.search.guided.model_summary import summarize_model
from nas.reporting.search_report import SearchReport, render_search_report
from nas.study.objective import ObjectiveSettings
from nas.study.trial_record import Outcome, TrialRecord
from tests.study.fakes import PARETO, pricer, small_space

SPACE = small_space()
CHOICES = tuple(SPACE.parameters.values())
PRICER = pricer(SPACE)


def rows(count: int, seed: int = 0) -> list[TrialRecord]:
    """Trained networks: accuracy grows with MACs, and with the kernel of the second stage's first block."""
    rng, found = random.Random(seed), {}
    while len(found) < count:
        genotype = SPACE.sample(rng)
        one = PRICER.price(genotype)
        quality = math.log(one.cost.macs) + 0.5 * (genotype["s1.b0.kernel"] == 5) + rng.gauss(0, 0.05)
        found[one.arch.arch_id] = TrialRecord(
            number=len(found),
            outcome=Outcome.TRAINED,
            arch_id=one.arch.arch_id,
            accuracy=1 / (1 + math.exp(14 - quality)),
            latency_ms=one.latency.latency_ms,
            macs_m=one.cost.macs / 1e6,
            genotype=genotype,
        )
    return list(found.values())


@pytest.fixture(scope="module")
def trained() -> list[TrialRecord]:
    return rows(30)


@pytest.fixture(scope="module")
def summary(trained: list[TrialRecord]) -> ModelSummary:
    return summarize_model(trained, PRICER, PARETO, seed=0)


def page(rows: list[TrialRecord], model: ModelSummary) -> str:
    """Source of the report, with its white space shortened."""
    data = SearchReport(title="Test", command="nas-search", facts=(), rows=tuple(rows), model=model)
    return " ".join(unescape(render_search_report(data)).split())


def test_what_matters_is_found(summary: ModelSummary, trained: list[TrialRecord]) -> None:
    assert summary.is_ordered and summary.networks == 30
    kernel = next(one for one in summary.effects if one.choice == "s1.b0.kernel")
    assert kernel.is_shown and (kernel.best, kernel.worst) == ("5", "3")
    width = next(one for one in summary.effects if one.choice == "width")
    assert width.is_shown and (width.best, width.worst) == ("1.0", "0.5") and width.latency_ms > 0
    assert "width: 1.0 instead of 0.5 adds" in summary.effects_text


def test_the_front_is_of_untried_feasible_networks(trained: list[TrialRecord]) -> None:
    limit_ms = sorted(row.latency_ms or 0.0 for row in trained)[15]
    feasible = [row for row in trained if (row.latency_ms or 0.0) <= limit_ms]
    found = summarize_model(feasible, pricer(SPACE, latency_ms=limit_ms), PARETO, seed=0)
    times = [point.latency_ms for point in found.front]
    assert found.candidates > 0 and times == sorted(times) and times[-1] <= limit_ms
    for first, second in zip(found.front, found.front[1:], strict=False):
        assert first.accuracy <= second.accuracy
    assert all(point.low <= point.accuracy <= point.high for point in found.front)


def test_the_same_trials_give_the_same_summary(summary: ModelSummary, trained: list[TrialRecord]) -> None:
    again = summarize_model(trained, PRICER, PARETO, seed=0)
    assert (again.effects, again.front, again.gain) == (summary.effects, summary.front, summary.gain)


def test_gains_are_said_in_the_unit_of_the_objective(summary: ModelSummary, trained: list[TrialRecord]) -> None:
    assert summary.gain is not None and summary.gain.low <= summary.gain.best <= summary.gain.high
    expected = r"More trials .* help: the best of .* is expected to add \d+\.\d\d% to the hypervolume"
    assert re.match(expected, summary.gain_text)
    rewarded = summarize_model(trained, PRICER, ObjectiveSettings(kind="mnasnet", target_ms=1.0), seed=0)
    assert "points to the highest reward" in rewarded.gain_text
    gain = replace(summary.gain, best=0.0001, low=0.0, high=0.0004, next=0.0002)
    assert replace(summary, gain=gain).gain_text == (
        f"More trials are hardly expected to help: the best of {summary.candidates:,} networks that were looked at and "
        "not trained is expected to add 0.01% to the hypervolume (90% interval 0.00 to 0.04)."
    )


def test_a_space_that_is_tried_has_nothing_to_gain() -> None:
    ids = {PRICER.decode(dict(zip(SPACE.parameters, one, strict=True))).arch_id for one in product(*CHOICES)}
    everything = rows(len(ids))
    found = summarize_model(everything, PRICER, PARETO, seed=0)
    assert found.candidates == 0 and found.front == ()
    assert found.gain_text == "No network that was looked at, and meets the limits, is left to be trained."


def test_measured_latencies_are_not_held_against_predictions(trained: list[TrialRecord]) -> None:
    found = summarize_model(trained, PRICER, PARETO, seed=0, has_prices=False)
    assert found.effects and found.front == () and found.gain is None and found.gain_text == ""


def test_the_report_shows_the_section(summary: ModelSummary, trained: list[TrialRecord]) -> None:
    text = page(trained, summary)
    assert str(summary.validation) in text
    assert summary.gain_text in text and summary.effects_text in text
    assert "fitted to the 30 trained networks when" in text
    assert text.count("<td>not shown to matter") == sum(not one.is_shown for one in summary.shown_effects)
    assert "expected of untried networks" in text and "Found over predicted accuracy of 30 networks" in text


def test_few_equal_or_unpredictable_networks_are_said_to_be(trained: list[TrialRecord]) -> None:
    few = summarize_model(trained[:11], PRICER, PARETO, seed=0)
    assert few.verdict == "Not available with fewer than 12 trained networks, and there are 11."
    equal = summarize_model([replace(row, accuracy=0.5) for row in trained], PRICER, PARETO, seed=0)
    assert equal.verdict == "Not available with trained networks of equal accuracy."
    rng = random.Random(1)
    random_ones = [replace(row, accuracy=rng.random()) for row in trained]
    blind = summarize_model(random_ones, PRICER, PARETO, seed=0)
    assert blind.verdict.startswith("The model is not shown to order networks")
    assert blind.verdict.endswith("So it says nothing of the choices, nor of further trials.")
    text = page([], few)
    assert few.verdict in text and "Effects of choices" not in text and "Expected gain" not in text
    for one in (few, equal, blind):
        assert (one.effects_text, one.gain_text, one.front) == ("", "", ())


def test_networks_that_were_only_scored_teach_it_nothing(summary: ModelSummary, trained: list[TrialRecord]) -> None:
    scored = [
        TrialRecord(
            number=100 + place,
            outcome=Outcome.SCORED,
            arch_id=f"scored {place}",
            estimated_accuracy=0.9,
            latency_ms=1.0,
            genotype=trained[0].genotype,
        )
        for place in range(20)
    ]
    assert summarize_model([*trained, *scored], PRICER, PARETO, seed=0).effects == summary.effects
