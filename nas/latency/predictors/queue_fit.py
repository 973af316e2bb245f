"""Fit the prices of the queue law to a few whole networks, from rough beliefs or from what other devices taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, least_squares

from nas.core.progress import ProgressCallback
from nas.latency.arrays import FloatArray
from nas.latency.predictors.queue_law import ISSUE, NAMES, PRICES

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
    """Prices before the measurements, as logarithms of ms [names], and how far each may move (standard deviation).

    ``ratio_spread``: how far all prices of issuing may move together against those of work.
    """

    log_ms: FloatArray
    spread: FloatArray
    ratio_spread: float = _RATIO_SPREAD


ROUGH_BELIEF: Final = Belief(
    log_ms=np.log([PRICES[name].ms for name in NAMES]), spread=np.array([PRICES[name].spread for name in NAMES])
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePrices:
    """Prices of the queue law as logarithms of ms per unit [names], and their standard deviation."""

    log_ms: FloatArray
    spread: FloatArray

    @property
    def ms(self) -> FloatArray:
        """ms per unit of each of ``NAMES``."""
        return np.exp(self.log_ms)

    def beliefs(self) -> tuple[Belief, Belief]:
        """What these prices of one device say of a relative, and of a device that is the same but for its speed."""
        spread = np.hypot(np.minimum(self.spread, _OPEN), _KIN_SPREAD)
        twin = np.full(len(spread), _TWIN_SPREAD)
        return (
            Belief(log_ms=self.log_ms, spread=spread, ratio_spread=_KIN_RATIO_SPREAD),
            Belief(log_ms=self.log_ms, spread=twin, ratio_spread=_TWIN_SPREAD),
        )


def queue_ms(cuts: FloatArray, prices: QueuePrices) -> FloatArray:
    """Latencies in ms [networks] of ``cuts`` [networks, operations, names]."""
    return np.asarray((cuts @ prices.ms).max(axis=1))


def update_belief(
    cuts: FloatArray, latencies_ms: FloatArray, beliefs: Sequence[Belief], progress: ProgressCallback | None = None
) -> tuple[QueuePrices, FloatArray]:
    """Prices for networks [networks, operations, names] with ``latencies_ms``, and ten-fold predictions of them.

    Each belief gives a fit; the result is their mean, weighted by how well they foresee networks that were left out.
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


def fit_queue_prices(cuts: FloatArray, latencies_ms: FloatArray, belief: Belief) -> QueuePrices:
    """The most probable prices, given ``belief`` and ``latencies_ms`` with Cauchy noise of relative width ``NOISE``."""
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
    """The least-squares problem of ``fit``; unknowns are a common scale, the ratio of issues, and each price's own."""

    cuts: FloatArray
    log_ms: FloatArray
    belief: Belief
    scale: float

    def prices(self, unknowns: FloatArray) -> FloatArray:
        """Logarithms of the prices."""
        return np.asarray(self.belief.log_ms + unknowns[0] + unknowns[1] * ISSUE + unknowns[2:])

    def residuals(self, unknowns: FloatArray) -> FloatArray:
        """Of the networks in units of the noise, then of the unknowns in units of their spread."""
        predicted = (self.cuts @ np.exp(self.prices(unknowns))).max(axis=1)
        centre = np.zeros(len(unknowns))
        centre[0] = self.scale
        return np.concatenate([(np.log(predicted) - self.log_ms) / NOISE, (unknowns - centre) / self._spreads])

    def jacobian(self, unknowns: FloatArray) -> FloatArray:
        """Derivatives of ``residuals``: between two changes of the deciding operation the law is a sum."""
        prices = np.exp(self.prices(unknowns))
        times = self.cuts @ prices
        deciding = times.argmax(axis=1)
        rows = np.arange(len(times))
        shares = self.cuts[rows, deciding] * prices / times[rows, deciding][:, None]
        by_network = np.column_stack([shares.sum(axis=1), shares @ ISSUE, shares]) / NOISE
        return np.vstack([by_network, np.diag(1 / self._spreads)])

    def loss(self, squared: FloatArray) -> FloatArray:
        """rho, rho', rho'': logarithmic for networks, so that none can pull hard; the beliefs' squares as they are."""
        result = np.stack([squared, np.ones_like(squared), np.zeros_like(squared)])
        networks = squared[: len(self.cuts)]
        result[:, : len(self.cuts)] = np.log1p(networks), 1 / (1 + networks), -1 / (1 + networks) ** 2
        return result

    def spread(self, unknowns: FloatArray) -> FloatArray:
        """Standard deviation of each price beside scale and ratio (Laplace's approximation)."""
        weights = np.ones(len(self.cuts) + len(unknowns))
        weights[: len(self.cuts)] = 1 / (1 + self.residuals(unknowns)[: len(self.cuts)] ** 2)
        rows = self.jacobian(unknowns) * np.sqrt(weights)[:, None]
        return np.sqrt(np.diag(np.linalg.inv(rows.T @ rows))[2:])

    @property
    def _spreads(self) -> FloatArray:
        return np.concatenate([[_SCALE_SPREAD, self.belief.ratio_spread], self.belief.spread])


def _weights(
    cuts: FloatArray, latencies_ms: FloatArray, fold: npt.NDArray[np.intp], fits: Sequence[Sequence[QueuePrices]]
) -> FloatArray:
    """Weight [beliefs] by the likelihood of the networks left out; its root, because few networks make it noisy."""
    losses = np.zeros(len(fits[0]))
    for held, prices in enumerate(fits[:-1]):
        unseen = fold == held
        for index, price in enumerate(prices):
            error = np.log(queue_ms(cuts[unseen], price) / latencies_ms[unseen]) / NOISE
            losses[index] += np.log1p(error**2).sum()
    weights = np.exp((losses.min() - losses) / 2)
    return np.asarray(weights / weights.sum())


def _mean(prices: Sequence[QueuePrices], weights: FloatArray) -> QueuePrices:
    """Geometric mean of prices."""
    return QueuePrices(
        log_ms=sum(weight * price.log_ms for weight, price in zip(weights, prices, strict=True)),
        spread=sum(weight * price.spread for weight, price in zip(weights, prices, strict=True)),
    )
