"""Bayesian fit of queue-law prices to a few whole networks.

Priors are rough defaults, or prices fitted to other devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from nas.core.progress import ProgressCallback
from nas.latency.arrays import FloatArray
from nas.latency.predictors.queue_law import ISSUE, NAMES, PRICES

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


# Scale of the Cauchy noise of log latencies: networks further off have ever less weight. On the once-for-all
# measurements 0.05 to 0.1 were alike: less is better for ten networks, more where a fifth of the runs were slow.
NOISE: Final = 0.07
_FOLDS: Final = 10
# Standard deviations of logarithms:
_SCALE_SPREAD: Final = 5.0  # of a common factor of all prices: devices differ by any factor
_RATIO_SPREAD: Final = 3.0  # of the speed of the host relative to the processor
_RELATED_RATIO_SPREAD: Final = 1.0  # of that ratio, relative to a measured device, whose batch size may differ
_RELATED_SPREAD: Final = 0.2  # of one price between two devices, in addition to its uncertainty on the first
_SCALED_SPREAD: Final = 0.05  # of one price between two devices that differ by a common factor only
_MAX_SPREAD: Final = 1.5  # upper limit of the uncertainty of a price
# Ratios of issue to work of a network at which the optimiser starts. Where host and processor are balanced, lowering
# either price alone makes the fit worse, and a single start often ends in a local minimum.
_START_RATIOS: Final = (0.03, 0.3, 0.6, 1.0, 2.0, 6.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Prior of the prices: independent normal distributions of their logarithms.

    ``log_ms``: means, logarithms of ms per unit, shape (prices,). ``spread``: standard deviations, shape (prices,).
    ``ratio_spread``: standard deviation of a common factor (as logarithm) of all issue prices relative to work prices.
    """

    log_ms: FloatArray
    spread: FloatArray
    ratio_spread: float = _RATIO_SPREAD


DEFAULT_PRIOR: Final = Prior(
    log_ms=np.log([PRICES[name].ms for name in NAMES]), spread=np.array([PRICES[name].spread for name in NAMES])
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePrices:
    """Prices of the queue law, as logarithms of ms per unit with their uncertainty.

    ``log_ms``, ``spread`` (standard deviation): shape (prices,), in the order of ``NAMES``.
    """

    log_ms: FloatArray
    spread: FloatArray

    @property
    def ms(self) -> FloatArray:
        """Prices in ms per unit, shape (prices,), in the order of ``NAMES``."""
        return np.exp(self.log_ms)

    def priors(self) -> tuple[Prior, Prior]:
        """Priors for a related device, and for one that differs only in its speed."""
        related = np.hypot(np.minimum(self.spread, _MAX_SPREAD), _RELATED_SPREAD)
        scaled = np.full(len(related), _SCALED_SPREAD)
        return (
            Prior(log_ms=self.log_ms, spread=related, ratio_spread=_RELATED_RATIO_SPREAD),
            Prior(log_ms=self.log_ms, spread=scaled, ratio_spread=_SCALED_SPREAD),
        )


def queue_ms(designs: FloatArray, prices: QueuePrices) -> FloatArray:
    """Latencies in ms, shape (networks,), by the queue law.

    ``designs``: design matrices of shape (networks, operations, prices).
    """
    return np.asarray((designs @ prices.ms).max(axis=1))


def fit_and_cross_validate(
    designs: FloatArray, latencies_ms: FloatArray, priors: Sequence[Prior], progress: ProgressCallback | None = None
) -> tuple[QueuePrices, FloatArray]:
    """Fit prices from each of ``priors``, average the fits, and cross-validate.

    ``designs``: design matrices of shape (networks, operations, prices); ``latencies_ms``: shape (networks,). Each
    prior gives a fit; the result is their geometric mean, weighted by how well they predict held-out networks in
    ten-fold cross-validation. ``progress(done, total)``: called with counts of fits.

    Returns the prices, and held-out predictions in ms of shape (networks,).
    """
    fold = np.arange(len(designs)) % min(_FOLDS, len(designs))
    fits: list[list[QueuePrices]] = []
    total = (int(fold.max()) + 2) * len(priors)
    for test_fold in (*range(int(fold.max()) + 1), None):  # None: the final fit to all networks
        seen = fold != test_fold if test_fold is not None else np.full(len(designs), True)
        for prior in priors:
            if progress:
                progress(sum(map(len, fits)), total)
            if prior is priors[0]:
                fits.append([])
            fits[-1].append(fit_queue_prices(designs[seen], latencies_ms[seen], prior))
    weights = _weights(designs, latencies_ms, fold, fits)
    held_out_ms = np.empty(len(designs))
    for test_fold in range(int(fold.max()) + 1):
        unseen = fold == test_fold
        held_out_ms[unseen] = queue_ms(designs[unseen], _mean(fits[test_fold], weights))
    if progress:
        progress(total, total)
    return _mean(fits[-1], weights), held_out_ms


def fit_queue_prices(designs: FloatArray, latencies_ms: FloatArray, prior: Prior) -> QueuePrices:
    """Maximum a posteriori prices, given a prior and measured latencies.

    ``designs``: design matrices of shape (networks, operations, prices); ``latencies_ms``: shape (networks,), with
    Cauchy noise of relative width ``NOISE``.
    """
    from scipy.optimize import least_squares  # for fits only: predictors are loaded more often than fitted

    prior_ms = np.exp(prior.log_ms)
    ratio = float(np.median(designs[:, -1] @ (prior_ms * ISSUE) / (designs[:, 0] @ (prior_ms * ~ISSUE))))
    solutions: list[tuple[_Problem, OptimizeResult]] = []
    for start_ratio in _START_RATIOS:
        shift = np.log(start_ratio / ratio)
        initial = QueuePrices(log_ms=prior.log_ms + shift * ISSUE, spread=prior.spread)
        scale = float(np.median(np.log(latencies_ms) - np.log(queue_ms(designs, initial))))
        problem = _Problem(designs=designs, log_ms=np.log(latencies_ms), prior=prior, scale=scale)
        start = np.concatenate([[scale, shift], np.zeros(len(NAMES))])
        solutions.append(
            (problem, least_squares(problem.residuals, start, problem.jacobian, loss=problem.loss, max_nfev=100))
        )
    problem, best = min(solutions, key=lambda pair: float(pair[1].cost))
    return QueuePrices(log_ms=problem.prices(best.x), spread=problem.spread(best.x))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """Least-squares problem of ``fit_queue_prices``.

    Unknowns, shape (2 + prices,): a common scale, the ratio of issue to work prices, and a deviation per price, all
    logarithms. ``designs``: shape (networks, operations, prices). ``log_ms``: logarithms of measured ms, shape
    (networks,). ``scale``: prior mean of the common scale.
    """

    designs: FloatArray
    log_ms: FloatArray
    prior: Prior
    scale: float

    def prices(self, unknowns: FloatArray) -> FloatArray:
        """Logarithms of the prices in ms per unit, shape (prices,)."""
        return np.asarray(self.prior.log_ms + unknowns[0] + unknowns[1] * ISSUE + unknowns[2:])

    def residuals(self, unknowns: FloatArray) -> FloatArray:
        """Residuals, shape (networks + unknowns,).

        First those of the networks in units of the noise, then those of the unknowns in units of their spread.
        """
        predicted = (self.designs @ np.exp(self.prices(unknowns))).max(axis=1)
        centre = np.zeros(len(unknowns))
        centre[0] = self.scale
        return np.concatenate([(np.log(predicted) - self.log_ms) / NOISE, (unknowns - centre) / self._spreads])

    def jacobian(self, unknowns: FloatArray) -> FloatArray:
        """Derivatives of ``residuals``, shape (networks + unknowns, unknowns).

        Between two changes of the operation that attains the maximum, the law is a sum.
        """
        prices = np.exp(self.prices(unknowns))
        times = self.designs @ prices
        deciding = times.argmax(axis=1)
        rows = np.arange(len(times))
        shares = self.designs[rows, deciding] * prices / times[rows, deciding][:, None]
        by_network = np.column_stack([shares.sum(axis=1), shares @ ISSUE, shares]) / NOISE
        return np.vstack([by_network, np.diag(1 / self._spreads)])

    def loss(self, squared: FloatArray) -> FloatArray:
        """Robust loss (rho, rho', rho''), shape (3, residuals), of squared residuals.

        Logarithmic for networks, so that no outlier dominates; quadratic for the prior.
        """
        result = np.stack([squared, np.ones_like(squared), np.zeros_like(squared)])
        networks = squared[: len(self.designs)]
        result[:, : len(self.designs)] = np.log1p(networks), 1 / (1 + networks), -1 / (1 + networks) ** 2
        return result

    def spread(self, unknowns: FloatArray) -> FloatArray:
        """Posterior standard deviation of each price, shape (prices,).

        It is Laplace's approximation, without scale and ratio.
        """
        weights = np.ones(len(self.designs) + len(unknowns))
        weights[: len(self.designs)] = 1 / (1 + self.residuals(unknowns)[: len(self.designs)] ** 2)
        rows = self.jacobian(unknowns) * np.sqrt(weights)[:, None]
        return np.sqrt(np.diag(np.linalg.inv(rows.T @ rows))[2:])

    @property
    def _spreads(self) -> FloatArray:
        """Prior standard deviations of the unknowns, shape (2 + prices,)."""
        return np.concatenate([[_SCALE_SPREAD, self.prior.ratio_spread], self.prior.spread])


def _weights(
    designs: FloatArray, latencies_ms: FloatArray, fold: npt.NDArray[np.intp], fits: Sequence[Sequence[QueuePrices]]
) -> FloatArray:
    """Weight of each prior, shape (priors,), by the likelihood of held-out networks.

    It is the square root of the likelihood, because few networks make that noisy. ``fold``: fold of each network, shape
    (networks,). ``fits``: by fold, then by prior; the last is the fit to all networks.
    """
    losses = np.zeros(len(fits[0]))
    for test_fold, fold_fits in enumerate(fits[:-1]):
        unseen = fold == test_fold
        for index, prices in enumerate(fold_fits):
            error = np.log(queue_ms(designs[unseen], prices) / latencies_ms[unseen]) / NOISE
            losses[index] += np.log1p(error**2).sum()
    weights = np.exp((losses.min() - losses) / 2)
    return np.asarray(weights / weights.sum())


def _mean(prices: Sequence[QueuePrices], weights: FloatArray) -> QueuePrices:
    """Weighted geometric mean of prices; ``weights`` has shape (priors,)."""
    return QueuePrices(
        log_ms=sum(weight * price.log_ms for weight, price in zip(weights, prices, strict=True)),
        spread=sum(weight * price.spread for weight, price in zip(weights, prices, strict=True)),
    )
