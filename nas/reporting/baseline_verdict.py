"""Whether a search was worth it, in words: its winners against a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from nas.analysis.baseline_comparison import BaselineComparison, Relation
from nas.analysis.significance import ChanceLevel, chance_level, compared_networks
from nas.core.formatting import ms, percent, plural
from nas.reporting.search_decision import LabelledWinner
from nas.study.trial_record import BaselineRecord, TrialRecord

BASELINE_NOTE: Final = (
    "Baselines (B1, ...) are whole networks that began with pretrained weights and were fine-tuned on the images, at "
    "the side and for the epochs of the proxies; the accuracies of winners are those of reduced proxies with random "
    "first weights. The comparison says what the same budget gives at once, not what a winner reaches as a whole "
    "network that is trained in full."
)
_LEAST_MAP_PX: Final = 2

_Compared = Mapping[str, tuple[LabelledWinner, BaselineComparison]]


def baseline_verdicts(
    baselines: Sequence[BaselineRecord], winners: Sequence[LabelledWinner], rows: Sequence[TrialRecord]
) -> tuple[str, ...]:
    """One paragraph per baseline on how the winners compare with it.

    ``rows``: all candidates, from which the winners were selected. Empty without winners.
    """
    if not winners:
        return ()
    compared = compared_networks(rows) + len(baselines)
    return tuple(_verdict(baseline, winners, compared) for baseline in baselines)


def _verdict(baseline: BaselineRecord, winners: Sequence[LabelledWinner], compared: int) -> str:
    if (chance := chance_level([baseline.row])) and _are_at_chance(chance, baseline, winners, compared):
        return (
            f"Neither {_named(baseline)} nor a winner is significantly better than always guessing the largest class "
            f"({percent(chance.accuracy)}): nothing is shown.{_map_remark(baseline)}"
        )
    found = {one.label: (one, BaselineComparison.of(one.row, baseline, compared)) for one in winners}
    relations = {comparison.relation for _, comparison in found.values()}
    if relations == {Relation.WORSE}:
        text = _not_worth_it(baseline, found)
    else:
        clauses = "; ".join(_clauses(baseline, found))
        text = f"{_named(baseline)}, {_figures(baseline.row, _baseline_ms(found))}: {clauses}{_conclusion(relations)}"
    return f"{text}{_map_remark(baseline)}"


def _are_at_chance(
    chance: ChanceLevel, baseline: BaselineRecord, winners: Sequence[LabelledWinner], compared: int
) -> bool:
    """Whether neither the baseline nor a winner exceeds the accuracy of guessing."""
    accuracies = [baseline.row.accuracy, *(one.row.ranked_accuracy for one in winners)]
    return not any(chance.is_exceeded(accuracy or 0.0, compared) for accuracy in accuracies)


def _named(baseline: BaselineRecord) -> str:
    return f"{baseline.label} ({baseline.published}, fine-tuned for {plural(baseline.epochs, 'epoch')})"


def _not_worth_it(baseline: BaselineRecord, found: _Compared) -> str:
    """What is said where no winner is better in anything."""
    best, comparison = max(found.values(), key=lambda pair: pair[0].row.ranked_accuracy or 0.0)
    which = f" ({best.label}, the most accurate)" if len(found) > 1 else ""
    figures = (
        f"{_figures(baseline.row, comparison.baseline_ms)} against {_figures(best.row, comparison.winner_ms)}{which}"
    )
    if all(comparison.accuracy < 0 for _, comparison in found.values()):
        every = "every winner" if len(found) > 1 else best.label
        text = f"{_named(baseline)} is more accurate than {every} at no higher latency"
    else:
        text = f"No winner is shown to be more accurate than {_named(baseline)}, whose latency is not higher"
    return f"{text}: {figures}: the search was not worth it so far."


def _clauses(baseline: BaselineRecord, found: _Compared) -> list[str]:
    """What the winners of each relation are, the better ones first."""
    label, clauses = baseline.label, []
    better = {name: pair for name, pair in found.items() if pair[1].relation is Relation.BETTER}
    if better:
        clauses.append(_better(label, better))
    others = (
        (Relation.TRADE, 1, f"faster and less accurate than {label}"),
        (Relation.TRADE, -1, f"more accurate and slower than {label}"),
        (Relation.EQUAL, 0, f"not separated from {label} by the noise, in accuracy or latency"),
        (Relation.WORSE, None, f"not shown to be better than {label} in anything, and worse in accuracy or latency"),
    )
    for relation, speed, text in others:
        group = [pair for pair in found.values() if pair[1].relation is relation and speed in (None, pair[1].speed)]
        if group:
            best, comparison = max(group, key=lambda pair: pair[0].row.ranked_accuracy or 0.0)
            figures = f"{'at most ' if len(group) > 1 else ''}{_figures(best.row, comparison.winner_ms)}"
            clauses.append(f"{_joined([one.label for one, _ in group])} {text} ({figures})")
    return clauses


def _better(label: str, better: _Compared) -> str:
    """The most accurate of the better winners with its figures, and the others."""
    best, comparison = max(better.values(), key=lambda pair: (pair[1].accuracy, pair[0].row.ranked_accuracy or 0.0))
    figures = _figures(best.row, comparison.winner_ms)
    latency = "at lower latency" if comparison.speed > 0 else "at no higher latency"
    if comparison.accuracy > 0:
        text = f"{best.label} ({figures}) is more accurate than {label} {latency}"
    else:
        text = f"{best.label} ({figures}) is faster than {label}, and the noise does not separate their accuracies"
    rest = [name for name in better if name != best.label]
    return f"{text}; {_joined(rest)} better than {label}, too" if rest else text


def _conclusion(relations: set[Relation]) -> str:
    if Relation.BETTER in relations:
        return ". Against this baseline the search was worth it so far."
    if Relation.TRADE in relations:
        return ". No winner is better in one without being worse in the other."
    return ". The search is not shown to be worth it so far."


def _map_remark(baseline: BaselineRecord) -> str:
    if baseline.last_map_px >= _LEAST_MAP_PX:
        return ""
    return (
        f" At {baseline.resolution_px} px the last map of {baseline.label} is {baseline.last_map_px} px wide, for "
        "which it was not made: larger images (proxy.resolution_px) compare more fairly."
    )


def _baseline_ms(found: _Compared) -> float:
    return next(iter(found.values()))[1].baseline_ms


def _figures(row: TrialRecord, latency_ms: float) -> str:
    return f"{percent(row.ranked_accuracy, row.ranked_error)} at {ms(latency_ms)}"


def _joined(names: Sequence[str]) -> str:
    """``W1 is``, ``W1 and W2 are``, ``W1, W2 and W3 are``."""
    *first, last = names
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"
