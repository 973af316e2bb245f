"""Who is trained in the next round: everybody once, then those that may yet be the best, again with another seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from nas.compound.entries import BASELINE
from nas.compound.noise import Noise, noise_of, told_apart
from nas.compound.plan import RaceSettings

Accuracies = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
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


def answer(accuracies: Accuracies) -> Answer | None:
    """What ``accuracies`` (by label, one value per seed) say; None if nothing but the baseline was trained."""
    labels = [label for label, values in accuracies.items() if values and label != BASELINE]
    if not labels:
        return None
    noise = noise_of(accuracies)
    # One seed that was lucky is no reason to put a network before those that were asked again.
    ranked = sorted(labels, key=lambda label: (len(accuracies[label]) == 1, -fmean(accuracies[label])))
    best = accuracies[ranked[0]]
    peers = tuple(label for label in ranked[1:] if not told_apart(noise, best, accuracies[label]))
    return Answer(ranked=tuple(ranked), peers=peers, noise=noise)


def next_round(
    labels: Sequence[str], accuracies: Accuracies, done: int, race: RaceSettings, *, everybody: bool
) -> tuple[str, ...]:
    """Labels to train once more after ``done`` rounds; empty if the race is over. A function of its arguments alone.

    ``labels``: all networks, the baseline among them, which runs in every round. ``everybody``: nobody drops out.
    """
    if done == 0:
        return tuple(labels)
    alive = [label for label in labels if label != BASELINE and len(accuracies.get(label, ())) == done]
    if done >= race.seeds or not alive:
        return ()
    kept = alive if everybody else _finalists(alive, accuracies, done, race)
    if len(kept) < 2 and not everybody:
        return ()
    return tuple(label for label in labels if label in kept or label == BASELINE)


def most_trainings(labels: Sequence[str], race: RaceSettings, *, everybody: bool) -> int:
    """Trainings that a race takes at most."""
    again = len(labels) if everybody else min(race.finalists + 1, len(labels))
    return len(labels) + (race.seeds - 1) * again


def _finalists(alive: Sequence[str], accuracies: Accuracies, done: int, race: RaceSettings) -> list[str]:
    if done == 1:  # one seed each: the noise is not known yet
        return sorted(alive, key=lambda label: -accuracies[label][0])[: race.finalists]
    noise = noise_of(accuracies)
    best = max((accuracies[label] for label in alive), key=fmean)
    return [label for label in alive if not told_apart(noise, best, accuracies[label])]
