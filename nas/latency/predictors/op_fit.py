"""Fit of feature prices to measured networks.

It is non-negative least squares on relative errors, regularised towards prior prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.arch.ops.network import network_ops
from nas.arch.spec import ArchSpec
from nas.latency.arrays import FloatArray
from nas.latency.predictors.op_features import LANES, op_features, prior_price, total_features

FeatureRow = Mapping[str, float]

# Weight of the priors relative to the measurements. 0.0005 to 0.006 made no difference on held-out networks; 0.03
# doubled their error. It only determines what the measurements do not.
RIDGE: Final = 0.003
_FOLDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Price of each feature in ms per unit.

    A feature that the fit did not see costs ``scale`` times its prior price. ``lane``: channels of one vector.
    """

    values: Mapping[str, float]
    scale: float
    lane: int

    def of(self, name: str) -> float:
        """Price of feature ``name`` in ms per unit."""
        return self.values.get(name, self.scale * prior_price(name))

    def total_ms(self, row: FeatureRow) -> float:
        """Latency in ms of a network whose features sum to ``row``."""
        return sum(value * self.of(name) for name, value in row.items())


def network_row(spec: ArchSpec, lane: int) -> dict[str, float]:
    """Features of a whole network, summed by name."""
    return total_features(op_features(op, lane) for op in network_ops(spec))


def fit_prices(specs: Sequence[ArchSpec], latencies_ms: Sequence[float]) -> Prices:
    """Prices that best explain ``latencies_ms`` of ``specs``, and the vector width.

    The width is the one of ``LANES`` with the smallest median relative error in five-fold cross-validation.
    """
    target = np.asarray(latencies_ms)
    rows = {lane: [network_row(spec, lane) for spec in specs] for lane in LANES}
    best = min(LANES, key=lambda lane: _validation_error(rows[lane], target, lane))
    return fit_price_rows(rows[best], target, best)


def fit_price_rows(rows: Sequence[FeatureRow], latencies_ms: FloatArray, lane: int) -> Prices:
    """Prices for summed features of networks and their latencies.

    ``rows``: one mapping per network; ``latencies_ms``: shape (networks,). Minimises the squared relative error plus
    ``RIDGE`` times the squared relative distance to the scaled priors.
    """
    from scipy.optimize import nnls  # for fits only: predictors are loaded more often than fitted

    names = sorted({name for row in rows for name in row})
    priors = np.array([prior_price(name) for name in names])
    features = np.array([[row.get(name, 0.0) for name in names] for row in rows]) * priors
    # Priors are rough: one factor scales them to the speed of this device. The median is robust against outliers.
    scale = float(np.median(latencies_ms / features.sum(axis=1)))
    relative = features * scale / latencies_ms[:, None]
    ridge = RIDGE * np.sqrt(len(rows))
    solution, _ = nnls(
        np.vstack([relative, ridge * np.eye(len(names))]),
        np.concatenate([np.ones(len(rows)), np.full(len(names), ridge)]),
    )
    values = dict(zip(names, (solution * scale * priors).tolist(), strict=True))
    return Prices(values=values, scale=scale, lane=lane)


def _validation_error(rows: Sequence[FeatureRow], latencies_ms: FloatArray, lane: int) -> float:
    """Median relative error of five-fold cross-validation.

    ``latencies_ms``: shape (networks,), in the order of ``rows``.
    """
    fold = np.arange(len(rows)) % _FOLDS
    errors: list[float] = []
    for test_fold in range(min(_FOLDS, len(rows))):
        seen, unseen = np.flatnonzero(fold != test_fold).tolist(), np.flatnonzero(fold == test_fold).tolist()
        prices = fit_price_rows([rows[index] for index in seen], latencies_ms[seen], lane)
        errors += [abs(prices.total_ms(rows[index]) / latencies_ms[index] - 1) for index in unseen]
    return float(np.median(errors))
