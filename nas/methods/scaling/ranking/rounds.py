"""Which networks the next round trains: all of them once, then those that may yet be the best, with another seed."""

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
    """The best network, those that the noise does not tell apart from it, and the noise itself.

    ``ranked``: all that were trained to the end, by the number of seeds and then by mean accuracy, without the
    baseline. ``peers``: of these, the ones that may be as good as the best.
    """

    ranked: tuple[str, ...]
    peers: tuple[str, ...]
    noise: Noise

    @property
    def best(self) -> str:
        """The network of the highest mean among those with more than one seed, where there are such."""
        return self.ranked[0]


def rank_means(accuracies: Accuracies, noise: Noise) -> RoundResult | None:
    """What ``accuracies`` (by label, one value per seed) say; None if nothing but the baseline was trained."""
    labels = [label for label, values in accuracies.items() if values and label != BASELINE]
    if not labels:
        return None
    # One seed that was lucky is no reason to put a network before those that were asked again.
    ranked = sorted(labels, key=lambda label: (len(accuracies[label]) == 1, -fmean(accuracies[label])))
    best = accuracies[ranked[0]]
    peers = tuple(label for label in ranked[1:] if not is_significant(noise, best, accuracies[label]))
    return RoundResult(ranked=tuple(ranked), peers=peers, noise=noise)


def next_round(
    labels: Sequence[str], accuracies: Accuracies, rounds: Rounds, race: RaceSettings, *, everybody: bool
) -> tuple[SeededTraining, ...]:
    """What to train after ``rounds``; empty if nothing is left to do. A function of its arguments alone.

    ``labels``: all networks, the baseline among them, which runs in every round. ``everybody``: nobody drops out, and
    networks that come later get the seeds of those before them.
    """
    if everybody:
        return _due(labels, accuracies, rounds, race.seeds)
    done = len(rounds)
    if done == 0:
        return tuple((label, 0) for label in labels)
    alive = [label for label in labels if label != BASELINE and len(accuracies.get(label, ())) == done]
    if done >= race.seeds or not alive:
        return ()
    kept = _finalists(alive, accuracies, done, race)
    if len(kept) < 2:
        return ()
    return tuple((label, done) for label in labels if label in kept or label == BASELINE)


def _due(labels: Sequence[str], accuracies: Accuracies, rounds: Rounds, seeds: int) -> tuple[SeededTraining, ...]:
    """Trainings of the first seed that not all have; a network that failed with a seed gets no further one."""
    planned = {training for trainings in rounds for training in trainings}
    for seed in range(seeds):
        alive = [label for label in labels if label == BASELINE or len(accuracies.get(label, ())) == seed]
        due = tuple((label, seed) for label in alive if (label, seed) not in planned)
        if any(label != BASELINE for label, _ in due):
            return due
    return ()


def best_key(labels: Mapping[str, str], accuracies: Accuracies) -> str | None:
    """Which key of ``labels`` has the network of the highest mean; None if none was trained to the end.

    Networks that lack a seed, because a training failed, stand back. Ties go to the first.
    """
    values = {key: accuracies.get(label, ()) for key, label in labels.items()}
    most = max(map(len, values.values()), default=0)
    return max(
        (key for key in values if most and len(values[key]) == most), key=lambda key: fmean(values[key]), default=None
    )


def most_trainings(labels: Sequence[str], race: RaceSettings, *, everybody: bool) -> int:
    """Trainings that a race takes at most."""
    again = len(labels) if everybody else min(race.finalists + 1, len(labels))
    return len(labels) + (race.seeds - 1) * again


def _finalists(alive: Sequence[str], accuracies: Accuracies, done: int, race: RaceSettings) -> list[str]:
    if done == 1:  # one seed each: the noise is not known yet
        return sorted(alive, key=lambda label: -accuracies[label][0])[: race.finalists]
    noise = pooled_noise(accuracies)
    best = max((accuracies[label] for label in alive), key=fmean)
    return [label for label in alive if not is_significant(noise, best, accuracies[label])]
