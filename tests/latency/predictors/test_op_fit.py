"""Tests that price fits to a known cost model predict unseen networks."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nas.arch import zoo
from nas.latency.predictors.op_features import prior_price
from nas.latency.predictors.op_fit import fit_prices, network_row
from nas.latency.random_networks import random_specs
from tests.latency.synthetic_device import true_ms

SPECS = random_specs(160, seed=7)
UNSEEN = [*random_specs(30, seed=8), zoo.get("mixnet_s"), zoo.get("mobilenetv2_100"), zoo.get("efficientnet_b0")]


def relative_errors(prices, specs) -> np.ndarray:
    return np.array([prices.total_ms(network_row(spec, prices.lane)) / true_ms(spec) - 1 for spec in specs])


def test_an_exact_law_is_recovered_on_unseen_networks() -> None:
    prices = fit_prices(SPECS, [true_ms(spec) for spec in SPECS])
    assert prices.lane == 1  # the law knows no vectors
    # The fit differs from the law only by the regularisation towards the priors.
    assert np.median(np.abs(relative_errors(prices, UNSEEN))) < 0.01
    assert np.abs(relative_errors(prices, UNSEEN)).max() < 0.08
    assert prices.of("pointwise.macs") == pytest.approx(0.025, rel=0.1)
    assert min(prices.values.values()) >= 0


def test_noise_of_five_percent_is_averaged_out() -> None:
    rng = random.Random(0)
    prices = fit_prices(SPECS, [true_ms(spec) * rng.gauss(1, 0.05) for spec in SPECS])
    # 160 rows for 65 prices: the fit's own error is about 5% x sqrt(65 / 160) = 3.2% on networks like those it saw.
    assert np.median(np.abs(relative_errors(prices, UNSEEN[:30]))) < 0.05


def test_unmeasured_features_are_not_free() -> None:
    plain = [spec for spec in SPECS if "mish.mb" not in network_row(spec, 1)]
    prices = fit_prices(plain, [true_ms(spec) for spec in plain])
    assert "mish.mb" not in prices.values
    assert prices.of("mish.mb") == pytest.approx(prices.scale * prior_price("mish.mb"))
    assert prices.scale > 0
