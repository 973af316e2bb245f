"""Tests of what a network's accuracy and validation loss are estimated from: seeds, and the last epochs."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from statistics import fmean, stdev

import pytest

from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.ranking.columns import ranking_to_csv
from nas.methods.scaling.ranking.conclusion import RaceEnd
from nas.methods.scaling.ranking.race_rule import RaceRule
from nas.methods.scaling.ranking.ranking import rank_networks
from nas.methods.scaling.report_data import best_network_facts, grid_conclusion, study_ranking
from nas.methods.scaling.settings import RaceSettings
from nas.methods.scaling.terminal import best_columns
from nas.methods.scaling.trial_attributes import accuracies_of, plan_round, race_rule
from nas.study.trial_attributes import trial_records
from tests.methods.scaling.fakes import GRID, FakeTrainer, entries_of, make_plan, make_race, new_study

PLAN = make_plan(
    grid=replace(GRID, alpha=(1.0, 1.4, 2.0), beta=(1.0, 1.4)),
    race=RaceSettings(seeds=2, stop_share=0.0, last_epochs=2),
)


@pytest.fixture(scope="module")
def entries() -> Design:
    return entries_of(PLAN)


def accuracy(label: str, repeat: int) -> float:
    """Accuracy after the second epoch; after the first it is half of that, and the loss one minus the accuracy."""
    return 0.5 + 0.01 * len(label) + 0.02 * repeat


@pytest.mark.parametrize(("epochs", "averaged"), [(1, 1), (2, 1), (5, 1), (6, 2), (8, 2), (9, 3), (30, 10)])
def test_a_third_of_the_epochs_is_averaged_unless_told_otherwise(epochs: int, averaged: int) -> None:
    assert RaceSettings().averaged_epochs(epochs) == averaged
    assert RaceSettings(last_epochs=4).averaged_epochs(epochs) == 4


def test_an_estimate_is_the_mean_over_seeds_of_the_mean_over_the_last_epochs(entries: Design) -> None:
    race = make_race(PLAN, entries, FakeTrainer(entries, accuracy))
    race.run()
    assert race_rule(race.study) == RaceRule(last_epochs=2, planned_seeds=2)
    found = study_ranking(entries, race.study)
    seeds = {label: len(values) for label, values in accuracies_of(race.study).items()}
    assert 2 in seeds.values()
    for one in found.all_networks:
        label, count = one.entry.label, seeds[one.entry.label]
        last = [accuracy(label, repeat) for repeat in range(count)]
        assert one.accuracies == pytest.approx([(value / 2 + value) / 2 for value in last])
        assert one.val_losses == pytest.approx([1 - 0.75 * value for value in last])
        # Each network trained twice has the same two deviations from its mean: 0.75 * 0.02 apart.
        expected = stdev([0.0, 0.75 * 0.02]) / math.sqrt(count)
        assert one.error == pytest.approx(expected) and one.loss_error == pytest.approx(expected)
    for row in trial_records(race.study):  # a training itself is listed with its last epoch
        assert row.accuracy in [accuracy(label, repeat) for label in seeds for repeat in (0, 1)]
    rows = list(csv.DictReader(io.StringIO(ranking_to_csv(found.all_networks))))
    for row, one in zip(rows, found.all_networks, strict=True):
        assert float(row["accuracy"]) == pytest.approx(one.mean)
        assert float(row["val_loss"]) == pytest.approx(fmean(one.val_losses))
        assert float(row["val_loss_error"]) == pytest.approx(one.loss_error)
    assert "and its validation loss by 0.011 nats between seeds" in " ".join(found.sentences())


def test_by_validation_loss_those_of_the_lowest_are_trained_again(entries: Design) -> None:
    """Losses rise with accuracies here, by fourteen of their standard deviations between seeds at each step."""
    plan = replace(PLAN, race=replace(PLAN.race, criterion="val_loss", finalists=2))
    place = {label: number for number, label in enumerate(entries.by_label)}

    def rising(label: str, repeat: int) -> float:
        return 0.5 + 0.1 * place[label] + 0.01 * repeat

    trainer = FakeTrainer(entries, lambda label, repeat: 0.5 + 0.01 * place[label], val_loss=rising)
    race = make_race(plan, entries, trainer)
    race.run()
    assert len(place) > 3 and [label for label, repeat in trainer.trained if repeat] == list(place)[:3]
    found, conclusion = study_ranking(entries, race.study), grid_conclusion(race.study, plan.race)
    (facts,) = best_network_facts(race.study)
    assert found.best is not None and found.best.entry.label == facts["name"] == list(place)[1]
    assert [one.entry.label for one in found.ranked[:2]] == list(place)[1:3] and not found.peers
    text = "Networks are compared by validation loss (race.criterion), of which it has 0.605 ± 0.005 nats."
    assert text in found.sentences()
    assert (conclusion.end, conclusion.rule.criterion) == (RaceEnd.SEPARATED, "val_loss")


def test_a_study_of_version_0_1_goes_on_with_the_last_epoch_and_its_tests(entries: Design) -> None:
    """It has rounds and no rule; its trainings have no validation losses."""
    study = new_study(PLAN)
    plan_round(study, (), [(label, 0) for label in entries.by_label])
    make_race(PLAN, entries, FakeTrainer(entries, accuracy), study).run()
    assert race_rule(study) == RaceRule() and study_ranking(entries, study).tests.level == 0.05
    assert accuracies_of(study) == {
        label: tuple(accuracy(label, repeat) for repeat in range(len(values)))
        for label, values in accuracies_of(study).items()
    }
    without = rank_networks(entries, accuracies_of(study), {})
    assert not without.has_losses and "val loss" not in [column.heading for column in best_columns(PLAN, without)]
    assert "val loss" in [column.heading for column in best_columns(PLAN, study_ranking(entries, study))]
