"""Rounds of trainings: all networks once, then the candidates for best again.

Each further round uses another seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from nas.analysis.significance import SIGNIFICANCE_LEVEL
from nas.methods.scaling.design.entries import BASELINE
from nas.methods.scaling.ranking.noise import Noise, is_significant, pooled_noise
from nas.methods.scaling.ranking.power import chance_to_separate
from nas.methods.scaling.ranking.race_rule import RaceRule
from nas.methods.scaling.settings import RaceSettings

_VERSION_0_1: Final = RaceRule()
Accuracies = Mapping[str, Sequence[float]]
SeededTraining = tuple[str, int]  # a network's label and the number of the seed
Rounds = Sequence[Sequence[SeededTraining]]


def comparison_scores(accuracies: Accuracies, val_losses: Accuracies, rule: RaceRule) -> dict[str, tuple[float, ...]]:
    """What networks are compared by, the higher the better, by label and seed.

    ``accuracies``, or ``val_losses`` with a minus sign.
    """
    if rule.is_by_accuracy:
        return {label: tuple(values) for label, values in accuracies.items()}
    return {label: tuple(-value for value in values) for label, values in val_losses.items()}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceTests:
    """Tests of a race so far: those decided, and the level of the next.

    ``separated``: networks that an earlier test found significantly worse than the best of its round, which is final.
    ``level``: of the test after the last round; 5% outside of a race.
    """

    level: float = SIGNIFICANCE_LEVEL
    separated: frozenset[str] = frozenset()

    def is_worse(self, noise: Noise, accuracies: Accuracies, best: str, label: str) -> bool:
        """Whether ``label`` is significantly worse than ``best``, now or before."""
        return label in self.separated or is_significant(noise, accuracies[best], accuracies[label], self.level)


ONE_TEST: Final = RaceTests()


def race_tests(accuracies: Accuracies, rounds: Rounds, rule: RaceRule) -> RaceTests:
    """Tests of a race after ``rounds``, as far as its ``rule`` makes them final.

    Every test is repeated on the seeds that it had.
    """
    if not rule.has_final_tests:
        return ONE_TEST
    separated: set[str] = set()
    for done in range(2, len(rounds)):
        before = {label: values[:done] for label, values in accuracies.items()}
        noise, level = pooled_noise(before), rule.level(done)
        trained = [label for label in before if label != BASELINE and len(before[label]) == done]
        if trained:
            best = before[_best(trained, before)]
            others = (label for label, values in before.items() if label != BASELINE and values)
            separated.update(label for label in others if is_significant(noise, best, before[label], level))
    return RaceTests(level=rule.level(len(rounds)), separated=frozenset(separated))


def rank_means(accuracies: Accuracies, noise: Noise, tests: RaceTests = ONE_TEST) -> RoundResult | None:
    """Rank ``accuracies`` (by label, one value per seed, in [0, 1]).

    ``tests``: of the race; networks that it separated are not the best. None if nothing but the baseline was trained.
    """
    labels = [label for label, values in accuracies.items() if values and label != BASELINE]
    if not labels:
        return None
    # A single lucky seed must not rank a network above those with several seeds.
    ranked = sorted(labels, key=lambda label: (len(accuracies[label]) == 1, -fmean(accuracies[label])))
    best = next((label for label in ranked if label not in tests.separated), ranked[0])
    ranked = [best, *(label for label in ranked if label != best)]
    peers = tuple(label for label in ranked[1:] if not tests.is_worse(noise, accuracies, best, label))
    return RoundResult(ranked=tuple(ranked), peers=peers, noise=noise)


def next_round(
    labels: Sequence[str],
    accuracies: Accuracies,
    rounds: Rounds,
    race: RaceSettings,
    *,
    all_seeds: bool,
    rule: RaceRule = _VERSION_0_1,
) -> tuple[SeededTraining, ...]:
    """Trainings after ``rounds``; empty if nothing is left to do.

    A pure function of its arguments. ``labels``: all networks, including the baseline, which runs in every round.
    ``all_seeds``: no network drops out, and networks that come later get the seeds of those before them. Otherwise the
    race ends when one finalist is left, when all seeds are trained, or when no finalist can be expected to be separated
    from the best by the seeds that are left (``race.min_power``).
    """
    if all_seeds:
        return _due(labels, accuracies, rounds, race.seeds)
    done = len(rounds)
    if done == 0:
        return tuple((label, 0) for label in labels)
    if done >= race.seeds:
        return ()
    left = finalists(labels, accuracies, done, race, rule)
    if len(left) < 2 or (
        done > 1 and rule.has_final_tests and not _may_be_separated(left, accuracies, done, race, rule)
    ):
        return ()
    return tuple((label, done) for label in labels if label in left or label == BASELINE)


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


def finalists(
    labels: Sequence[str], accuracies: Accuracies, done: int, race: RaceSettings, rule: RaceRule
) -> list[str]:
    """Networks that may be the best after ``done`` rounds, in the order of ``labels``.

    After the first round the best ``race.finalists``, best first; then those trained in all rounds that are
    statistically indistinguishable from the best of them.
    """
    alive = [label for label in labels if label != BASELINE and len(accuracies.get(label, ())) == done]
    if done == 1 or not alive:  # one seed each: the noise is unknown
        return sorted(alive, key=lambda label: -accuracies[label][0])[: race.finalists]
    noise, best, level = pooled_noise(accuracies), accuracies[_best(alive, accuracies)], rule.level(done)
    return [label for label in alive if not is_significant(noise, best, accuracies[label], level)]


def _best(labels: Sequence[str], accuracies: Accuracies) -> str:
    return max(labels, key=lambda label: fmean(accuracies[label]))


def _may_be_separated(
    left: Sequence[str], accuracies: Accuracies, done: int, race: RaceSettings, rule: RaceRule
) -> bool:
    """Whether the remaining seeds may separate the lowest finalist from the best."""
    means = [fmean(accuracies[label]) for label in left]
    chance = chance_to_separate(
        pooled_noise(accuracies),
        max(means) - min(means),
        seeds=done,
        most=race.seeds,
        more_per_round=len(left) + 1,
        rule=rule,
    )
    return chance >= race.min_power
