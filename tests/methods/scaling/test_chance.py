"""Tests of rankings at chance level, and of grids all within the noise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.analysis.significance import ChanceLevel
from nas.core.statistics import binomial_error
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.ranking.ranking import AT_CHANCE, BEST, PEER, Ranking, rank_networks
from nas.methods.scaling.ranking.separation import separation_sentences
from nas.study.trial_record import Outcome, TrialRecord
from tests.methods.scaling.fakes import GRID, entries_of, make_plan

TENTH = ChanceLevel(accuracy=0.1, images=400)


@pytest.fixture(scope="module")
def entries() -> Design:
    return entries_of(make_plan(grid=replace(GRID, alpha=(1.0, 1.4, 2.0), beta=(1.0, 1.4))))


def ranking(entries: Design, *seeds: float, chance: ChanceLevel | None = TENTH) -> Ranking:
    """Every network with the same accuracies by seed, the later ones a little better."""
    labels = [entry.label for entry in entries.trained]
    values = {label: tuple(seed + 0.001 * place for seed in seeds) for place, label in enumerate(labels)}
    return rank_networks(entries, values, {}, chance)


def test_a_grid_at_chance_level_names_no_best(entries: Design) -> None:
    found = ranking(entries, 0.10, 0.11)
    assert found.best is None and found.peers == () and found.ranked
    assert {one.verdict for one in found.ranked} == {AT_CHANCE} and {one.p_value for one in found.ranked} == {None}
    (text,) = found.sentences()
    assert "No network is significantly better than always guessing the largest class (10.00% of 400" in text
    assert "There is no best network." in text


def test_above_chance_it_does_and_says_what_guessing_gives(entries: Design) -> None:
    found = ranking(entries, 0.90, 0.92)
    assert found.best is not None and found.best.verdict == BEST
    assert "Always guessing the largest class gives 10.00%." in found.sentences()
    assert ranking(entries, 0.10, 0.11, chance=None).best is not None  # an older study: unknown


def test_one_seed_has_the_binomial_error(entries: Design) -> None:
    found = ranking(entries, 0.90)
    assert found.best is not None and found.best.mean is not None
    assert found.best.error == pytest.approx(binomial_error(found.best.mean, 400))
    assert any("race.seeds=3" in sentence for sentence in found.sentences())


def test_a_grid_within_the_noise_says_what_would_separate_it(entries: Design) -> None:
    found = ranking(entries, 0.90, 0.92)
    assert {one.verdict for one in found.ranked[1:]} == {PEER}
    rows = [TrialRecord(number=0, outcome=Outcome.TRAINED, cpu_s=36.0)]
    (text,) = separation_sentences(found, rows)
    assert text.startswith("All networks are statistically indistinguishable: take the one of the lowest cost.")
    seeds = int(text.partition("takes about ")[2].partition(" seeds")[0].replace(",", ""))
    low, high = found.ranked[-1].mean or 0.0, found.ranked[0].mean or 0.0
    assert abs(high - low) / (0.02**2 / 2 / seeds) ** 0.5 > 3.6  # more than q(0.05; 4, inf) of its standard errors
    assert f"about {(seeds - 2) * len(found.ranked) * 36 / 3600:.1f} CPU-h more of training" in text
    apart = {entry.label: (0.5 + 0.1 * place, 0.501 + 0.1 * place) for place, entry in enumerate(entries.trained)}
    assert separation_sentences(rank_networks(entries, apart, {}, TENTH), rows) == []
