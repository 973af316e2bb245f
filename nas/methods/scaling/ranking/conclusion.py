"""Conclusion of a race: whether the best network is known, and what it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any

from nas.core.formatting import cpu_time, first_names, plural
from nas.methods.scaling.design.entries import BASELINE
from nas.methods.scaling.ranking.noise import pooled_noise
from nas.methods.scaling.ranking.power import seeds_text, seeds_to_separate
from nas.methods.scaling.ranking.race_rule import RaceRule
from nas.methods.scaling.ranking.rounds import Accuracies, Rounds, finalists, race_tests
from nas.methods.scaling.settings import RaceSettings


class RaceEnd(StrEnum):
    """Why a race ended, or that it has not.

    ``separated``: the best network is known, among the finalists. ``out_of_reach``: it cannot be known within
    ``race.seeds``. ``seeds_spent``: all seeds are trained, and some finalists are indistinguishable from it.
    ``untested``: fewer than two finalists have two seeds. ``at_chance``: no network is significantly better than always
    guessing the largest class.
    """

    UNFINISHED = "unfinished"
    SEPARATED = "separated"
    OUT_OF_REACH = "out_of_reach"
    SEEDS_SPENT = "seeds_spent"
    UNTESTED = "untested"
    AT_CHANCE = "at_chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A finalist that is statistically indistinguishable from the best one.

    ``difference``: by which its mean is worse: of accuracies in [0, 1], or of validation losses in nats. ``seeds``: of
    each that would separate the two with a power of 80%; None if that is more than ``race.seeds`` may be.
    """

    label: str
    difference: float
    seeds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceConclusion:
    """Conclusion of a race after ``rounds`` of at most ``seeds`` rounds.

    ``best``: finalist of the highest mean; None before the first test. ``rivals``: finalists that are left beside it,
    the nearest first. ``once``: networks trained with one seed alone, which no test separates from it.
    """

    end: RaceEnd
    rounds: int
    seeds: int
    best: str | None = None
    rivals: tuple[Rival, ...] = ()
    once: int = 0
    rule: RaceRule

    @property
    def record(self) -> dict[str, Any]:
        """The conclusion as plain data, for JSON."""
        return {
            "end": self.end.value,
            "rounds": self.rounds,
            "seeds": self.seeds,
            "best": self.best,
            "criterion": self.rule.criterion,
            "rivals": [
                {"name": one.label, "difference": one.difference, "seeds_to_separate": one.seeds} for one in self.rivals
            ],
            "text": " ".join(self.sentences()),
        }

    def sentences(self, training_cpu_s: float | None = None) -> list[str]:
        """The conclusion in words; ``training_cpu_s``: mean CPU time of a training."""
        names, rounds = first_names([one.label for one in self.rivals]), plural(self.rounds, "round")
        open_question = f"which of {self.best} and {names} is the best; take the one of the lowest cost"
        text = {
            RaceEnd.SEPARATED: f"The race ended after {rounds}, because the answer is known: {self.best} is "
            "significantly better than all other finalists.",
            RaceEnd.OUT_OF_REACH: f"The race ended after {rounds} of {self.seeds:,}, because the answer cannot be "
            f"known within race.seeds={self.seeds}: {open_question}.",
            RaceEnd.SEEDS_SPENT: f"The race ended with race.seeds={self.seeds}, and the answer is not known: "
            f"{open_question}.",
            RaceEnd.UNTESTED: f"The race ended with {self.best} alone: {names} dropped out before without being "
            "significantly worse.",
        }.get(self.end, "")
        if not self.rivals and self.end is not RaceEnd.SEPARATED:
            return []  # before the first test
        needed = [self._needed(training_cpu_s)] if self.end in (RaceEnd.OUT_OF_REACH, RaceEnd.SEEDS_SPENT) else []
        return [text, *needed, *self._left_out()]

    def _needed(self, training_cpu_s: float | None) -> str:
        """Seeds that would separate the nearest and the farthest rival."""
        nearest, farthest = self.rivals[0], self.rivals[-1]
        pair = f"{self.best} from {self._apart(nearest)} (with a power of 80%)"
        text = f"To separate {pair}, takes {seeds_text(nearest.seeds)} of each"
        more = (nearest.seeds or 0) - self.rounds
        if more > 0:
            text += f", {more:,} more than trained"
            if training_cpu_s:  # every finalist is trained in every round, and the baseline
                text += f" (about {cpu_time(more * (len(self.rivals) + 2) * training_cpu_s)} of training)"
        if len(self.rivals) > 1:
            text += f"; from {self._apart(farthest)}, {seeds_text(farthest.seeds)}"
        return f"{text}."

    def _apart(self, one: Rival) -> str:
        return f"{one.label}, {self.rule.difference_text(abs(one.difference))} apart"

    def _left_out(self) -> list[str]:
        if not self.once:
            return []
        are, them = ("network was", "it") if self.once == 1 else ("networks were", "them")
        return [f"{self.once:,} other {are} left out by the first seed, which does not separate {them} from it."]


def race_conclusion(
    scores: Accuracies, rounds: Rounds, race: RaceSettings, rule: RaceRule, *, is_over: bool
) -> RaceConclusion:
    """Conclusion of the race of a grid after ``rounds``.

    ``scores``: by label, one value per seed, the higher the better. ``is_over``: all of its rounds are trained.
    """
    done = len(rounds)
    if not is_over or done < 2:
        end = RaceEnd.UNTESTED if is_over else RaceEnd.UNFINISHED
        return RaceConclusion(end=end, rounds=done, seeds=race.seeds, rule=rule)
    labels = [label for label, _ in rounds[0]]
    left = finalists(labels, scores, done, race, rule)
    noise, tests = pooled_noise(scores), race_tests(scores, rounds, rule)
    best = max(left, key=lambda label: fmean(scores[label]), default=None)
    if best is None:
        return RaceConclusion(end=RaceEnd.UNTESTED, rounds=done, seeds=race.seeds, rule=rule)
    again = {label for label, _ in rounds[1]}
    rivals, once = [], 0
    for label in labels:
        if label in (best, BASELINE) or not scores.get(label) or tests.is_worse(noise, scores, best, label):
            continue
        if label in again:
            difference = fmean(scores[best]) - fmean(scores[label])
            seeds = seeds_to_separate(noise, abs(difference), rule)
            rivals.append(Rival(label=label, difference=difference, seeds=seeds))
        else:
            once += 1
    return RaceConclusion(
        end=_end(left, rivals, done, race),
        rounds=done,
        seeds=race.seeds,
        best=best,
        rivals=tuple(sorted(rivals, key=lambda one: (one.difference, one.label))),
        once=once,
        rule=rule,
    )


def _end(left: Sequence[str], rivals: Sequence[Rival], done: int, race: RaceSettings) -> RaceEnd:
    if not rivals:
        return RaceEnd.SEPARATED
    if len(left) < 2:  # trainings of the others failed
        return RaceEnd.UNTESTED
    return RaceEnd.SEEDS_SPENT if done >= race.seeds else RaceEnd.OUT_OF_REACH
