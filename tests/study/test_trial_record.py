"""The front against a brute-force definition of dominance, and the count of outcomes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nas.study.trial_record import Outcome, TrialRecord, count_outcomes, pareto_front

# Few distinct values, so that ties in one or both objectives are common.
VALUES = st.one_of(st.none(), st.integers(0, 6))


@st.composite
def row_lists(draw: st.DrawFn) -> list[TrialRecord]:
    cells = draw(st.lists(st.tuples(st.sampled_from(Outcome), VALUES, VALUES), max_size=25))
    return [
        TrialRecord(
            number=number,
            outcome=outcome,
            accuracy=None if accuracy is None else accuracy / 6,
            latency_ms=None if latency is None else 1.0 + latency,
        )
        for number, (outcome, accuracy, latency) in enumerate(cells)
    ]


def dominates(one: TrialRecord, other: TrialRecord) -> bool:
    no_worse = one.accuracy >= other.accuracy and one.latency_ms <= other.latency_ms
    return no_worse and (one.accuracy > other.accuracy or one.latency_ms < other.latency_ms)


@given(row_lists())
def test_pareto_front_is_what_nothing_dominates(rows: list[TrialRecord]) -> None:
    known = [
        row
        for row in rows
        if row.outcome is Outcome.TRAINED and row.accuracy is not None and row.latency_ms is not None
    ]
    undominated = [row for row in known if not any(dominates(other, row) for other in known)]
    earliest: dict[tuple[float, float], TrialRecord] = {}
    for row in undominated:
        earliest.setdefault((row.latency_ms, row.accuracy), row)
    assert pareto_front(rows) == [earliest[key] for key in sorted(earliest)]


@given(row_lists(), st.randoms())
def test_pareto_front_does_not_depend_on_the_order_of_rows(rows: list[TrialRecord], random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert pareto_front(shuffled) == pareto_front(rows)


def test_a_network_without_any_accuracy_can_still_be_on_the_front() -> None:
    row = TrialRecord(number=0, outcome=Outcome.TRAINED, accuracy=0.0, latency_ms=3.0)
    assert pareto_front([row]) == [row]


def test_counts_name_every_outcome_of_a_candidate() -> None:
    rows = [TrialRecord(number=0, outcome=Outcome.TRAINED), TrialRecord(number=1, outcome=Outcome.TRAINED)]
    expected = dict.fromkeys(set(Outcome) - {Outcome.BASELINE}, 0) | {Outcome.TRAINED: 2}
    assert count_outcomes(rows) == expected
