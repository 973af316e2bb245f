"""Summary of a search: one paragraph, untrained candidates, table rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from nas.core.formatting import decimal, ms, percent, plural
from nas.study.trial_record import FINAL_ROLES, Outcome, TrialRecord, count_outcomes, pareto_front, score_of

MAX_ROWS: Final = 1000
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_NAMED_TRIALS: Final = 12
_UNTRAINED: Final = (Outcome.FAILED, Outcome.INFEASIBLE, Outcome.STOPPED, Outcome.DUPLICATE)  # failures come first
_PRIORITY: Final = (
    Outcome.TRAINED,
    Outcome.SCORED,
    Outcome.RUNNING,
    Outcome.FAILED,
    Outcome.STOPPED,
)  # in a shortened table


class Loss(NamedTuple):
    """Untrained candidates whose reasons differ in numbers alone.

    ``reason`` is that of the first one.
    """

    outcome: Outcome
    reason: str
    candidates: int
    trials: str


def search_summary(rows: Sequence[TrialRecord], reward: Mapping[int, float] | None = None) -> str:
    """Summarize the search in one paragraph.

    ``reward``: by trial number, for a search with a single reward.
    """
    count, name = count_outcomes(rows), score_of(rows).name
    trained = [row for row in rows if row.outcome is Outcome.TRAINED and row.accuracy is not None]
    final = sum(row.role in FINAL_ROLES for row in rows)
    text = f"{plural(len(rows) - final, 'candidate')} tried: {count[Outcome.TRAINED]:,} trained, "
    text += (
        f"{count[Outcome.SCORED]:,} scored ({final:,} of them trained after the search), "
        if count[Outcome.SCORED]
        else ""
    )
    text += f"{count[Outcome.STOPPED]:,} stopped early, " if count[Outcome.STOPPED] else ""
    text += (
        f"{count[Outcome.INFEASIBLE]:,} infeasible and not trained, {plural(count[Outcome.DUPLICATE], 'duplicate')}, "
    )
    text += f"{count[Outcome.FAILED]:,} failed"
    text += f", {count[Outcome.RUNNING]:,} still running when this was written." if count[Outcome.RUNNING] else "."
    if not trained:
        return f"{text} No candidate was trained, so there is no {name} to show yet."
    best = max(trained, key=lambda row: (row.accuracy or 0.0, -row.number))
    text += f" Best {name}: {_accuracy(best)} at {ms(best.latency_ms)} (trial {best.number})."
    timed = [row for row in trained if row.latency_ms is not None]
    if timed:
        fastest = min(timed, key=lambda row: (row.latency_ms or 0.0, row.number))
        text += f" Fastest trained: {ms(fastest.latency_ms)} with {_accuracy(fastest)} (trial {fastest.number})."
        text += f" {plural(len(pareto_front(rows)), 'network')} on the Pareto front."
    if reward:
        number = max(reward, key=lambda trial: reward[trial])
        text += f" Highest reward: {reward[number]:.4f} (trial {number})."
    return text


def fine_tuning_text(row: TrialRecord) -> str:
    """Accuracies of a winner's proxy from scratch, inherited, and fine-tuned.

    Empty where it was not fine-tuned.
    """
    tuned = row.fine_tuning
    if tuned is None:
        return ""
    return (
        f"from scratch {percent(row.accuracy, row.standard_error)}, "
        f"inherited {percent(tuned.inherited_accuracy, tuned.inherited_error)}, "
        f"fine-tuned {percent(tuned.accuracy, tuned.standard_error)} "
        f"({plural(tuned.epochs, 'epoch')}; loss {decimal(tuned.inherited_loss, 3)} before, "
        f"{decimal(tuned.val_loss, 3)} after)"
    )


def _accuracy(row: TrialRecord) -> str:
    return percent(row.accuracy, row.standard_error)


def losses(rows: Iterable[TrialRecord]) -> list[Loss]:
    """Untrained candidates grouped by reason.

    Failures first, then by frequency.
    """
    groups: dict[tuple[Outcome, str], list[TrialRecord]] = {}
    for row in rows:
        if row.outcome in _UNTRAINED:
            groups.setdefault((row.outcome, _NUMBER.sub("#", row.reason)), []).append(row)
    result = []
    for (outcome, _), members in groups.items():
        names = ", ".join(str(row.number) for row in members[:_NAMED_TRIALS])
        more = f" and {len(members) - _NAMED_TRIALS:,} more" if len(members) > _NAMED_TRIALS else ""
        result.append(Loss(outcome, members[0].reason or "no reason recorded", len(members), names + more))
    return sorted(result, key=lambda loss: (_UNTRAINED.index(loss.outcome), -loss.candidates))


def table_rows(rows: Sequence[TrialRecord], required: Collection[int]) -> tuple[list[TrialRecord], str]:
    """At most ``MAX_ROWS`` of ``rows`` in order, and a note on the omitted ones.

    Rows numbered in ``required`` are always included.
    """
    if len(rows) <= MAX_ROWS:
        return list(rows), ""
    priorities = {outcome: priority for priority, outcome in enumerate(_PRIORITY)}
    wanted = sorted(
        rows,
        key=lambda row: (
            row.number not in required,
            priorities.get(row.outcome, len(priorities)),
            -(row.ranked_accuracy or 0.0),
        ),
    )[:MAX_ROWS]
    note = (
        f"{MAX_ROWS:,} of {len(rows):,} candidates: winners, front and published networks, the other trained ones by "
        "accuracy, then failed and stopped ones. trials.csv contains all of them."
    )
    return sorted(wanted, key=lambda row: row.number), note
