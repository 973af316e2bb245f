"""Tests that price fits to a known cost model predict unseen networks."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.ops.network import network_ops
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.latency.device import Device
from nas.latency.kernels.xnnpack import Tile
from nas.latency.predictors.held_out import HeldOutCheck
from nas.latency.predictors.op_features import prior_price
from nas.latency.predictors.op_fit import Prices, fit_prices, network_row
from nas.latency.predictors.op_regression import PricePredictor
from nas.latency.random_networks import random_specs
from tests.latency.synthetic_device import true_ms

SPECS = random_specs(160, seed=7)
UNSEEN = [*random_specs(30, seed=8), zoo.get("mixnet_s"), zoo.get("mobilenetv2_100"), zoo.get("efficientnet_b0")]


def plain(specs: list[ArchSpec]) -> list[tuple[ArchSpec, None]]:
    return [(spec, None) for spec in specs]


def relative_errors(prices, specs) -> np.ndarray:
    return np.array([prices.total_ms(network_row(spec, prices.vectors)) / true_ms(spec) - 1 for spec in specs])


def test_an_exact_law_is_recovered_on_unseen_networks() -> None:
    prices = fit_prices(plain(SPECS), [true_ms(spec) for spec in SPECS], "torch")
    assert prices.lane == 1  # the law knows no vectors
    # The fit differs from the law only by the regularisation towards the priors.
    assert np.median(np.abs(relative_errors(prices, UNSEEN))) < 0.01
    assert np.abs(relative_errors(prices, UNSEEN)).max() < 0.08
    assert prices.of("pointwise.macs") == pytest.approx(0.025, rel=0.1)
    assert min(prices.values.values()) >= 0


def test_noise_of_five_percent_is_averaged_out() -> None:
    rng = random.Random(0)
    prices = fit_prices(plain(SPECS), [true_ms(spec) * rng.gauss(1, 0.05) for spec in SPECS], "torch")
    # 160 rows for 65 prices: the fit's own error is about 5% x sqrt(65 / 160) = 3.2% on networks like those it saw.
    assert np.median(np.abs(relative_errors(prices, UNSEEN[:30]))) < 0.05


def test_unmeasured_features_are_not_free() -> None:
    specs = [spec for spec in SPECS if "mish.mb" not in network_row(spec, 1)]
    prices = fit_prices(plain(specs), [true_ms(spec) for spec in specs], "torch")
    assert "mish.mb" not in prices.values
    assert prices.of("mish.mb") == pytest.approx(prices.scale * prior_price("mish.mb"))
    assert prices.scale > 0


def test_the_tiles_of_xnnpack_are_found() -> None:
    tile = Tile(7, 16)
    rows = [network_row(spec, tile) for spec in SPECS]
    latencies_ms = [sum(value * 2 * prior_price(name) for name, value in row.items()) for row in rows]
    prices = fit_prices(plain(SPECS), latencies_ms, "litert")
    assert (prices.vectors, prices.lane) == (tile, 16)
    assert prices.scale == pytest.approx(2)
    assert prices.of("pointwise.macs") == pytest.approx(2 * prior_price("pointwise.macs"))


def test_a_predictor_with_tiles_counts_weights_beyond_the_caches_and_survives_its_file() -> None:
    prices = Prices(values={"pointwise.macs": 0.03}, scale=1.5, vectors=Tile(4, 8))
    device = Device(processor="x", cores=1, backend="litert", backend_version="2.3.0", os="none")
    checks = [HeldOutCheck(name=name, measured_ms=1.0, predicted_ms=1.1) for name in "ab"]
    predictor = PricePredictor(device=device, prices=prices, checks=checks)
    for name in ("mobilenetv3_small_050", "mobilenetv2_100"):
        spec = zoo.get(name)
        weights_mb = complexity(spec).params * 4e-6
        far_ms = sum(max(0.0, weights_mb - level) for level in (1, 4)) * 1.5 * prior_price("weights4.far")
        alone_ms = sum(predictor.op_ms(op) for op in network_ops(spec))
        assert predictor.predict(spec).latency_ms == pytest.approx(alone_ms + far_ms)
        assert sum(ms for _, ms in predictor.layer_ms(spec)) == pytest.approx(alone_ms + far_ms)
        assert prices.total_ms(network_row(spec, prices.vectors)) == pytest.approx(alone_ms + far_ms)
        read = PricePredictor.from_dict(json.loads(json.dumps(predictor.to_dict())))
        assert read.prices == prices
        assert read.predict(spec).latency_ms == predictor.predict(spec).latency_ms
    with pytest.raises(NasError, match="tile_rows 0: must be"):
        PricePredictor.from_dict({**predictor.to_dict(), "tile_rows": 0})
