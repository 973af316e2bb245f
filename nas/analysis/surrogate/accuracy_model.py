"""Model of how accurate a network is among others, learned from a study's results.

A Bayesian linear regression on scores of ranks: a search needs to know which network is better, and accuracies of
poor networks lie so far apart that they would hide it. Measured on NAS-Bench-Macro, where the raw accuracies found the
best network in hardly any of 100 searches of 130 trainings, and scores of ranks after a median of about 30.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from nas.analysis.bayesian_regression import FloatArray, LinearPosterior, linear_posterior
from nas.analysis.rank_agreement import average_ranks
from nas.analysis.surrogate.features import FeatureScale

Scores = Literal["normal", "exponential"]

OWN: Final = ""  # source of the results of the study itself
SEARCH_NOISE: Final = 0.005  # variance of scores
# Of a network's score: shared equally among the features of whole networks, and among those of stages. However many
# choices a space has, size and depth keep their weight.
_NETWORK_VARIANCE: Final = 0.5
_STAGE_VARIANCE: Final = 0.7
_CONSTANT_VARIANCE: Final = 4.0
_PRIOR_MEANS: Final = {"log_macs": 0.3}  # within a space larger networks are more accurate, as a rule
_NOISES: Final = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)  # variances tried for calibrated predictions
_CORRELATIONS: Final = (0.0, 0.5, 0.8, 0.95)  # of another source with the study, tried
_TYPICAL_CORRELATION: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Result of one network of ``features``: its ``accuracy`` in [0, 1].

    ``source``: what gave it; results are ranked among those of their source, and sources are correlated as far as
    their results agree. ``variance``: of its score, beyond that of every result.
    """

    features: Mapping[str, float]
    accuracy: float
    source: str = OWN
    variance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyModel:
    """Posterior of the scores of networks, given the results of a study and of others.

    ``scale``: which features it has, P of them. ``posterior``: of the weights of P features for the study, and of as
    many for what each other source has of its own. ``knots``: scores of the study's results, ascending, with their
    ``accuracies``. ``correlations``: of other sources with the study. ``noise``: variance of a result's score around
    what the features explain.
    """

    scale: FeatureScale
    posterior: LinearPosterior
    knots: FloatArray
    accuracies: FloatArray
    correlations: Mapping[str, float]
    noise: float

    @classmethod
    def fit(
        cls,
        scale: FeatureScale,
        results: Sequence[Evaluated],
        *,
        scores: Scores = "normal",
        noise: float | None = SEARCH_NOISE,
    ) -> AccuracyModel:
        """Learn from ``results``, of which there may be none.

        ``scores``: ``normal`` scores of ranks (van der Waerden), or ``exponential`` ones (Savage), which tell the best
        ones apart more finely. ``noise``: None chooses the variance by its marginal likelihood, for predictions whose
        errors are to be believed. A search is better off with little: with the likelier, larger one it keeps to a few
        features, and never finds what the others say about the best networks.
        """
        accuracies = np.array([one.accuracy for one in results])
        sources = [one.source for one in results]
        is_own = np.array([source == OWN for source in sources], dtype=bool)
        targets = scores_by_source(results, scores)
        data = _Data(
            design=scale.transform([one.features for one in results]),
            targets=targets,
            sources=sources,
            extra=np.array([one.variance for one in results]),
            scale=scale,
        )
        correlations = dict.fromkeys(sorted(set(sources) - {OWN}), _TYPICAL_CORRELATION)
        for source in correlations if is_own.any() else ():  # before the study has results nothing tells
            alone = data.of_source(source)
            evidence = [alone.posterior({source: one}, noise or SEARCH_NOISE).log_evidence for one in _CORRELATIONS]
            correlations[source] = _CORRELATIONS[int(np.argmax(evidence))]
        variances = (noise,) if noise is not None else _NOISES
        posteriors = [(data.posterior(correlations, variance), variance) for variance in variances]
        posterior, variance = max(posteriors, key=lambda pair: pair[0].log_evidence)
        knots, accuracies = _knots(targets[is_own], accuracies[is_own])
        return cls(
            scale=scale,
            posterior=posterior,
            knots=knots,
            accuracies=accuracies,
            correlations=correlations,
            noise=variance,
        )

    @property
    def prior_mean(self) -> FloatArray:
        """Prior means (Q,) of all weights of the posterior."""
        return _prior_mean(self.scale, len(self.correlations))

    def design_of(self, results: Sequence[Evaluated]) -> FloatArray:
        """Design (N, Q) of ``results`` in all weights of the posterior."""
        design = self.scale.transform([one.features for one in results])
        return _with_sources(design, [one.source for one in results], self.correlations)

    def sample(self, design: FloatArray, rng: np.random.Generator, draws: int = 1) -> FloatArray:
        """Sample scores (draws, M) of networks.

        ``design``: their standardised features (M, P).
        """
        scores: FloatArray = self.sample_weights(rng, draws) @ design.T
        return scores

    def sample_weights(self, rng: np.random.Generator, draws: int = 1) -> FloatArray:
        """Sampled weights of the features in the study itself, (draws, P)."""
        return self.posterior.sample(rng, draws)[:, : len(self.scale.names)]

    def predict(self, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Predict scores of results: mean and standard deviation (M,).

        ``design``: standardised features of their networks (M, P).
        """
        places = slice(0, len(self.scale.names))
        own = LinearPosterior(
            mean=self.posterior.mean[places], covariance=self.posterior.covariance[places, places], log_evidence=0.0
        )
        mean, variance = own.predict(design)
        return mean, np.sqrt(np.maximum(variance, 0.0) + self.noise)

    def score_of(self, accuracies: FloatArray) -> FloatArray:
        """Scores of ``accuracies`` among the study's results, by interpolation.

        0 where there are no results.
        """
        if not len(self.knots):
            return np.zeros(np.shape(accuracies))
        return np.interp(accuracies, self.accuracies, self.knots)

    def accuracy_of(self, scores: FloatArray) -> FloatArray:
        """Accuracies in [0, 1] of ``scores``, by interpolation.

        Beyond the study's results by the slope of the outer quarter. 0.5 where there are no results.
        """
        if len(self.knots) < 2:
            return np.full(np.shape(scores), float(self.accuracies[0]) if len(self.knots) else 0.5)
        quarter = max(1, len(self.knots) // 4)
        inner = np.interp(scores, self.knots, self.accuracies)
        above = scores - self.knots[-1]
        below = scores - self.knots[0]
        steep = _slope(self.knots, self.accuracies, -1 - quarter, -1)
        shallow = _slope(self.knots, self.accuracies, 0, quarter)
        outer = np.where(above > 0, above * steep, np.where(below < 0, below * shallow, 0.0))
        return np.clip(inner + outer, 0.0, 1.0)


def _prior_mean(scale: FeatureScale, sources: int) -> FloatArray:
    """Prior means (Q,) of the study's weights, and of those of other ``sources``."""
    own = [_PRIOR_MEANS.get(name, 0.0) for name in scale.names]
    return np.array(own + [0.0] * len(own) * sources)


def _prior_variances(scale: FeatureScale) -> FloatArray:
    """Prior variances (P,) of the weights of the features in ``scale``."""
    is_stage, is_constant = scale.of_stages, scale.is_constant
    is_network = ~(is_stage | is_constant)
    variances = np.full(len(is_stage), _CONSTANT_VARIANCE)
    variances[is_stage] = _STAGE_VARIANCE / max(int(is_stage.sum()), 1)
    variances[is_network] = _NETWORK_VARIANCE / max(int(is_network.sum()), 1)
    return variances


def _slope(x: FloatArray, y: FloatArray, first: int, last: int) -> float:
    return float((y[last] - y[first]) / (x[last] - x[first]))


def scores_by_source(results: Sequence[Evaluated], kind: Scores = "normal") -> FloatArray:
    """Standardised scores (N,) of the ranks of ``results`` within their source."""
    scores = np.zeros(len(results))
    for source in {one.source for one in results}:
        places = [place for place, one in enumerate(results) if one.source == source]
        scores[places] = rank_scores(np.array([results[place].accuracy for place in places]), kind)
    return scores


def rank_scores(values: FloatArray, kind: Scores = "normal") -> FloatArray:
    """Scores (N,) of the ranks of ``values``, with mean 0 and variance 1.

    Ties share a rank. ``normal``: quantiles of the normal distribution (van der Waerden). ``exponential``: of the
    exponential one, so that the best differ most (Savage).
    """
    count = len(values)
    ranks = average_ranks(values)
    raw = _normal_quantiles(count)[_half_ranks(ranks)] if kind == "normal" else -np.log1p(-(ranks - 0.5) / count)
    deviation = float(raw.std())
    scores: FloatArray = (raw - raw.mean()) / deviation if deviation > 0 else np.zeros(count)
    return scores


@lru_cache(maxsize=64)
def _normal_quantiles(count: int) -> FloatArray:
    """Normal quantiles (2 count - 1,) at ranks 1, 1.5, ... of ``count``.

    By the standard library: reports load no SciPy.
    """
    normal = NormalDist()
    return np.array([normal.inv_cdf((rank / 2 + 0.5) / count) for rank in range(2 * count - 1)])


def _half_ranks(ranks: FloatArray) -> npt.NDArray[np.int64]:
    """Places of average ``ranks`` among 1, 1.5, 2, ..."""
    return np.asarray(np.rint(2 * ranks - 2), dtype=np.int64)


def _knots(scores: FloatArray, accuracies: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distinct ``scores``, ascending, with their accuracies."""
    distinct, first = np.unique(scores, return_index=True)
    return distinct, accuracies[first]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """Data and prior of a fit.

    ``design``: standardised features (N, P); ``targets``: scores (N,), by ``sources``. ``extra``: variances of the
    scores beyond the common one, (N,).
    """

    design: FloatArray
    targets: FloatArray
    sources: Sequence[str]
    extra: FloatArray
    scale: FeatureScale

    def of_source(self, source: str) -> _Data:
        """The data of the study and of one other ``source``."""
        places = [place for place, one in enumerate(self.sources) if one in (OWN, source)]
        return replace(
            self,
            design=self.design[places],
            targets=self.targets[places],
            sources=[self.sources[place] for place in places],
            extra=self.extra[places],
        )

    def posterior(self, correlations: Mapping[str, float], noise: float) -> LinearPosterior:
        """Posterior of the study's weights, and of those of each other source.

        A source's weights are r times the study's plus sqrt(1 - r^2) times its own, of equal prior variance: the
        intrinsic coregionalisation model with correlation r (Bonilla et al., Multi-task Gaussian process prediction,
        2007).
        """
        blocks = _with_sources(self.design, self.sources, correlations)
        variances = np.tile(_prior_variances(self.scale), 1 + len(correlations))
        mean = _prior_mean(self.scale, len(correlations))
        return linear_posterior(blocks, self.targets, noise + self.extra, mean, variances)


def _with_sources(design: FloatArray, sources: Sequence[str], correlations: Mapping[str, float]) -> FloatArray:
    """Design matrix of the study's weights, and of each other source's own."""
    shared = np.array([correlations.get(source, 1.0) for source in sources])
    blocks = [design * shared[:, None]]
    for source, correlation in correlations.items():
        is_it = np.array([one == source for one in sources])
        blocks.append(design * (is_it * math.sqrt(1 - correlation**2))[:, None])
    return np.hstack(blocks)
