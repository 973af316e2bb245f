"""Fit of feature prices to measured networks.

It is non-negative least squares on relative errors, regularised towards prior prices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.arch.ops.network import network_ops
from nas.arch.spec import ArchSpec
from nas.exporters.rewriting.forms import Forms
from nas.exporters.rewriting.network import rewritten_ops
from nas.latency.arrays import FloatArray
from nas.latency.kernels.xnnpack import Tile
from nas.latency.predictors.op_features import (
    Vectors,
    network_features,
    op_features,
    prior_price,
    total_features,
    vectors_of,
)

FeatureRow = Mapping[str, float]

# Weight of the priors relative to the measurements. 0.0005 to 0.006 made no difference on held-out networks; 0.03
# doubled their error. It only determines what the measurements do not.
RIDGE: Final = 0.003
_FOLDS: Final = 5
# Of a hundred whole networks measured once, by others' tools. On a busy machine their robust fit predicted 42 published
# networks with an RMS error of 4.1%, least squares with 6.2%.
_FEW_RIDGE: Final = 0.005
_NOISE: Final = 0.03  # scale of the Cauchy noise of relative errors; 0.02 to 0.05 were alike
_REWEIGHTED: Final = 8  # times; further ones change prices by less than 1%


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Price of each feature in ms per unit.

    A feature that the fit did not see costs ``scale`` times its prior price. ``vectors``: what the features are for.
    """

    values: Mapping[str, float]
    scale: float
    vectors: Vectors

    @property
    def lane(self) -> int:
        """Channels of one vector."""
        return self.vectors.lane if isinstance(self.vectors, Tile) else self.vectors

    def of(self, name: str) -> float:
        """Price of feature ``name`` in ms per unit."""
        return self.values.get(name, self.scale * prior_price(name))

    def total_ms(self, row: FeatureRow) -> float:
        """Latency in ms of a network whose features sum to ``row``."""
        return sum(value * self.of(name) for name, value in row.items())


def network_row(spec: ArchSpec, vectors: Vectors, forms: Forms | None = None) -> dict[str, float]:
    """Features of a whole network, summed by name.

    ``forms``: of its blocks, None for plain ones.
    """
    ops = network_ops(spec) if forms is None else rewritten_ops(spec, forms)[0]
    return total_features([*(op_features(op, vectors) for op in ops), network_features(spec, vectors)])


def fit_prices(
    networks: Sequence[tuple[ArchSpec, Forms | None]], latencies_ms: Sequence[float], backend: str
) -> Prices:
    """Prices that best explain ``latencies_ms`` of ``networks``, and the vectors.

    ``networks``: specs, and the forms of their blocks, None for plain ones.

    The vectors are those of ``backend`` with the smallest median relative error in five-fold cross-validation.
    """
    target, choices = np.asarray(latencies_ms), vectors_of(backend)
    rows = {vectors: [network_row(spec, vectors, forms) for spec, forms in networks] for vectors in choices}

    def error(vectors: Vectors) -> float:
        return float(np.median(np.abs(_held_out_ms(rows[vectors], target, vectors, fit_price_rows) / target - 1)))

    best = min(choices, key=error)
    return fit_price_rows(rows[best], target, best)


def fit_robust_prices(
    specs: Sequence[ArchSpec], latencies_ms: Sequence[float], backend: str
) -> tuple[Prices, list[float]]:
    """Robust prices from few networks, and held-out predictions in ms.

    Some networks may be measured badly: the noise of relative errors is a Cauchy distribution. The vectors are those of
    ``backend`` under which held-out networks are most likely in five-fold cross-validation.
    """
    target, choices = np.asarray(latencies_ms), vectors_of(backend)
    rows = {vectors: [network_row(spec, vectors) for spec in specs] for vectors in choices}
    held_out_ms = {vectors: _held_out_ms(rows[vectors], target, vectors, _fit_robust_rows) for vectors in choices}
    best = min(choices, key=lambda one: float(np.log1p(((held_out_ms[one] / target - 1) / _NOISE) ** 2).sum()))
    return _fit_robust_rows(rows[best], target, best), held_out_ms[best].tolist()


def _fit_robust_rows(rows: Sequence[FeatureRow], latencies_ms: FloatArray, vectors: Vectors) -> Prices:
    """Prices of ``fit_price_rows`` by iteratively reweighted least squares."""
    weights = np.ones(len(rows))
    prices = fit_price_rows(rows, latencies_ms, vectors, weights=weights, ridge=_FEW_RIDGE)
    for _ in range(_REWEIGHTED):
        errors = np.array([prices.total_ms(row) for row in rows]) / latencies_ms - 1
        prices = fit_price_rows(rows, latencies_ms, vectors, weights=1 / (1 + (errors / _NOISE) ** 2), ridge=_FEW_RIDGE)
    return prices


def fit_price_rows(
    rows: Sequence[FeatureRow],
    latencies_ms: FloatArray,
    vectors: Vectors,
    *,
    weights: FloatArray | None = None,
    ridge: float = RIDGE,
) -> Prices:
    """Prices for summed features of networks and their latencies.

    ``rows``: one mapping per network; ``latencies_ms``: shape (networks,). Minimises the squared relative error, with
    ``weights`` of shape (networks,), plus ``ridge`` times the squared relative distance to the scaled priors.
    """
    from scipy.optimize import nnls  # for fits only: predictors are loaded more often than fitted

    names = sorted({name for row in rows for name in row})
    priors = np.array([prior_price(name) for name in names])
    features = np.array([[row.get(name, 0.0) for name in names] for row in rows]) * priors
    # Priors are rough: one factor scales them to the speed of this device. The median is robust against outliers.
    scale = float(np.median(latencies_ms / features.sum(axis=1)))
    relative = features * scale / latencies_ms[:, None]
    prior = ridge * np.sqrt(len(rows))
    factors = np.ones(len(rows)) if weights is None else np.sqrt(weights)
    solution, _ = nnls(
        np.vstack([relative * factors[:, None], prior * np.eye(len(names))]),
        np.concatenate([factors, np.full(len(names), prior)]),
    )
    values = dict(zip(names, (solution * scale * priors).tolist(), strict=True))
    return Prices(values=values, scale=scale, vectors=vectors)


def _held_out_ms(
    rows: Sequence[FeatureRow],
    latencies_ms: FloatArray,
    vectors: Vectors,
    fit: Callable[[Sequence[FeatureRow], FloatArray, Vectors], Prices],
) -> FloatArray:
    """Predictions in ms by five-fold cross-validation of ``fit``, shape (networks,).

    ``latencies_ms``: shape (networks,), in the order of ``rows``.
    """
    fold = np.arange(len(rows)) % _FOLDS
    predicted_ms = np.empty(len(rows))
    for test_fold in range(min(_FOLDS, len(rows))):
        seen, unseen = np.flatnonzero(fold != test_fold).tolist(), np.flatnonzero(fold == test_fold).tolist()
        prices = fit([rows[index] for index in seen], latencies_ms[seen], vectors)
        predicted_ms[unseen] = [prices.total_ms(rows[index]) for index in unseen]
    return predicted_ms
