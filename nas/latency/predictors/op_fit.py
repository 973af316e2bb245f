"""Fit prices of features to measured networks: non-negative least squares on relative errors, drawn to rough priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import nnls

from nas.arch.ops.network import network_ops
from nas.arch.spec import ArchSpec
from nas.latency.arrays import FloatArray
from nas.latency.predictors.op_features import LANES, op_features, prior_price, total_features

FeatureRow = Mapping[str, float]

# Weight of the priors against the measurements. 0.0005 to 0.006 made no difference on held-out networks; 0.03 doubled
# their error. It serves only to settle what the measurements leave open.
RIDGE: Final = 0.003
_FOLDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """ms per unit of each feature; one that the fit did not see costs ``scale`` times its prior."""

    values: Mapping[str, float]
    scale: float
    lane: int

    def of(self, name: str) -> float:
        """Price of feature ``name``."""
        return self.values.get(name, self.scale * prior_price(name))

    def total_ms(self, row: FeatureRow) -> float:
        """Latency of a network whose features sum to ``row``."""
        return sum(value * self.of(name) for name, value in row.items())


def network_row(spec: ArchSpec, lane: int) -> dict[str, float]:
    """Features of a whole network, summed."""
    return total_features(op_features(op, lane) for op in network_ops(spec))


def fit_prices(specs: Sequence[ArchSpec], latencies_ms: Sequence[float]) -> Prices:
    """Prices that explain ``latencies_ms`` of ``specs`` best, with the vector width that generalises best.

    The width is the one with the smallest median relative error over five-fold cross-validation.
    """
    target = np.asarray(latencies_ms)
    rows = {lane: [network_row(spec, lane) for spec in specs] for lane in LANES}
    best = min(LANES, key=lambda lane: _validation_error(rows[lane], target, lane))
    return fit_price_rows(rows[best], target, best)


def fit_price_rows(rows: Sequence[FeatureRow], latencies_ms: FloatArray, lane: int) -> Prices:
    """Prices for summed features ``rows`` [networks] and their latencies in ms [networks].

    Minimises the squared relative error plus ``RIDGE`` times the squared relative distance to the scaled priors.
    """
    names = sorted({name for row in rows for name in row})
    priors = np.array([prior_price(name) for name in names])
    features = np.array([[row.get(name, 0.0) for name in names] for row in rows]) * priors
    # Priors are rough: one factor takes them to the speed of this device. The median bears networks that deviate.
    scale = float(np.median(latencies_ms / features.sum(axis=1)))
    relative = features * scale / latencies_ms[:, None]
    pull = RIDGE * np.sqrt(len(rows))
    solution, _ = nnls(
        np.vstack([relative, pull * np.eye(len(names))]),
        np.concatenate([np.ones(len(rows)), np.full(len(names), pull)]),
    )
    values = dict(zip(names, (solution * scale * priors).tolist(), strict=True))
    return Prices(values=values, scale=scale, lane=lane)


def _validation_error(rows: Sequence[FeatureRow], latencies_ms: FloatArray, lane: int) -> float:
    fold = np.arange(len(rows)) % _FOLDS
    errors: list[float] = []
    for held in range(min(_FOLDS, len(rows))):
        seen, unseen = np.flatnonzero(fold != held).tolist(), np.flatnonzero(fold == held).tolist()
        prices = fit_price_rows([rows[index] for index in seen], latencies_ms[seen], lane)
        errors += [abs(prices.total_ms(rows[index]) / latencies_ms[index] - 1) for index in unseen]
    return float(np.median(errors))
