"""Pruners for early stopping, for one objective or several.

They compare a trial with others at the same epoch. Optuna's multi-objective trials can neither report nor prune. A rule
here is an Optuna pruner that the search calls itself; everything it needs is stored in the trials (the first objective
after each epoch as intermediate value, and the latency known before training), so that it works across workers and
machines and after a restart.
"""

from __future__ import annotations

import bisect
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from nas.methods.search.settings import PrunerSettings
from nas.study.objective import ObjectiveSettings
from nas.study.trial_attributes import PUBLISHED


class EpochScore(NamedTuple):
    """Objectives after an epoch: the first one, maximised, and the latency in ms."""

    value: float
    latency_ms: float


def make_pruner(settings: PrunerSettings, objective: ObjectiveSettings, *, epochs: int) -> BasePruner | None:
    """Pruner that ``settings`` name for trainings of ``epochs``; None for ``none``."""
    if settings.name == "none":
        return None
    if settings.name == "hyperband":
        brackets = optuna.pruners.HyperbandPruner(
            min_resource=settings.min_epochs, max_resource=epochs, reduction_factor=settings.eta
        )
        return RewardHyperband(settings=settings, brackets=brackets)
    rules = {"median": MedianPruner, "asha": HalvingPruner, "mo_asha": ParetoHalvingPruner}
    ranks_itself = settings.name == "mo_asha" or objective.kind != "pareto"  # by a score that includes the latency
    return rules[settings.name](settings=settings, latency_window=None if ranks_itself else settings.latency_window)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPruner(BasePruner):  # type: ignore[misc]
    """Compares a trial at its last epoch with all others that reached that epoch.

    Stopped and running trials count too. With a ``latency_window`` only trials count that are as fast, or faster by at
    most this factor: a slower network cannot replace it, and a far smaller one says nothing about it. Published
    networks are never stopped: they are the reference. A resumed trial is not checked again at epochs that it passed.
    """

    settings: PrunerSettings
    latency_window: float | None

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop ``trial`` after its last reported epoch."""
        epoch = trial.last_step
        if epoch is None or not self.is_rung(epoch) or PUBLISHED in trial.user_attrs:
            return False
        own = _epoch_score(trial, epoch)
        others = [_epoch_score(other, epoch) for other in _others(study, trial, epoch)]
        if self.latency_window is not None:
            fastest_ms = own.latency_ms / self.latency_window
            others = [other for other in others if fastest_ms <= other.latency_ms <= own.latency_ms]
        return len(others) >= self.settings.startup and self.ranks_low(own, others)

    @abstractmethod
    def is_rung(self, epoch: int) -> bool:
        """Whether a trial may be stopped after ``epoch``."""

    @abstractmethod
    def ranks_low(self, own: EpochScore, others: Sequence[EpochScore]) -> bool:
        """Whether ``own`` ranks too low among ``others`` to continue."""


class MedianPruner(PeerPruner):
    """Stops trials below the median of the others, from ``min_epochs`` on.

    The rule of Vizier (Golovin et al., KDD 2017, section 3.2.2) without its running averages.
    """

    __slots__ = ()

    def is_rung(self, epoch: int) -> bool:
        """Whether ``epoch`` is ``min_epochs`` or later."""
        return epoch >= self.settings.min_epochs

    def ranks_low(self, own: EpochScore, others: Sequence[EpochScore]) -> bool:
        """Whether ``own`` is below the median of ``others``."""
        return own.value < median(other.value for other in others)


class HalvingPruner(PeerPruner):
    """Asynchronous successive halving (ASHA) in its stopping variant.

    One trial in ``eta`` passes each rung, at epoch ``min_epochs`` x ``eta``^k.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934, algorithm 2; as in
    Optuna, trials that would wait for promotion there are stopped here. Early arrivals are compared with fewer trials.
    """

    __slots__ = ()

    def is_rung(self, epoch: int) -> bool:
        """Whether ``epoch`` is a rung."""
        rung = self.settings.min_epochs
        while rung < epoch:
            rung *= self.settings.eta
        return rung == epoch

    def ranks_low(self, own: EpochScore, others: Sequence[EpochScore]) -> bool:
        """Whether ``own`` is not among the best ``1 / eta``."""
        return sum(other.value > own.value for other in others) >= self.promotions(len(others) + 1)

    def promotions(self, arrivals: int) -> int:
        """Number of trials that may pass a rung which ``arrivals`` trials reached."""
        return max(1, arrivals // self.settings.eta)


class ParetoHalvingPruner(HalvingPruner):
    """Successive halving by non-dominated rank, and within a rank by an epsilon-net.

    Schmucker, Donini, Zafar, Salinas and Archambeau, "Multi-objective Asynchronous Successive Halving",
    arXiv:2106.12639. The net begins with the best first objective and then adds the point farthest from all selected
    ones; distances are in the value and in the logarithm of the latency, each normalised by its range within the rank.
    """

    __slots__ = ()

    def ranks_low(self, own: EpochScore, others: Sequence[EpochScore]) -> bool:
        """Whether ``own`` is not among the first ``1 / eta`` by rank and epsilon-net."""
        scores = [own, *others]
        ranks = non_dominated_ranks(scores)
        before = sum(rank < ranks[0] for rank in ranks)
        same_rank = [score for score, rank in zip(scores, ranks, strict=True) if rank == ranks[0]]
        return before + spread_order(same_rank).index(0) >= self.promotions(len(scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardHyperband(BasePruner):  # type: ignore[misc]
    """Optuna's Hyperband for one objective, with exceptions for some trials.

    It never stops published networks, nor the first ``startup`` trials at each epoch. Its rungs are stored in the
    trials' system attributes.
    """

    settings: PrunerSettings
    brackets: optuna.pruners.HyperbandPruner

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop ``trial`` now.

        The rung is recorded in any case, because others are compared with it.
        """
        ranks_low: bool = self.brackets.prune(study, trial)
        if not ranks_low or trial.last_step is None or PUBLISHED in trial.user_attrs:
            return False
        return len(_others(study, trial, trial.last_step)) >= self.settings.startup


def non_dominated_ranks(scores: Sequence[EpochScore]) -> list[int]:
    """Non-dominated rank of each score, in the given order.

    0 on the Pareto front, 1 on the front of the rest, and so on; equal scores share a rank.
    """
    order = sorted(range(len(scores)), key=lambda i: (scores[i].latency_ms, -scores[i].value))
    best: list[tuple[float, float]] = []  # best value so far of each front, negated so that it rises, with latency
    ranks = [0] * len(scores)
    for i in order:
        value, latency_ms = scores[i]
        # The first front without a faster or equally fast network that is as good, unless that is the same point.
        rank = bisect.bisect_right(best, -value, key=lambda front: front[0])
        if rank and best[rank - 1] == (-value, latency_ms):
            rank -= 1
        best[rank : rank + 1] = [(-value, latency_ms)]
        ranks[i] = rank
    return ranks


def spread_order(scores: Sequence[EpochScore]) -> list[int]:
    """Positions in ``scores`` in the order of an epsilon-net.

    The best value comes first; each further one is the farthest from all before.
    """
    points = list(zip(_normalised([one.value for one in scores]),
                      _normalised([math.log(one.latency_ms) for one in scores]), strict=True))  # fmt: skip
    first = max(range(len(points)), key=lambda i: (scores[i].value, -scores[i].latency_ms))
    order, remaining = [first], [i for i in range(len(points)) if i != first]
    gaps = [math.dist(point, points[first]) for point in points]
    while remaining:
        farthest = max(remaining, key=lambda i: gaps[i])
        order.append(farthest)
        remaining.remove(farthest)
        gaps = [min(gap, math.dist(point, points[farthest])) for gap, point in zip(gaps, points, strict=True)]
    return order


def _normalised(values: Sequence[float]) -> list[float]:
    """Normalise ``values`` to [0, 1] by their range."""
    low, high = min(values), max(values)
    return [(value - low) / ((high - low) or 1.0) for value in values]


def _others(study: optuna.Study, trial: FrozenTrial, epoch: int) -> list[FrozenTrial]:
    """Other trials that were trained up to ``epoch`` and did not fail."""
    return [
        other
        for other in study.get_trials(deepcopy=False)
        if other.number != trial.number and epoch in other.intermediate_values and other.state is not TrialState.FAIL
    ]


def _epoch_score(trial: FrozenTrial, epoch: int) -> EpochScore:
    return EpochScore(trial.intermediate_values[epoch], trial.user_attrs["latency_ms"])
