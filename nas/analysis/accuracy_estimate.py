"""Accuracy estimated from scores and counts, as learned from trained networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from nas.analysis.bayesian_regression import FloatArray, LinearPosterior, linear_posterior
from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.statistics import binomial_error
from nas.estimators.base import Estimate

_COUNTS: Final = 3  # see ``_features``
_NOISE_OF_LOSSES: Final = 0.5  # of logits from losses, as a part of those of accuracies on the same images
_LEAST_ON_A_LINE: Final = 4  # networks, of which two settle the line
_IMAGES: Final = 1000  # validation images, where a record does not state them
_INTERCEPT_DEVIATIONS: Final = 10.0  # of the prior of the mean accuracy: so many deviations of the accuracies
# Hyperparameters, in standard deviations of the trained accuracies; their posterior weights average the estimates.
_SLOPES: Final = (0.25, 0.5, 1.0)  # what one standard deviation of the mean score is worth, before any training
_WEIGHT_DEVIATIONS: Final = (0.02, 0.1, 0.3)  # how far a weight may be from that
_MISFITS: Final = (0.1, 0.25, 0.5, 1.0)  # of noise between seeds, and of what no feature explains


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """A trained network to learn from: its ``scores`` by name and its accuracy.

    ``images``: of the validation split; ``loss``: on it, of classes in nats; None if unknown. ``error``: standard error
    of a score that is no share of images; None for the binomial one of ``images``.
    """

    arch: ArchSpec
    scores: Mapping[str, float]
    accuracy: float
    images: int | None = None
    loss: float | None = None
    error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyEstimator:
    """Estimate of the accuracy that a training would give, from scores and counts.

    A Bayesian linear regression on the logit of accuracy, which is replaced by what the validation loss says of it
    where all losses are known (``_denoised``). Features are the scores by ``names``, and logarithms of MACs
    and parameters, and depth, each centred and divided by its standard deviation over the networks that it was fitted
    to. Before any training, scores count equally and counts not at all; trained networks move these weights. What a
    score is worth, how far weights may move, and the noise are averaged over a small grid by their marginal
    likelihood.
    """

    names: tuple[str, ...]
    center: FloatArray
    scale: FloatArray
    posteriors: tuple[LinearPosterior, ...]
    weights: FloatArray
    misfits: FloatArray

    @classmethod
    def fit(
        cls, networks: Sequence[TrainedNetwork], names: Sequence[str], *, mean: float | None = None
    ) -> AccuracyEstimator:
        """Learn from trained ``networks``, at least two.

        ``mean``: the mean logit of accuracy, where it is known from more networks.
        """
        features = np.array([_features(one.arch, one.scores, names) for one in networks])
        center, deviation = features.mean(axis=0), features.std(axis=0)
        scale = np.where(deviation > 1e-12 * (1 + abs(center)), deviation, np.inf)  # a constant says nothing
        targets, errors, floors = _denoised(networks)
        spread = max(float(targets.std()), float(np.median(floors)))
        design = _with_intercept((features - center) / scale)
        known_mean = float(targets.mean()) if mean is None else mean
        mean_deviation = _INTERCEPT_DEVIATIONS * spread if mean is None else 0.0
        posteriors, misfits = [], []
        for slope, deviations, misfit in product(_SLOPES, _WEIGHT_DEVIATIONS, _MISFITS):
            # Noise between seeds is about as large as that of the images: never assumed to be far below it.
            variance = np.maximum(misfit * spread, floors) ** 2
            weights = _prior_weights(len(names), slope * spread)
            prior_mean = np.array([known_mean, *weights])
            prior_variance = np.array([mean_deviation, *[deviations * spread] * len(weights)]) ** 2
            posteriors.append(linear_posterior(design, targets, errors**2 + variance, prior_mean, prior_variance))
            misfits.append(float(variance.mean()))
        evidence = np.array([posterior.log_evidence for posterior in posteriors])
        likelihoods = np.exp(evidence - evidence.max())
        return cls(
            names=tuple(names),
            center=center,
            scale=scale,
            posteriors=tuple(posteriors),
            weights=likelihoods / likelihoods.sum(),
            misfits=np.array(misfits),
        )

    def estimate(self, arch: ArchSpec, scores: Mapping[str, float]) -> Estimate:
        """Estimate the accuracy of ``arch`` from its ``scores``, in (0, 1).

        Its standard error is that of the network's own accuracy, without the noise of the validation images.
        """
        row = _with_intercept(((np.array(_features(arch, scores, self.names)) - self.center) / self.scale)[None])
        means, variances = np.array([posterior.predict(row) for posterior in self.posteriors])[:, :, 0].T
        mean = float(self.weights @ means)
        variance = float(self.weights @ (variances + self.misfits + (means - mean) ** 2))
        accuracy = 1 / (1 + math.exp(-mean))
        return Estimate(accuracy, accuracy * (1 - accuracy) * math.sqrt(variance))


def leave_one_out(networks: Sequence[TrainedNetwork], names: Sequence[str]) -> list[Estimate]:
    """Estimate of each of ``networks``, at least three, learned from the others.

    Only the mean accuracy is that of all: without one network the mean moves away from it, so that estimates of no
    worth would order eight networks with Kendall's tau of -0.28 on average, instead of 0.
    """
    mean = float(_denoised(networks)[0].mean())
    return [
        AccuracyEstimator.fit([*networks[:place], *networks[place + 1 :]], names, mean=mean).estimate(
            one.arch, one.scores
        )
        for place, one in enumerate(networks)
    ]


def _features(arch: ArchSpec, scores: Mapping[str, float], names: Sequence[str]) -> list[float]:
    cost = complexity(arch)
    return [*(scores[name] for name in names), math.log(cost.macs), math.log(cost.params), float(arch.depth)]


def _with_intercept(features: FloatArray) -> FloatArray:
    return np.hstack([np.ones((len(features), 1)), features])


def _logit(network: TrainedNetwork) -> tuple[float, float]:
    """Logit of an accuracy, half an image away from 0 and 1, and its standard error."""
    images = network.images or _IMAGES
    accuracy = min(max(network.accuracy, 0.5 / images), 1 - 0.5 / images)
    error = max(network.error, 0.5 / images) if network.error is not None else binomial_error(accuracy, images)
    return math.log(accuracy / (1 - accuracy)), error / (accuracy * (1 - accuracy))


def _denoised(networks: Sequence[TrainedNetwork]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Logits of accuracies, their errors, and floors of their noise, each (N,).

    The floors are of the noise between seeds. The validation loss orders networks with less noise than the accuracy
    does. Where all have one, each logit is that of the regression line over the logarithm of the loss; its error is the
    scatter around the line that the images do not explain, and the floor is half of the noise of the images.
    """
    logits, errors = np.array([_logit(one) for one in networks]).T
    losses = np.array([one.loss or math.nan for one in networks])
    if len(networks) < _LEAST_ON_A_LINE or not np.isfinite(losses).all() or 0 in (np.ptp(losses), np.ptp(logits)):
        return logits, errors, errors
    slope, intercept = np.polyfit(np.log(losses), logits, 1)
    if slope >= 0:  # the loss says nothing of these accuracies
        return logits, errors, errors
    fitted = slope * np.log(losses) + intercept
    scatter = float(((logits - fitted) ** 2).sum()) / (len(networks) - 2)
    unexplained = math.sqrt(max(scatter - float((errors**2).mean()), 0.0))
    return fitted, np.full(len(networks), unexplained), _NOISE_OF_LOSSES * errors


def _prior_weights(scores: int, slope: float) -> list[float]:
    """Weights of scores and counts before any training."""
    return [*[slope / max(scores, 1)] * scores, *[0.0] * _COUNTS]
