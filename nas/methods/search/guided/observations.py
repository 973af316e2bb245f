"""Results of a study's trials, as a model of accuracy learns from them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from optuna.trial import FrozenTrial, TrialState

from nas.analysis.surrogate import OWN, Evaluated, network_features
from nas.methods.search.trials.evaluations import PriorEvaluation
from nas.study.candidates import Pricer
from nas.study.objective import ObjectiveSettings
from nas.study.trial_attributes import told_latency_ms
from nas.study.trial_record import Outcome

_Item = TypeVar("_Item")

_MOST_EPOCHS: Final = 2  # every source makes each proposal slower
_MOST_SOURCES: Final = 4  # of earlier evaluations
_MOST_PRIOR: Final = 1500  # earlier evaluations, an evenly spaced sample of more
_EPOCH: Final = "after epoch "
_OTHERS: Final = "other sources"
_FANTASY_VARIANCE: Final = 0.015  # of the score of a network that is being trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A trial's network and what is known of it.

    ``accuracy``: in [0, 1], as trained or estimated; None of one that failed, was stopped or still runs.
    ``by_epoch``: accuracies after so many epochs, in [0, 1]. ``latency_ms``: as measured, or as the calibration
    predicts it.
    """

    genotype: Mapping[str, Any]
    features: Mapping[str, float]
    arch_id: str
    latency_ms: float
    accuracy: float | None
    by_epoch: Mapping[int, float]
    is_predicted: bool = True
    was_stopped: bool = False
    is_running: bool = False


@dataclass(slots=True)
class Observations:
    """The networks of a study's trials; finished trials are read once."""

    pricer: Pricer
    objective: ObjectiveSettings
    _finished: dict[int, Observed | None] = field(default_factory=dict)
    _features: dict[str, Mapping[str, float]] = field(default_factory=dict)

    def read(self, trials: Sequence[FrozenTrial]) -> list[Observed]:
        """Networks of ``trials`` and what is known of them, each once."""
        found: dict[str, Observed] = {}
        for trial in trials:
            if trial.state is TrialState.WAITING:
                continue
            one = self._observed(trial)
            if one is not None and (one.arch_id not in found or one.accuracy is not None):
                found[one.arch_id] = one
        return list(found.values())

    def _observed(self, trial: FrozenTrial) -> Observed | None:
        if trial.number in self._finished:
            return self._finished[trial.number]
        one = self._of(trial)
        if trial.state.is_finished():
            self._finished[trial.number] = one
        return one

    def _of(self, trial: FrozenTrial) -> Observed | None:
        attributes = trial.user_attrs
        outcome = attributes.get("outcome")
        if not {"arch_id", "latency_ms"} <= attributes.keys() or outcome == Outcome.DUPLICATE:
            return None  # not written yet
        if outcome == Outcome.INFEASIBLE and "measured_ms" not in attributes:
            return None  # its limits are seen without a trial
        arch_id = attributes["arch_id"]
        if arch_id not in self._features:
            self._features[arch_id] = network_features(self.pricer.decode(trial.params))
        accuracy = attributes.get("accuracy", attributes.get("estimated_accuracy"))
        has_result = outcome in (Outcome.TRAINED, Outcome.SCORED)
        return Observed(
            genotype=trial.params,
            features=self._features[arch_id],
            arch_id=arch_id,
            latency_ms=float(attributes["latency_ms"]),
            is_predicted="measured_ms" not in attributes,
            accuracy=accuracy if has_result else None,
            by_epoch=self._by_epoch(trial),
            was_stopped=outcome == Outcome.STOPPED,
            is_running=not trial.state.is_finished(),
        )

    def _by_epoch(self, trial: FrozenTrial) -> dict[int, float]:
        """Accuracies of the epochs of ``trial``.

        The storage has the objective's first values of them.
        """
        full = self.objective.values(1.0, told_latency_ms(trial, self.objective))[0]
        return {epoch: value / full for epoch, value in trial.intermediate_values.items()}


def results_of(observed: Sequence[Observed]) -> list[Evaluated]:
    """Results to learn from, of networks that are ``observed``.

    Trainings that were stopped are held against the others at the same epoch, which is a source of its own: how much
    its order says about the end is learned. That is done for the two epochs at which most were. A network that is being
    trained counts as a middling one, which keeps parallel workers apart. Of the lies tried on NAS-Bench-Macro in
    batches of 8 the median did best: with that of the model, or a sample of it, the networks of a batch were nearly the
    same (best network after a median of 60 trainings instead of 40).
    """
    done = [one for one in observed if one.accuracy is not None]
    results = [Evaluated(features=one.features, accuracy=one.accuracy or 0.0) for one in done]
    stops = Counter(max(one.by_epoch) for one in observed if one.was_stopped and one.by_epoch)
    for epoch, _ in stops.most_common(_MOST_EPOCHS):
        results += [
            Evaluated(features=one.features, accuracy=one.by_epoch[epoch], source=f"{_EPOCH}{epoch}")
            for one in observed
            if epoch in one.by_epoch
        ]
    if done:
        middle = statistics.median(one.accuracy or 0.0 for one in done)
        lie = Evaluated(features={}, accuracy=middle, source=OWN, variance=_FANTASY_VARIANCE)
        results += [replace(lie, features=one.features) for one in observed if one.is_running]
    return results


def evenly_spaced(items: Sequence[_Item], most: int) -> list[_Item]:
    """All of ``items``, or ``most`` of them at even distances."""
    step = max(1.0, len(items) / most)
    return [items[int(place * step)] for place in range(min(len(items), most))]


def prior_results(evaluations: Sequence[PriorEvaluation], pricer: Pricer) -> list[Evaluated]:
    """Results to learn from, of networks that were evaluated elsewhere.

    ``pricer`` decodes them. A standard error counts in units of the spread of its source's accuracies, as scores do.
    The sources with the fewest evaluations count as one beyond three others.
    """
    evaluations = evenly_spaced(evaluations, _MOST_PRIOR)
    counts = Counter(one.source for one in evaluations)
    if len(counts) > _MOST_SOURCES:
        kept = {source for source, _ in counts.most_common(_MOST_SOURCES - 1)}
        evaluations = [one if one.source in kept else replace(one, source=_OTHERS) for one in evaluations]
    by_source: dict[str, list[float]] = {}
    for one in evaluations:
        by_source.setdefault(one.source, []).append(one.accuracy)
    spreads = {source: statistics.pstdev(values) for source, values in by_source.items()}
    return [
        Evaluated(
            features=network_features(pricer.decode(one.genotype)),
            accuracy=one.accuracy,
            source=one.source,
            variance=_score_variance(one.standard_error or 0.0, spreads[one.source]),
        )
        for one in evaluations
    ]


def _score_variance(error: float, spread: float) -> float:
    return min((error / spread) ** 2, 1.0) if spread > 0 else 1.0
