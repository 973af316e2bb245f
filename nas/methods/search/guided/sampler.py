"""Model-based sampler of feasible networks.

A Bayesian linear regression on scores of ranks learns from features of the
decoded networks (``nas.analysis.surrogate``); Thompson sampling chooses the feasible network that is best by one sample
of its posterior, or of two objectives the one that adds most to the hypervolume. Candidates are random ones, neighbours
and children of the best; what breaks a limit on cost or latency, or was tried, is thrown out before.

Measured on NAS-Bench-Macro (``tests/benchmarks/sample_efficiency.py``) against Optuna's TPE, NSGA-II and Gaussian
process, random search and regularised evolution.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.surrogate import (
    AccuracyModel,
    Evaluated,
    Scores,
    expected_gain,
    front_levels,
    hypervolume_improvement,
)
from nas.core.errors import NasError
from nas.core.formatting import plural
from nas.methods.search.guided.improvement import improvement_by
from nas.methods.search.guided.observations import Observations, Observed, results_of
from nas.methods.search.guided.pool import Pool, drawn_candidates, feasible_candidates, is_small, make_pool, neighbours
from nas.study.candidates import Candidate, Pricer
from nas.study.objective import ObjectiveSettings

_GENERATIONS: Final = 3  # of children, each of the best ones so far by the same sample of the model
_CHILDREN: Final = 120  # of a generation
_PARENTS: Final = 20
_BELOW: Final = 1.0  # scores by which the reference point lies below the worst network: its fastest ones count, too


class NoCandidateLeft(NasError):
    """The space has no feasible network that was not tried."""


@dataclass(slots=True)
class GuidedMemory:
    """State of a worker between proposals; it follows from study and seed.

    ``prior``: results from elsewhere to learn from; None before they are read.
    """

    seed: int
    prior: Sequence[Evaluated] | None = None
    _pool: Pool | None = None
    _pricer: Pricer | None = None
    _observations: Observations | None = field(default=None, repr=False)

    def pool(self, pricer: Pricer) -> Pool:
        """Pool of ``pricer``: made anew when its predictions have changed."""
        if self._pool is None or self._pricer != pricer:
            self._pool, self._pricer = make_pool(pricer, seed=self.seed), pricer
        return self._pool

    def observations(self, pricer: Pricer, objective: ObjectiveSettings) -> Observations:
        """Observations of the study's trials."""
        if self._observations is None:
            self._observations = Observations(pricer, objective)
        return self._observations


class GuidedSampler(optuna.samplers.BaseSampler):  # type: ignore[misc]  # Optuna is not typed here
    """Proposes feasible networks that a model of accuracy expects most of.

    ``pricer`` prices candidates as the study does now. ``startup``: networks drawn at random before it learns. Its
    random draws depend on ``trial`` and the memory's seed alone.
    """

    def __init__(
        self, *, pricer: Pricer, objective: ObjectiveSettings, startup: int, trial: int, memory: GuidedMemory
    ) -> None:
        self._pricer, self._objective, self._startup = pricer, objective, startup
        self._memory = memory
        self._rng = np.random.default_rng([memory.seed, trial])
        self._random = random.Random(f"guided {memory.seed} {trial}")

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: the study's own space is passed (see ``FixedSpaceSampler``)."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """All choices of one feasible network that was not tried.

        Raises: NoCandidateLeft.
        """
        if set(trial.system_attrs.get("fixed_params", ())) >= set(search_space):
            return {}  # queued: nothing is left to choose
        return dict(self.propose(self._observed(study.get_trials(deepcopy=False))).genotype)

    def _observed(self, trials: Sequence[FrozenTrial]) -> list[Observed]:
        """Networks of ``trials``, with latencies as the study corrects predictions now."""
        observed = self._memory.observations(self._pricer, self._objective).read(trials)
        scale = self._pricer.latency_scale
        if scale == 1:
            return observed
        return [replace(one, latency_ms=one.latency_ms * scale) if one.is_predicted else one for one in observed]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, of a queued trial that does not state it."""
        return self._random.choice(param_distribution.choices)

    def expected_gain(self, trials: Sequence[FrozenTrial]) -> float:
        """Gain that the best untried candidate is expected to add to ``trials``.

        As a share of the hypervolume, or an amount of the reward; see ``nas.analysis.surrogate.expected_gain``.
        """
        observed = self._observed(trials)
        pool = self._with_neighbours(observed)
        done = [one for one in observed if one.accuracy is not None]
        if len({one.accuracy for one in done}) < 2 or len({one.latency_ms for one in done}) < 2:
            return math.inf  # nothing was learned
        results = [*results_of(observed), *(self._memory.prior or ())]
        model = AccuracyModel.fit(pool.scale, results, noise=None)
        tried = {one.arch_id for one in observed}
        left = np.array([one.arch.arch_id not in tried for one in pool.candidates], dtype=bool)
        accuracies = np.array([one.accuracy or 0.0 for one in done])
        latencies_ms = np.array([one.latency_ms for one in done])
        improvement = improvement_by(self._objective, accuracies, latencies_ms, pool.latencies_ms[left])
        gain = expected_gain(model, pool.design[left], improvement, rng=self._rng)
        return max(gain.best, gain.next)  # what the features do not explain can be found by training alone

    def _with_neighbours(self, observed: Sequence[Observed]) -> Pool:
        """The pool, and children of the most accurate networks of a large space."""
        pool = self._memory.pool(self._pricer)
        known = sorted((one for one in observed if one.accuracy is not None), key=lambda one: -(one.accuracy or 0.0))
        if pool.complete or not known:
            return pool
        parents = [one.genotype for one in known[:_PARENTS]]
        genotypes = neighbours(parents, self._pricer.space.parameters, _CHILDREN, self._random)
        return pool.with_more(feasible_candidates(self._pricer, genotypes))

    def propose(self, observed: Sequence[Observed]) -> Candidate:
        """The next network to try, given what is ``observed``.

        Raises: NoCandidateLeft.
        """
        tried = {one.arch_id for one in observed}
        prior = self._memory.prior or ()
        is_startup = len(observed) < self._startup and not prior
        if is_startup and not is_small(self._pricer):  # a pool takes a second or two
            for candidate in drawn_candidates(self._pricer, self._random):
                if candidate.arch.arch_id not in tried:
                    return candidate
        pool = self._memory.pool(self._pricer)
        if not pool.candidates:
            raise NoCandidateLeft(f"no candidate in space {self._pricer.space.name!r} meets the limits.")
        if is_startup:
            order = self._rng.permutation(len(pool.candidates))
            return self._first_untried(pool.candidates, order, tried)
        results = [*results_of(observed), *prior]
        scores: Scores = "normal" if self._objective.kind == "pareto" else "exponential"
        model = AccuracyModel.fit(pool.scale, results, scores=scores)
        acquisition = _Acquisition(model, self._objective, observed, pool, self._rng)
        values = acquisition.values(pool)
        if not pool.complete:
            pool, values = self._with_children(pool, values, acquisition)
        return self._first_untried(pool.candidates, np.argsort(-values, kind="stable"), tried)

    def _with_children(self, pool: Pool, values: FloatArray, acquisition: _Acquisition) -> tuple[Pool, FloatArray]:
        """``pool`` and ``values`` with generations of children of the best ones.

        The first generation has parents among the networks of the study, too: a random sample of a large space has
        nothing as good as those.
        """
        parameters = self._pricer.space.parameters
        parents = [one.genotype for one in acquisition.best_known(_PARENTS)]
        for _ in range(_GENERATIONS):
            best = np.argsort(-values, kind="stable")[:_PARENTS]
            parents = [*parents, *(pool.candidates[place].genotype for place in best)]
            genotypes = neighbours(parents, parameters, _CHILDREN, self._random)
            children = feasible_candidates(self._pricer, genotypes)
            known = len(pool.candidates)
            pool = pool.with_more(children)
            values = np.concatenate([values, acquisition.values(pool, first=known)])
            parents = []
        return pool, values

    def _first_untried(self, candidates: Sequence[Candidate], order: Iterable[int], tried: set[str]) -> Candidate:
        for place in order:
            if candidates[place].arch.arch_id not in tried:
                return candidates[place]
        what = "network" if self._memory.pool(self._pricer).complete else "candidate"
        limits = " that meet the limits" if self._pricer.constraints.limits else ""
        raise NoCandidateLeft(
            f"all {plural(len(candidates), what)} in space {self._pricer.space.name!r}{limits} have been tried."
        )


class _Acquisition:
    """Values of networks by one sample of the model's posterior."""

    def __init__(
        self,
        model: AccuracyModel,
        objective: ObjectiveSettings,
        observed: Sequence[Observed],
        pool: Pool,
        rng: np.random.Generator,
    ) -> None:
        self._model, self._objective = model, objective
        self._weights = model.sample_weights(rng)[0]
        self._is_score = self._counts_as_score(pool)
        self._known = [one for one in observed if one.accuracy is not None or one.is_running]
        self._scores, self._latencies_ms = self._known_scores(), np.array([one.latency_ms for one in self._known])
        lowest = self._scores.min() if len(self._known) else (pool.design @ self._weights).min()
        slowest = max(pool.latencies_ms.max(), self._latencies_ms.max(initial=0.0))
        self._front = front_levels(
            self._scores,
            self._latencies_ms,
            reference_value=float(lowest) - _BELOW,
            reference_cost=float(np.nextafter(slowest, np.inf)),
        )

    def values(self, pool: Pool, first: int = 0) -> FloatArray:
        """Acquisition values (M,) of ``pool`` from the place ``first`` on.

        The highest is the best.
        """
        scores = pool.design[first:] @ self._weights
        if self._objective.kind == "pareto":
            gains = hypervolume_improvement(self._front, scores, pool.latencies_ms[first:])
            below = self._below_front(scores, pool.latencies_ms[first:])
            values: FloatArray = np.where(gains > 0, gains, below)
            return values
        return self._rewards(scores, pool.latencies_ms[first:])

    def best_known(self, count: int) -> list[Observed]:
        """The ``count`` best of the networks that were tried, those of the front first."""
        if self._objective.kind == "pareto":
            values = self._below_front(self._scores, self._latencies_ms)
        else:
            values = self._rewards(self._scores, self._latencies_ms)
        return [self._known[place] for place in np.argsort(-values, kind="stable")[:count]]

    def _counts_as_score(self, pool: Pool) -> bool:
        """Whether scores alone tell which reward is higher, or nothing else is known.

        Beyond the best result accuracies are a guess, scores are not.
        """
        if self._objective.kind == "pareto":
            return True
        factors = {self._objective.reward(1.0, float(one)) for one in pool.latencies_ms}
        return len(factors) < 2 or len(self._model.knots) < 2

    def _known_scores(self) -> FloatArray:
        """Scores of the networks that were tried; sampled while they are trained."""
        sampled = self._model.scale.transform([one.features for one in self._known]) @ self._weights
        found = np.array([np.nan if one.accuracy is None else one.accuracy for one in self._known])
        scores: FloatArray = np.where(np.isnan(found), sampled, self._model.score_of(found))
        return scores

    def _below_front(self, scores: FloatArray, latencies_ms: FloatArray) -> FloatArray:
        """How far networks are below the front, as values that are lower than any gain."""
        below: FloatArray = np.minimum(scores - self._front.at(latencies_ms), 0.0)
        return below

    def _rewards(self, scores: FloatArray, latencies_ms: FloatArray) -> FloatArray:
        if self._is_score:
            return scores
        factors = np.array([self._objective.reward(1.0, float(one)) for one in latencies_ms])
        rewards: FloatArray = self._model.accuracy_of(scores) * factors
        return rewards
