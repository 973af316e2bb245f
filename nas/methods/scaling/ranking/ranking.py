"""Ranking of a study's networks: accuracy with error, and significance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Final

from nas.analysis.significance import SIGNIFICANCE_LEVEL, ChanceLevel, at_chance_text
from nas.core.formatting import number_with_error, percent, percent_with_error, plural
from nas.core.statistics import binomial_error
from nas.methods.scaling.design.entries import Design, DesignEntry, DesignStep
from nas.methods.scaling.ranking.noise import Noise, is_significant, pooled_noise
from nas.methods.scaling.ranking.race_rule import RaceRule
from nas.methods.scaling.ranking.rounds import ONE_TEST, Accuracies, RaceTests, comparison_scores, rank_means
from nas.methods.scaling.settings import STEPWISE
from nas.study.trial_record import Outcome

BEST, PEER, WORSE, AT_CHANCE = "best", "indistinguishable", "worse", "at chance level"
_VERSION_0_1: Final = RaceRule()
_UNTRAINED: Final = "No network has finished training yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedNetwork:
    """One network with the ``accuracies`` of its seeds, in [0, 1], and its verdict.

    ``error``: standard error of the mean, from the noise pooled over all networks; None if that is unknown.
    ``val_losses``: validation losses of its seeds in nats, with ``loss_error`` likewise; empty if not stored.
    ``scores``: what it is compared by, the higher the better.
    ``p_value``: of the difference to the best; None for the best, the baseline, and networks that did not finish
    training.
    """

    entry: DesignEntry
    accuracies: tuple[float, ...]
    verdict: str
    error: float | None = None
    p_value: float | None = None
    val_losses: tuple[float, ...] = ()
    loss_error: float | None = None
    scores: tuple[float, ...] = ()

    @property
    def mean(self) -> float | None:
        """Mean accuracy; None if no training finished."""
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def val_loss(self) -> float | None:
        """Mean validation loss in nats; None if it was not stored."""
        return fmean(self.val_losses) if self.val_losses else None

    @property
    def percent(self) -> str:
        """Mean and standard error in percent."""
        return percent_with_error(self.mean, self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedStep:
    """One decided step of stepwise expansion.

    ``axis``: the one it chose; ``peers``: other axes, statistically indistinguishable from it (Tukey-Kramer).
    """

    number: int
    axis: str
    candidates: Mapping[str, RankedNetwork]
    peers: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The step in words."""
        chosen = self.candidates[self.axis]
        figures = [f"{axis} {one.percent}%" for axis, one in self.candidates.items() if axis != self.axis]
        against = f" against {', '.join(figures)}" if figures else ""
        growth = f"x{chosen.entry.scaled.macs_growth:.2f} MACs"
        text = f"Step {self.number} ({growth}) chose {self.axis}, {chosen.percent}%{against}"
        return text + (f"; statistically indistinguishable: {', '.join(self.peers)}." if self.peers else ".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Networks of a study by rank.

    ``baseline``, then the ``ranked`` ones, which finished training, the best first, then the ``others``. In a table the
    baseline may be one of the ranked networks. ``steps``: decided steps of stepwise expansion. ``chance``: accuracy of
    always guessing the largest class; None if it is unknown. ``tests``: of the race, and ``rule``: what networks are
    compared by. ``noise`` is that of the accuracies, ``loss_noise`` that of the validation losses.
    """

    baseline: RankedNetwork
    ranked: tuple[RankedNetwork, ...]
    others: tuple[RankedNetwork, ...]
    noise: Noise
    steps: tuple[RankedStep, ...] = ()
    chance: ChanceLevel | None = None
    tests: RaceTests = ONE_TEST
    rule: RaceRule = _VERSION_0_1
    loss_noise: Noise | None = None

    @property
    def score_noise(self) -> Noise:
        """Noise of what networks are compared by."""
        return self.noise if self.rule.is_by_accuracy or self.loss_noise is None else self.loss_noise

    @property
    def best(self) -> RankedNetwork | None:
        """Best network; None if none finished training, or all are at chance level."""
        return self.ranked[0] if self.ranked and self.ranked[0].verdict == BEST else None

    @property
    def peers(self) -> tuple[RankedNetwork, ...]:
        """Networks statistically indistinguishable from the best (Tukey-Kramer)."""
        return tuple(one for one in self.ranked if one.verdict == PEER)

    @property
    def all_networks(self) -> tuple[RankedNetwork, ...]:
        """All networks, the baseline first."""
        own = self.baseline.entry.label
        return (self.baseline, *(one for one in (*self.ranked, *self.others) if one.entry.label != own))

    @property
    def has_losses(self) -> bool:
        """Whether validation losses are known; those of version 0.1 are not."""
        return any(one.val_losses for one in self.all_networks)

    @property
    def step_sentences(self) -> list[str]:
        """Stepwise expansion in words, step by step."""
        bias = "Its steps were chosen by the same trainings, so that the mean of stepwise expansion is biased upwards."
        return [*(step.sentence for step in self.steps), *([bias] if self.steps else [])]

    def sentences(self) -> list[str]:
        """The result in words."""
        best = self.best
        if best is None:
            if self.chance and self.ranked:
                return [at_chance_text(self.chance, f"{self.ranked[0].percent}%")]
            return [_UNTRAINED]
        seeds = plural(len(best.accuracies), "seed")
        sentences = [f"Best: {best.entry.label} with {best.percent}% ({seeds})"]
        sentences[0] += "." if self.baseline.mean is None else f"; the baseline has {self.baseline.percent}%."
        if not self.rule.is_by_accuracy:
            nats = number_with_error(best.val_loss, best.loss_error, 3)
            sentences.append(f"Networks are compared by validation loss (race.criterion), of which it has {nats} nats.")
        if self.chance:
            sentences.append(f"Always guessing the largest class gives {percent(self.chance.accuracy)}.")
        if not self.noise.freedom:
            return [
                *sentences,
                "No network was trained twice: the noise is unknown, and so is the significance of the differences; "
                "race.seeds=3 under another study.name tells.",
            ]
        worse = len(self.ranked) - 1 - len(self.peers)
        if self.peers:
            names = ", ".join(one.entry.label for one in self.peers)
            sentences.append(f"Statistically indistinguishable from it: {names}.")
            cheapest = min((best, *self.peers), key=lambda one: one.entry.scaled.cost.macs)
            if cheapest.entry.cells and cheapest is not best:
                growth = cheapest.entry.scaled.macs_growth / best.entry.scaled.macs_growth
                sentences.append(
                    f"The cheapest of these, {cheapest.entry.label}, has {growth:.0%} of the best one's MACs."
                )
        level, loss = self.tests.level, self.loss_noise
        part = f" over all tests of the race, {level:.2%} of it in the last" if level < SIGNIFICANCE_LEVEL else ""
        varies = f" and its validation loss by {loss.deviation:.3f} nats" if loss and loss.freedom else ""
        sentences.append(
            f"{worse} of the other {len(self.ranked) - 1} are significantly worse (Tukey-Kramer, "
            f"{SIGNIFICANCE_LEVEL:.0%}{part}); one training's accuracy varies by {100 * self.noise.deviation:.2f} "
            f"points{varies} between seeds (pooled, {self.noise.freedom} degrees of freedom)."
        )
        return sentences


def rank_networks(
    entries: Design,
    accuracies: Accuracies,
    closed: Mapping[str, tuple[Outcome, str]],
    chance: ChanceLevel | None = None,
    *,
    val_losses: Accuracies | None = None,
    tests: RaceTests = ONE_TEST,
    rule: RaceRule = _VERSION_0_1,
) -> Ranking:
    """Rank all networks of ``entries`` by their ``accuracies``.

    ``closed``: by label, how a training without accuracy ended, and why. ``chance``: where none of the networks is
    significantly better than always guessing the largest class, none is called the best. ``val_losses``: in nats, by
    label and seed as ``accuracies``. ``tests``: of the race, if any, by ``rule``. Intermediate networks of stepwise
    expansion have another cost: only its final network is compared with the others.
    """
    losses = dict(val_losses or {})
    noise, loss_noise = pooled_noise(accuracies), pooled_noise(losses)
    compared = {entry.label: accuracies[entry.label] for entry in entries.trained if entry.label in accuracies}
    if entries.end and entries.end.label in accuracies:
        compared[STEPWISE] = accuracies[entries.end.label]
        losses[STEPWISE] = losses.get(entries.end.label, ())
    scores = comparison_scores({**accuracies, **compared}, losses, rule)
    score_noise = noise if rule.is_by_accuracy else loss_noise
    result = rank_means({label: scores[label] for label in compared}, score_noise, tests)
    best = scores[result.best] if result else ()
    peers = result.peers if result else ()
    highest = max(map(fmean, compared.values()), default=0.0)
    at_chance = chance is not None and not chance.is_exceeded(highest, len(compared))
    order = {label: position for position, label in enumerate(result.ranked if result else ())}

    def ranked_network(entry: DesignEntry, verdict: str = "") -> RankedNetwork:
        values, position = tuple(compared.get(entry.label, accuracies.get(entry.label, ()))), order.get(entry.label)
        if position is not None:
            verdict = BEST if position == 0 else PEER if entry.label in peers else WORSE
            verdict = AT_CHANCE if at_chance else verdict
        elif entry is not entries.baseline and not verdict:
            verdict = _untrained(entry, closed.get(entry.label))
        return RankedNetwork(
            entry=entry,
            accuracies=values,
            verdict=verdict,
            error=error_of_mean(noise, values, chance.images if chance else None),
            p_value=score_noise.p_value(best, scores[entry.label]) if position and not at_chance else None,
            scores=scores.get(entry.label, ()),
            val_losses=(seen := tuple(losses.get(entry.label, ()))),
            loss_error=loss_noise.standard_error(len(seen)) if seen else None,
        )

    end = [replace(entries.end, label=STEPWISE, same=())] if entries.end else []
    intermediate = [
        ranked_network(entry, _step_verdict(entries, entry) if entry.label in accuracies else "")
        for entry in entries.step_networks
    ]
    entries_ranked = [ranked_network(entry) for entry in (*entries.trained, *end)]
    ranked = sorted((one for one in entries_ranked if one.entry.label in order), key=lambda one: order[one.entry.label])
    others = (one for one in entries_ranked if one.entry.label not in order)
    return Ranking(
        baseline=ranked_network(entries.baseline),
        ranked=tuple(ranked),
        others=(*others, *intermediate, *(ranked_network(entry) for entry in entries.left_out)),
        noise=noise,
        chance=chance,
        tests=tests,
        rule=rule,
        loss_noise=loss_noise,
        steps=tuple(map(partial(_decided, ranked_network, score_noise), entries.steps, entries.chosen_axes)),
    )


def error_of_mean(noise: Noise, values: Sequence[float], images: int | None) -> float | None:
    """Standard error of the mean of ``values``; None without values.

    From the noise between seeds, or if that is unknown the binomial one of the validation ``images``, if known.
    """
    if not values or (not noise.freedom and not images):
        return None
    return noise.standard_error(len(values)) if noise.freedom else binomial_error(fmean(values), images or 1)


def _decided(
    ranked_network: Callable[[DesignEntry], RankedNetwork], noise: Noise, step: DesignStep, axis: str
) -> RankedStep:
    candidates = {name: ranked_network(entry) for name, entry in step.candidates.items()}
    own = candidates[axis].scores
    peers = [
        name
        for name, one in candidates.items()
        if name != axis and noise.freedom and one.scores and not is_significant(noise, own, one.scores)
    ]
    return RankedStep(number=step.number, axis=axis, candidates=candidates, peers=tuple(peers))


def _step_verdict(entries: Design, entry: DesignEntry) -> str:
    """Whether stepwise expansion chose a network of one of its steps."""
    for step in entries.steps:
        for axis, candidate in step.candidates.items():
            if candidate.label == entry.label:
                decided = step.number <= len(entries.chosen_axes)
                outcome = "chosen" if decided and entries.chosen_axes[step.number - 1] == axis else "not chosen"
                return f"step {step.number} of {STEPWISE}: {outcome if decided else 'not decided yet'}"
    return ""


def _untrained(entry: DesignEntry, closed: tuple[Outcome, str] | None) -> str:
    """Why a network has no accuracy."""
    if entry.reason:
        return f"left out: {entry.reason}"
    return f"{closed[0]}: {closed[1]}" if closed else "not trained yet"
