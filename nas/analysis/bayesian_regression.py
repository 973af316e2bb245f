"""Bayesian linear regression with known noise, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_JITTER = 1e-10  # of the largest variance: a posterior of exact data is singular


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPosterior:
    """Posterior of the weights of a linear model.

    ``mean``: (P,); ``covariance``: (P, P). ``log_evidence``: logarithm of the marginal likelihood of the targets.
    """

    mean: FloatArray
    covariance: FloatArray
    log_evidence: float

    def predict(self, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance (M,) of the noiseless values at ``design`` (M, P)."""
        return design @ self.mean, np.einsum("mp,pq,mq->m", design, self.covariance, design)

    def sample(self, rng: np.random.Generator, draws: int = 1) -> FloatArray:
        """``draws`` samples of the weights, (draws, P)."""
        jitter = _JITTER * max(float(np.diag(self.covariance).max(initial=0.0)), _JITTER)
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0) + jitter)
        sampled: FloatArray = self.mean + rng.standard_normal((draws, len(self.mean))) @ root.T
        return sampled


def linear_posterior(
    design: FloatArray, targets: FloatArray, noise: FloatArray, prior_mean: FloatArray, prior_variance: FloatArray
) -> LinearPosterior:
    """Posterior of the weights w of ``targets`` (N,) = ``design`` (N, P) w + noise.

    ``noise``: variance of each target (N,). The prior of w is normal with ``prior_mean`` (P,) and independent
    ``prior_variance`` (P,), which may be 0. Bishop, Pattern Recognition and Machine Learning, 2006, equations 2.113 to
    2.117: in the form of Gaussian processes, of N targets, or in that of P weights, whichever is smaller.
    """
    if len(targets) > len(prior_mean) and (prior_variance > 0).all():
        return _of_weights(design, targets, noise, prior_mean, prior_variance)
    spread = design * prior_variance
    marginal = spread @ design.T + np.diag(noise)
    gain = np.linalg.solve(marginal, spread).T
    residuals = targets - design @ prior_mean
    _, log_determinant = np.linalg.slogdet(marginal)
    misfit = residuals @ np.linalg.solve(marginal, residuals)
    return LinearPosterior(
        mean=prior_mean + gain @ residuals,
        covariance=np.diag(prior_variance) - gain @ spread,
        log_evidence=float(-0.5 * (misfit + log_determinant + len(targets) * math.log(2 * math.pi))),
    )


def _of_weights(
    design: FloatArray, targets: FloatArray, noise: FloatArray, prior_mean: FloatArray, prior_variance: FloatArray
) -> LinearPosterior:
    """``linear_posterior`` for many targets: its cost grows with N, not with its cube."""
    weighted = design / noise[:, None]
    precision = weighted.T @ design + np.diag(1 / prior_variance)
    covariance = np.linalg.inv(precision)
    residuals = targets - design @ prior_mean
    shift = covariance @ (weighted.T @ residuals)
    _, log_determinant = np.linalg.slogdet(precision)
    log_determinant += float(np.log(noise).sum() + np.log(prior_variance).sum())
    misfit = float(residuals @ (residuals / noise) - shift @ precision @ shift)
    return LinearPosterior(
        mean=prior_mean + shift,
        covariance=(covariance + covariance.T) / 2,
        log_evidence=float(-0.5 * (misfit + log_determinant + len(targets) * math.log(2 * math.pi))),
    )
