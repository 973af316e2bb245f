"""Result of a search as a decision: which winner to take, and how certain that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final, Protocol

from nas.analysis.significance import (
    SIGNIFICANCE_LEVEL,
    ChanceLevel,
    accuracy_groups,
    at_chance_text,
    chance_level,
    compared_networks,
    images_to_separate,
    indistinguishable,
    times_the_images,
)
from nas.core.formatting import cpu_time, ms, percent, sentence_case
from nas.study.trial_record import TrialRecord, ranked_networks, score_of, trained_networks

_LONGER: Final = 3  # times the epochs, as in the command of the report's proxy validation
_TEST: Final = f"Tukey-Kramer, {SIGNIFICANCE_LEVEL:.0%}"


class LabelledWinner(Protocol):
    """Interface of a winner: its label and its trial record."""

    @property
    def label(self) -> str: ...
    @property
    def row(self) -> TrialRecord: ...


def search_decision(
    winners: Sequence[LabelledWinner], rows: Sequence[TrialRecord], reward: Mapping[int, float] | None = None
) -> str:
    """The decision in words.

    Empty without winners, or where their standard errors are unknown. ``rows``: all candidates. ``reward``: by trial
    number, for a search with a single reward.
    """
    if not winners or not _have_errors(winners):
        return ""
    chance, compared = chance_level(rows), compared_networks(rows)
    trained = trained_networks(rows)
    best = max(trained, key=lambda row: row.accuracy or 0.0, default=None)
    if chance and best and not chance.is_exceeded(best.accuracy or 0.0, len(trained), best.standard_error):
        return at_chance_text(chance, percent(best.accuracy, best.standard_error), score_of(rows))
    sentences = _reward(winners[0], rows, compared) if reward is not None else _front(winners, rows, compared)
    if any(winner.row.accuracy is None for winner in winners):
        sentences.insert(0, "Winners are chosen by estimate; finalists are not trained yet.")
    elif chance:
        sentences.append(_against_guessing(winners, chance, compared))
    return score_of(rows).named(" ".join(sentences))


def winner_groups(winners: Sequence[LabelledWinner], rows: Sequence[TrialRecord]) -> dict[str, str]:
    """Number of each winner's group of statistically indistinguishable ones, by label.

    Empty where standard errors are unknown.
    """
    if not _have_errors(winners):
        return {}
    by_number = {winner.row.number: winner.label for winner in winners}
    groups = accuracy_groups([winner.row for winner in winners], compared_networks(rows))
    return {by_number[row.number]: str(place) for place, group in enumerate(groups, start=1) for row in group}


def _have_errors(winners: Sequence[LabelledWinner]) -> bool:
    return all(winner.row.ranked_error is not None for winner in winners)


def _against_guessing(winners: Sequence[LabelledWinner], chance: ChanceLevel, compared: int) -> str:
    """Accuracy of always guessing the largest class, and winners not above it."""
    predictor = score_of(winner.row for winner in winners).constant
    images = "" if chance.images is None else f" ({chance.images:,} validation images)"
    text = f"{sentence_case(predictor)} gives {percent(chance.accuracy)}{images}"
    low = [
        winner.label
        for winner in winners
        if not chance.is_exceeded(winner.row.accuracy or 0.0, compared, winner.row.standard_error)
    ]
    return f"{text}, and {', '.join(low)} is not significantly better." if low else f"{text}."


def _front(winners: Sequence[LabelledWinner], rows: Sequence[TrialRecord], compared: int) -> list[str]:
    label_of = {winner.row.number: winner.label for winner in winners}
    groups = accuracy_groups([winner.row for winner in winners], compared)
    if len(winners) == 1:
        return [f"The only winner is {_described(winners[0].row, label_of)}."]
    if len(groups) == len(winners):
        parts = [_described(winner.row, label_of) for winner in winners]
        return [f"The {len(winners)} winners differ significantly in accuracy ({_TEST}): {'; '.join(parts)}."]
    if len(groups) > 1:
        parts = [_group_text(place, group, label_of) for place, group in enumerate(groups, start=1)]
        return [
            f"Of {len(winners)} winners those of one group are statistically indistinguishable in accuracy ({_TEST}): "
            f"{'; '.join(parts)}."
        ]
    fastest, best = groups[0][0], max(groups[0], key=lambda row: row.ranked_accuracy or 0.0)
    return [
        f"All {len(winners)} winners are statistically indistinguishable in accuracy ({_TEST}): take "
        f"{_described(fastest, label_of)}, the fastest of them.",
        *_separation(fastest, best, groups[0], compared, rows, label_of),
    ]


def _group_text(place: int, group: Sequence[TrialRecord], label_of: Mapping[int, str]) -> str:
    others = [label_of[row.number] for row in group[1:]]
    rest = f", before {', '.join(others)}" if others else ""
    return f"group {place}: {_described(group[0], label_of)}{rest}"


def _described(row: TrialRecord, label_of: Mapping[int, str]) -> str:
    return f"{label_of[row.number]} ({percent(row.ranked_accuracy, row.ranked_error)} at {ms(row.latency_ms)})"


def _separation(
    fastest: TrialRecord,
    best: TrialRecord,
    group: Sequence[TrialRecord],
    compared: int,
    rows: Sequence[TrialRecord],
    label_of: Mapping[int, str],
) -> list[str]:
    """What would separate the fastest winner from the most accurate one, and its cost."""
    if best.accuracy is None or fastest.accuracy is None:
        return []
    images = sum(best.class_images)
    factor = None if best.task == "classification" else times_the_images(fastest, best, compared)
    wanted = images_to_separate(fastest, best, compared) if factor is None else None
    if wanted is None and factor is None:
        return []
    difference = 100 * (best.accuracy - fastest.accuracy)
    names = f"{label_of[fastest.number]} from {label_of[best.number]}, {difference:.2f} points apart"
    now = f" instead of {images:,}" if images else ""
    times = [row.cpu_s for row in rows if row.cpu_s and row.accuracy is not None]
    training_s = fmean(times) if times else 0.0
    again_s, longer_s = len(group) * training_s, _LONGER * len(group) * training_s
    more = f"{wanted:,} validation images{now}" if factor is None else f"{factor:.1f} times the validation images"
    ways = [more + _cost(again_s, "the winners are trained again")]
    if factor is None and images and wanted:
        factor = wanted / images
    if factor is not None and factor > 1:
        seeds = math.ceil(factor)
        ways.append(f"the mean of {seeds:,} seeds of each winner" + _cost((seeds - 1) * again_s))
    ways.append(f"{_LONGER} times the epochs, if the accuracies then differ more" + _cost(longer_s))
    return [f"To separate {names} (with a power of 80%) takes about {', or '.join(ways)}."]


def _cost(cpu_s: float, remark: str = "") -> str:
    text = ": ".join(filter(None, (remark, f"about {cpu_time(cpu_s)}" if cpu_s else "")))
    return f" ({text})" if text else ""


def _reward(winner: LabelledWinner, rows: Sequence[TrialRecord], compared: int) -> list[str]:
    """The network of the highest reward, and faster ones that may be as accurate."""
    own = winner.row
    others = [row for row in ranked_networks(rows) if row.number != own.number]
    peers = [row for row in others if indistinguishable(own, row, compared)]
    faster = sorted((row for row in peers if (row.latency_ms or 0.0) < (own.latency_ms or 0.0)), key=_latency)
    text = f"The highest reward has {_described(own, {own.number: winner.label})}."
    if not peers:
        return [text]
    more = f"; the fastest of them is trial {faster[0].number} with {ms(faster[0].latency_ms)}" if faster else ""
    return [
        f"{text} {len(peers)} of the other {compared - 1} trained networks are statistically indistinguishable from it "
        f"in accuracy ({_TEST}){more}."
    ]


def _latency(row: TrialRecord) -> float:
    return row.latency_ms or 0.0
