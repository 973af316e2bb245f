"""What would separate statistically indistinguishable networks, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from nas.core.formatting import cpu_time
from nas.methods.scaling.ranking.power import seeds_text, seeds_to_separate
from nas.methods.scaling.ranking.ranking import Ranking
from nas.study.trial_record import TrialRecord


def separation_sentences(ranking: Ranking, rows: Sequence[TrialRecord]) -> list[str]:
    """The seeds that would separate networks of which none is significantly worse.

    Empty where some are, or where the noise between seeds is unknown. ``rows``: all trainings, for their CPU time.
    """
    best, others, noise = ranking.best, ranking.ranked[1:], ranking.score_noise
    if best is None or not others or len(ranking.peers) < len(others) or not noise.freedom:
        return []
    lowest = min(others, key=lambda one: fmean(one.scores))
    difference = fmean(best.scores) - fmean(lowest.scores)
    text = "All networks are statistically indistinguishable: take the one of the lowest cost."
    if difference <= 0 or noise.deviation == 0:
        return [text]
    wanted = seeds_to_separate(noise, difference)
    missing = sum(max(0, (wanted or 0) - len(one.accuracies)) for one in ranking.ranked)
    times = [row.cpu_s for row in rows if row.cpu_s]
    cost = f", about {cpu_time(missing * fmean(times))} more of training" if times and missing else ""
    apart = ranking.rule.difference_text(difference)
    return [
        f"{text} To separate {best.entry.label} from {lowest.entry.label}, {apart} apart (with a power of 80%), "
        f"takes {seeds_text(wanted)} of each (race.seeds){cost}; more validation images lower the noise, too, and more "
        "epochs (proxy.epochs) may make the networks differ more."
    ]
