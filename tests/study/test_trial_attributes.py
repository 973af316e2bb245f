"""Tests of what is recorded of a training: accuracy with its error, and by class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nas.arch.spec import ArchSpec
from nas.estimators.base import Evaluation
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import Outcome
from nas.training.results import EpochResult
from tests.study.fakes import FakeEvaluator, make_search, small_space


class CountingEvaluator(FakeEvaluator):
    """Scores every network alike on 40 images of three classes, of which the last has none."""

    def evaluate(
        self, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        found = super().evaluate(arch, repeat=repeat, on_epoch=on_epoch)
        return replace(found, accuracy=0.75, class_correct=(24, 6, 0), class_images=(30, 10, 0))


def test_a_training_is_recorded_with_its_error_and_by_class() -> None:
    search = make_search(small_space(), CountingEvaluator(), n_trials=40)
    search.run()
    rows = trial_records(search.study)
    assert {row.outcome for row in rows} == {Outcome.TRAINED, Outcome.DUPLICATE}
    for row in rows:
        assert row.standard_error == pytest.approx((0.75 * 0.25 / 40) ** 0.5, abs=1e-6)
        assert row.majority_accuracy == 0.75
        known = row.outcome is Outcome.TRAINED
        assert row.class_accuracies == ((0.8, 0.6, None) if known else ())


def test_older_trials_have_the_error_of_the_number_of_images() -> None:
    search = make_search(small_space(), FakeEvaluator(), n_trials=2)
    search.run()
    (first, _), (without, _) = trial_records(search.study, 400), trial_records(search.study)
    assert first.accuracy is not None and without.standard_error is None
    assert first.standard_error == pytest.approx((first.accuracy * (1 - first.accuracy) / 400) ** 0.5, abs=1e-6)
    assert first.majority_accuracy is None and first.class_accuracies == ()
