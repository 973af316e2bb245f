"""Rounds of trainings: all networks once, then the candidates for best again.

Each further round uses another seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from nas.methods.scaling.design.entries import BASELINE
from nas.methods.scaling.ranking.noise import Noise, is_significant, pooled_noise
from nas.methods.scaling.settings import RaceSettings

Accuracies = Mapping[str, Sequence[float]]
SeededTraining = tuple[str, int]  # a network's label and the number of the seed
Rounds = Sequence[Sequence[SeededTraining]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """Best network, its statistically indistinguishable peers, and the noise.

    ``ranked``: all networks that finished training, those with several seeds first, then by mean accuracy, without the
    baseline. ``peers``: those of them that are statistically indistinguishable from the best (Tukey-Kramer).
    """

    ranked: tuple[str, ...]
    peers: tuple[str, ...]
    noise: Noise

    @property
    def best(self) -> str:
        """Network of the highest mean, among those with more than one seed if any."""
        return self.ranked[0]


def rank_means(accuracies: Accuracies, noise: Noise) -> RoundResult | None:
    """Rank ``accuracies`` (by label, one value per seed, in [0, 1]).

    None if nothing but the baseline was trained.
    """
    labels = [label for label, values in accuracies.items() if values and label != BASELINE]
    if not labels:
        return None
    # A single lucky seed must not rank a network above those with several seeds.
    ranked = sorted(labels, key=lambda label: (len(accuracies[label]) == 1, -fmean(accuracies[label])))
    best = accuracies[ranked[0]]
    peers = tuple(label for label in ranked[1:] if not is_significant(noise, best, accuracies[label]))
    return RoundResult(ranked=tuple(ranked), peers=peers, noise=noise)


def next_round(
    labels: Sequence[str], accuracies: Accuracies, rounds: Rounds, race: RaceSettings, *, all_seeds: bool
) -> tuple[SeededTraining, ...]:
    """Trainings after ``rounds``; empty if nothing is left to do.

    A pure function of its arguments. ``labels``: all networks, including the baseline, which runs in every round.
    ``all_seeds``: no network drops out, and networks that come later get the seeds of those before them.
    """
    if all_seeds:
        return _due(labels, accuracies, rounds, race.seeds)
    done = len(rounds)
    if done == 0:
        return tuple((label, 0) for label in labels)
    alive = [label for label in labels if label != BASELINE and len(accuracies.get(label, ())) == done]
    if done >= race.seeds or not alive:
        return ()
    finalists = _finalists(alive, accuracies, done, race)
    if len(finalists) < 2:
        return ()
    return tuple((label, done) for label in labels if label in finalists or label == BASELINE)


def _due(labels: Sequence[str], accuracies: Accuracies, rounds: Rounds, seeds: int) -> tuple[SeededTraining, ...]:
    """Trainings of the first seed that some networks lack.

    A network that failed with a seed gets no further one.
    """
    planned = {training for trainings in rounds for training in trainings}
    for seed in range(seeds):
        alive = [label for label in labels if label == BASELINE or len(accuracies.get(label, ())) == seed]
        due = tuple((label, seed) for label in alive if (label, seed) not in planned)
        if any(label != BASELINE for label, _ in due):
            return due
    return ()


def best_key(labels: Mapping[str, str], accuracies: Accuracies) -> str | None:
    """Key of ``labels`` whose network has the highest mean; None if none is trained.

    Networks that lack a seed because a training failed are not considered. Ties go to the first.
    """
    values = {key: accuracies.get(label, ()) for key, label in labels.items()}
    most = max(map(len, values.values()), default=0)
    return max(
        (key for key in values if most and len(values[key]) == most), key=lambda key: fmean(values[key]), default=None
    )


def most_trainings(labels: Sequence[str], race: RaceSettings, *, all_seeds: bool) -> int:
    """Upper bound on the number of trainings of a race."""
    again = len(labels) if all_seeds else min(race.finalists + 1, len(labels))
    return len(labels) + (race.seeds - 1) * again


def _finalists(alive: Sequence[str], accuracies: Accuracies, done: int, race: RaceSettings) -> list[str]:
    if done == 1:  # one seed each: the noise is unknown
        return sorted(alive, key=lambda label: -accuracies[label][0])[: race.finalists]
    noise = pooled_noise(accuracies)
    best = max((accuracies[label] for label in alive), key=fmean)
    return [label for label in alive if not is_significant(noise, best, accuracies[label])]
