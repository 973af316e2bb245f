"""Tests of the comparison of a winner with a baseline: McNemar's test, and what counts as faster."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nas.analysis.baseline_comparison import BaselineComparison, Relation, mcnemar_p_value
from nas.study.trial_record import BaselineRecord, Outcome, PairedCounts, TrialRecord

IMAGES = 1000


def row(accuracy: float, latency_ms: float, *, number: int = 0, **fields: Any) -> TrialRecord:
    outcome = Outcome.TRAINED if number >= 0 else Outcome.BASELINE
    error = math.sqrt(accuracy * (1 - accuracy) / IMAGES)
    return TrialRecord(
        number=number, outcome=outcome, arch_id=f"n{number}", accuracy=accuracy, standard_error=error,
        latency_ms=latency_ms, **fields,
    )  # fmt: skip


def baseline(accuracy: float, latency_ms: float, paired: PairedCounts | None = None, **fields: Any) -> BaselineRecord:
    return BaselineRecord(
        published="timm/net",
        row=row(accuracy, latency_ms, number=-1, **fields),
        epochs=4,
        resolution_px=32,
        last_map_px=2,
        paired={} if paired is None else {"n0": paired},
    )


def test_mcnemar_is_the_exact_binomial_test_of_the_images_that_differ() -> None:
    assert mcnemar_p_value(PairedCounts(0, 0)) == mcnemar_p_value(PairedCounts(7, 7)) == 1.0
    # 9 of 10: (C(10, 9) + C(10, 10)) / 2^10, on both sides.
    assert mcnemar_p_value(PairedCounts(9, 1)) == mcnemar_p_value(PairedCounts(1, 9)) == pytest.approx(2 * 11 / 1024)


@pytest.mark.parametrize(
    ("winner_ms", "baseline_accuracy", "relation"),
    [
        (5.0, 0.70, Relation.BETTER),
        (5.0, 0.80, Relation.BETTER),  # as accurate, and faster
        (5.0, 0.90, Relation.TRADE),
        (15.0, 0.70, Relation.TRADE),
        (15.0, 0.80, Relation.WORSE),
        (15.0, 0.90, Relation.WORSE),
        (10.0, 0.70, Relation.BETTER),
        (10.0, 0.80, Relation.EQUAL),
        (10.0, 0.90, Relation.WORSE),
    ],
)
def test_relations_are_by_both_accuracy_and_latency(
    winner_ms: float, baseline_accuracy: float, relation: Relation
) -> None:
    found = BaselineComparison.of(row(0.8, winner_ms), baseline(baseline_accuracy, 10.0), 20)
    assert found.relation is relation and not found.is_measured


def test_images_in_pairs_separate_what_two_independent_samples_do_not() -> None:
    """Three points apart, of 20 networks: 2.4 standard errors of a difference of independent accuracies, or 40 : 10."""
    winner = row(0.83, 10.0)
    assert BaselineComparison.of(winner, baseline(0.80, 10.0), 20).accuracy == 0
    assert BaselineComparison.of(winner, baseline(0.80, 10.0, PairedCounts(40, 10)), 20).accuracy == 1
    assert BaselineComparison.of(winner, baseline(0.80, 10.0, PairedCounts(130, 100)), 20).accuracy == 0
    # 40 : 10 has p = 2.4e-5: after Bonferroni's correction for 2,100 networks it is not below 5%.
    assert BaselineComparison.of(winner, baseline(0.80, 10.0, PairedCounts(40, 10)), 2100).accuracy == 0


def test_latencies_compare_as_measured_with_their_errors_else_as_predicted_with_their_intervals() -> None:
    interval = {"latency_low_ms": 8.0, "latency_high_ms": 12.0}  # a standard deviation of 1.2 ms
    near, far = row(0.8, 9.0, **interval), row(0.8, 3.0, latency_low_ms=2.4, latency_high_ms=3.6)
    assert BaselineComparison.of(near, baseline(0.8, 10.0, **interval), 20).speed == 0
    assert BaselineComparison.of(far, baseline(0.8, 10.0, **interval), 20).speed == 1
    measured = row(0.8, 9.0, measured_ms=9.0, measured_error_ms=0.05, **interval)
    one = baseline(0.8, 10.0, measured_ms=9.3, measured_error_ms=0.05, **interval)
    found = BaselineComparison.of(measured, one, 20)
    assert (found.speed, found.winner_ms, found.baseline_ms, found.is_measured) == (1, 9.0, 9.3, True)
    unsure = baseline(0.8, 10.0, measured_ms=9.1, measured_error_ms=0.05, **interval)
    assert BaselineComparison.of(measured, unsure, 20).speed == 0  # 0.1 ms, with a standard error of 0.07


def test_accuracies_without_errors_are_not_separated() -> None:
    unknown = TrialRecord(number=0, outcome=Outcome.TRAINED, accuracy=0.9, latency_ms=10.0)
    assert BaselineComparison.of(unknown, baseline(0.5, 10.0), 20).relation is Relation.EQUAL
