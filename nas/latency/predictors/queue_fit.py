"""Bayesian fit of queue-law prices to a few whole networks.

Priors are rough defaults, or prices fitted to other devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, least_squares

from nas.latency.predictors.queue_law import ISSUE, NAMES, PRICES, Array

Progress = Callable[[int, int], None]

# Relative noise that is still taken seriously; what lies further off counts ever less (Cauchy). On the once-for-all
# measurements 0.05 to 0.1 were alike: less is better for ten networks, more where a fifth of the runs were slow.
NOISE: Final = 0.07
_FOLDS: Final = 10
_SCALE_SPREAD: Final = 5.0  # devices differ by any factor
_RATIO_SPREAD: Final = 3.0  # and so does the speed of the host beside the processor's
_KIN_RATIO_SPREAD: Final = 1.0  # less so from a device that was measured, whose batch may be another
_KIN_SPREAD: Final = 0.2  # of one price between two devices, beyond what the first left open
_TWIN_SPREAD: Final = 0.05  # where the other device differs by a factor alone
_OPEN: Final = 1.5  # no price is less known than this
# Issues over work of a network: where the search for prices starts. With the host and the processor level, either way
# of lowering a price looks wrong on its own, and a single start is easily trapped.
_STARTS: Final = (0.03, 0.3, 0.6, 1.0, 2.0, 6.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Prior of the prices: independent normal distributions of their logarithms.

    ``log_ms``: means, logarithms of ms per unit, shape (prices,). ``spread``: standard deviations, shape (prices,).
    ``ratio_spread``: standard deviation of a common factor (as logarithm) of all issue prices relative to work prices.
    """

    log_ms: Array
    spread: Array
    ratio_spread: float = _RATIO_SPREAD


ROUGH_BELIEF: Final = Belief(
    log_ms=np.log([PRICES[name].ms for name in NAMES]), spread=np.array([PRICES[name].spread for name in NAMES])
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePrices:
    """Prices of the queue law, as logarithms of ms per unit with their uncertainty.

    ``log_ms``, ``spread`` (standard deviation): shape (prices,), in the order of ``NAMES``.
    """

    log_ms: Array
    spread: Array

    @property
    def ms(self) -> Array:
        """Prices in ms per unit, shape (prices,), in the order of ``NAMES``."""
        return np.exp(self.log_ms)

    def beliefs(self) -> tuple[Belief, Belief]:
        """Priors for a related device, and for one that differs only in its speed."""
        spread = np.hypot(np.minimum(self.spread, _OPEN), _KIN_SPREAD)
        twin = np.full(len(spread), _TWIN_SPREAD)
        return (
            Belief(log_ms=self.log_ms, spread=spread, ratio_spread=_KIN_RATIO_SPREAD),
            Belief(log_ms=self.log_ms, spread=twin, ratio_spread=_TWIN_SPREAD),
        )


def queue_ms(cuts: Array, prices: QueuePrices) -> Array:
    """Latencies in ms, shape (networks,), by the queue law.

    ``cuts``: design matrices of shape (networks, operations, prices).
    """
    return np.asarray((cuts @ prices.ms).max(axis=1))


def update_belief(
    cuts: Array, latencies_ms: Array, beliefs: Sequence[Belief], progress: Progress | None = None
) -> tuple[QueuePrices, Array]:
    """Fit prices from each of ``beliefs``, average the fits, and cross-validate.

    ``cuts``: design matrices of shape (networks, operations, prices); ``latencies_ms``: shape (networks,). Each prior
    gives a fit; the result is their geometric mean, weighted by how well they predict held-out networks in ten-fold
    cross-validation. ``progress(done, total)``: called with counts of fits.

    Returns the prices, and held-out predictions in ms of shape (networks,).
    """
    fold = np.arange(len(cuts)) % min(_FOLDS, len(cuts))
    fits: list[list[QueuePrices]] = []
    total = (int(fold.max()) + 2) * len(beliefs)
    for held in (*range(int(fold.max()) + 1), None):
        seen = fold != held if held is not None else np.full(len(cuts), True)
        for belief in beliefs:
            if progress:
                progress(sum(map(len, fits)), total)
            if belief is beliefs[0]:
                fits.append([])
            fits[-1].append(fit_queue_prices(cuts[seen], latencies_ms[seen], belief))
    weights = _weights(cuts, latencies_ms, fold, fits)
    held_out_ms = np.empty(len(cuts))
    for held in range(int(fold.max()) + 1):
        held_out_ms[fold == held] = queue_ms(cuts[fold == held], _mean(fits[held], weights))
    if progress:
        progress(total, total)
    return _mean(fits[-1], weights), held_out_ms


def fit_queue_prices(cuts: Array, latencies_ms: Array, belief: Belief) -> QueuePrices:
    """Maximum a posteriori prices, given a prior and measured latencies.

    ``cuts``: design matrices of shape (networks, operations, prices); ``latencies_ms``: shape (networks,), with Cauchy
    noise of relative width ``NOISE``.
    """
    prior = np.exp(belief.log_ms)
    ratio = float(np.median(cuts[:, -1] @ (prior * ISSUE) / (cuts[:, 0] @ (prior * ~ISSUE))))
    found: list[tuple[_Problem, OptimizeResult]] = []
    for start in _STARTS:
        shift = np.log(start / ratio)
        begun = QueuePrices(log_ms=belief.log_ms + shift * ISSUE, spread=belief.spread)
        scale = float(np.median(np.log(latencies_ms) - np.log(queue_ms(cuts, begun))))
        problem = _Problem(cuts=cuts, log_ms=np.log(latencies_ms), belief=belief, scale=scale)
        first = np.concatenate([[scale, shift], np.zeros(len(NAMES))])
        found.append(
            (problem, least_squares(problem.residuals, first, problem.jacobian, loss=problem.loss, max_nfev=100))
        )
    problem, best = min(found, key=lambda pair: float(pair[1].cost))
    return QueuePrices(log_ms=problem.prices(best.x), spread=problem.spread(best.x))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """Least-squares problem of ``fit_queue_prices``.

    Unknowns, shape (2 + prices,): a common scale, the ratio of issue to work prices, and a deviation per price, all
    logarithms. ``cuts``: shape (networks, operations, prices). ``log_ms``: logarithms of measured ms, shape
    (networks,). ``scale``: prior mean of the common scale.
    """

    cuts: Array
    log_ms: Array
    belief: Belief
    scale: float

    def prices(self, unknowns: Array) -> Array:
        """Logarithms of the prices in ms per unit, shape (prices,)."""
        return np.asarray(self.belief.log_ms + unknowns[0] + unknowns[1] * ISSUE + unknowns[2:])

    def residuals(self, unknowns: Array) -> Array:
        """Residuals, shape (networks + unknowns,).

        First those of the networks in units of the noise, then those of the unknowns in units of their spread.
        """
        predicted = (self.cuts @ np.exp(self.prices(unknowns))).max(axis=1)
        centre = np.zeros(len(unknowns))
        centre[0] = self.scale
        return np.concatenate([(np.log(predicted) - self.log_ms) / NOISE, (unknowns - centre) / self._spreads])

    def jacobian(self, unknowns: Array) -> Array:
        """Derivatives of ``residuals``, shape (networks + unknowns, unknowns).

        Between two changes of the operation that attains the maximum, the law is a sum.
        """
        prices = np.exp(self.prices(unknowns))
        times = self.cuts @ prices
        deciding = times.argmax(axis=1)
        rows = np.arange(len(times))
        shares = self.cuts[rows, deciding] * prices / times[rows, deciding][:, None]
        by_network = np.column_stack([shares.sum(axis=1), shares @ ISSUE, shares]) / NOISE
        return np.vstack([by_network, np.diag(1 / self._spreads)])

    def loss(self, squared: Array) -> Array:
        """Robust loss (rho, rho', rho''), shape (3, residuals), of squared residuals.

        Logarithmic for networks, so that no outlier dominates; quadratic for the prior.
        """
        result = np.stack([squared, np.ones_like(squared), np.zeros_like(squared)])
        networks = squared[: len(self.cuts)]
        result[:, : len(self.cuts)] = np.log1p(networks), 1 / (1 + networks), -1 / (1 + networks) ** 2
        return result

    def spread(self, unknowns: Array) -> Array:
        """Posterior standard deviation of each price, shape (prices,).

        It is Laplace's approximation, without scale and ratio.
        """
        weights = np.ones(len(self.cuts) + len(unknowns))
        weights[: len(self.cuts)] = 1 / (1 + self.residuals(unknowns)[: len(self.cuts)] ** 2)
        rows = self.jacobian(unknowns) * np.sqrt(weights)[:, None]
        return np.sqrt(np.diag(np.linalg.inv(rows.T @ rows))[2:])

    @property
    def _spreads(self) -> Array:
        """Prior standard deviations of the unknowns, shape (2 + prices,)."""
        return np.concatenate([[_SCALE_SPREAD, self.belief.ratio_spread], self.belief.spread])


def _weights(
    cuts: Array, latencies_ms: Array, fold: npt.NDArray[np.intp], fits: Sequence[Sequence[QueuePrices]]
) -> Array:
    """Weight of each prior, shape (priors,), by the likelihood of held-out networks.

    It is the square root of the likelihood, because few networks make that noisy. ``fold``: fold of each network, shape
    (networks,). ``fits``: by fold, then by prior; the last is the fit to all networks.
    """
    losses = np.zeros(len(fits[0]))
    for held, prices in enumerate(fits[:-1]):
        unseen = fold == held
        for index, price in enumerate(prices):
            error = np.log(queue_ms(cuts[unseen], price) / latencies_ms[unseen]) / NOISE
            losses[index] += np.log1p(error**2).sum()
    weights = np.exp((losses.min() - losses) / 2)
    return np.asarray(weights / weights.sum())


def _mean(prices: Sequence[QueuePrices], weights: Array) -> QueuePrices:
    """Weighted geometric mean of prices; ``weights`` has shape (priors,)."""
    return QueuePrices(
        log_ms=sum(weight * price.log_ms for weight, price in zip(weights, prices, strict=True)),
        spread=sum(weight * price.spread for weight, price in zip(weights, prices, strict=True)),
    )
