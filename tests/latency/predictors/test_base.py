"""Tests of predictions, intervals and held-out errors."""

from __future__ import annotations

import itertools
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.heads import segmenter
from nas.arch.ops.network import network_ops, output_ops
from nas.core.errors import NasError
from nas.latency.kernels.xnnpack import Tile
from nas.latency.predictors.base import LatencyEstimate, unmeasured_remark
from nas.latency.predictors.block_pieces import pieces
from nas.latency.predictors.block_table import BlockTable
from nas.latency.predictors.held_out import HeldOutCheck, HeldOutError, prediction_interval
from nas.latency.predictors.kernel_sum import KernelPredictor
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.predictors.op_fit import Prices, network_row
from nas.latency.predictors.op_regression import PricePredictor
from nas.latency.predictors.queue_fit import QueuePrices
from nas.latency.predictors.queue_law import PRICES as PRICE_PRIORS
from nas.latency.predictors.queue_model import QueuePredictor
from nas.latency.random_networks import random_specs
from tests.deadline import DEADLINE_S
from tests.latency.dense import random_dense_specs
from tests.latency.synthetic_device import DEVICE
from tests.paths import ROOT

# No fitted prices: every feature costs its prior.
PRICES = Prices(values={}, scale=1.0, vectors=16)
CHECKS = [HeldOutCheck(name=str(i), measured_ms=10.0 + i % 3, predicted_ms=10.0) for i in range(30)]


def predictor() -> PricePredictor:
    return PricePredictor(device=DEVICE, prices=PRICES, checks=CHECKS)


@pytest.mark.parametrize("spec", [zoo.get("mixnet_s"), zoo.get("mobilenetv3_small_100"), *random_specs(5, seed=3)])
def test_prediction_is_the_sum_over_layers_and_over_features(spec) -> None:
    estimate = predictor().predict(spec)
    layers = predictor().layer_ms(spec)
    assert estimate.latency_ms == pytest.approx(PRICES.total_ms(network_row(spec, 16)))
    assert estimate.latency_ms == pytest.approx(sum(ms for _, ms in layers))
    assert layers[0][0] == "conv_stem"
    assert layers[-1][0] == "classifier"
    assert all(ms >= 0 for _, ms in layers)


@pytest.mark.parametrize("spec", random_dense_specs(4), ids=lambda spec: spec.name)
def test_detectors_and_segmenters_are_sums_over_layers(spec) -> None:
    prices = QueuePrices(
        log_ms=np.log([prior.ms for prior in PRICE_PRIORS.values()]), spread=np.ones(len(PRICE_PRIORS))
    )
    queue = QueuePredictor(device=DEVICE, prices=prices, checks=CHECKS)
    tiles = Prices(values={}, scale=1.0, vectors=Tile(6, 8))
    for known in (
        predictor(),
        predictor().with_rewrites(True),
        PricePredictor(device=DEVICE, prices=tiles, checks=CHECKS),
        MacsPredictor(20.0),
        queue,
    ):
        layers = dict(known.layer_ms(spec))
        assert known.predict(spec).latency_ms == pytest.approx(sum(layers.values()))
        assert list(layers) == [op.path for op in network_ops(spec)]
        assert all(layers[path] > 0 for path in output_ops(spec) if path != "logits")


def test_operations_without_measurements_are_named_with_their_share() -> None:
    """A calibration of an older version, which measured no segmenter: an enlargement costs its prior."""
    spec = segmenter(zoo.get("mobilenetv3_small_100"), 19, resolution_px=128)
    row = network_row(spec, 16)
    classifier = zoo.get("mobilenetv3_small_100")
    seen = {name: 0.01 for name in row | network_row(classifier, 16) if not name.startswith("resize.")}
    known = PricePredictor(device=DEVICE, prices=replace(PRICES, values=seen), checks=CHECKS)
    own_ms = sum(value * PRICES.of(name) for name, value in row.items() if name.startswith("resize."))
    assert own_ms > 0
    assert known.unmeasured(spec) == {"resize": pytest.approx(own_ms / known.predict(spec).latency_ms)}
    assert "the calibration measured no resize;" in unmeasured_remark(known, spec)
    assert unmeasured_remark(known, classifier) == ""
    assert unmeasured_remark(MacsPredictor(20.0), spec) == ""


def test_resolution_replaces_the_spec_s_own_and_caches_do_not_mix() -> None:
    shared, spec = predictor(), zoo.get("efficientnet_b0")
    own = shared.predict(spec)
    small = shared.predict(spec, 96)
    assert small == predictor().predict(replace(spec, resolution_px=96))
    assert small.latency_ms < own.latency_ms
    assert shared.predict(spec) == own
    assert shared.predict_many([spec, spec]) == [own, own]


def test_a_pickled_predictor_predicts_the_same() -> None:
    specs = [zoo.get("mixnet_s"), *random_specs(2, seed=3)]
    prices = QueuePrices(
        log_ms=np.log([prior.ms for prior in PRICE_PRIORS.values()]), spread=np.ones(len(PRICE_PRIORS))
    )
    entries = {piece: 0.1 * (1 + number) for spec in specs for number, (_, piece) in enumerate(pieces(spec))}
    for known in (
        predictor(),
        MacsPredictor(20.0),
        QueuePredictor(device=DEVICE, prices=prices, checks=CHECKS),
        BlockTable(device=DEVICE, entries=entries),
    ):
        before = known.predict_many(specs)
        assert pickle.loads(pickle.dumps(known)).predict_many(specs) == before


@pytest.mark.parametrize("count", [2, 3, 12, 39])
def test_interval_of_few_networks_is_student_s(count: int) -> None:
    logs = np.random.default_rng(count).normal(0.05, 0.2, count)
    margin = scipy.stats.t.ppf(0.95, count // 2) * logs.std(ddof=1) * math.sqrt(1 + 1 / count)
    expected = (min(1.0, math.exp(logs.mean() - margin)), max(1.0, math.exp(logs.mean() + margin)))
    assert prediction_interval(np.exp(logs).tolist()) == pytest.approx(expected)


def test_interval_is_that_of_the_held_out_ratios() -> None:
    # Ratios measured / predicted are 1.0, 1.1 and 1.2, forty of each: the 5% and 95% quantiles are the outer two.
    checks = [HeldOutCheck(name=str(i), measured_ms=10.0 + i % 3, predicted_ms=10.0) for i in range(120)]
    estimate = PricePredictor(device=DEVICE, prices=PRICES, checks=checks).predict(zoo.get("mixnet_s"))
    assert estimate.low_ms == pytest.approx(estimate.latency_ms)
    assert estimate.high_ms == pytest.approx(1.2 * estimate.latency_ms)


def test_held_out_error_by_hand() -> None:
    measured, predicted = [10.0, 20.0, 40.0, 50.0], [10.9, 18.4, 60.0, 50.0]
    checks = [HeldOutCheck(name="", measured_ms=m, predicted_ms=p) for m, p in zip(measured, predicted, strict=True)]
    error = HeldOutError.of(checks)
    assert error.median == pytest.approx(0.085)  # of 0, 0.08, 0.09, 0.5
    assert error.p90 == pytest.approx(0.09 + 0.7 * 0.41)  # position 2.7 among them
    assert (error.within_5, error.within_10) == (0.25, 0.75)
    assert error.bias == pytest.approx((0.09 - 0.08 + 0.5 + 0.0) / 4)
    pairs = [
        (m1 - m2) * (p1 - p2) > 0
        for (m1, p1), (m2, p2) in itertools.combinations(zip(measured, predicted, strict=True), 2)
    ]
    assert error.kendall_tau == pytest.approx((2 * sum(pairs) - len(pairs)) / len(pairs))
    assert "4 held-out networks" in str(error)
    with pytest.raises(NasError, match="too few"):
        HeldOutError.of(checks[:1])


def test_macs_predictor_counts_multiply_adds() -> None:
    spec = zoo.get("mixnet_m")
    estimate = MacsPredictor(20.0).predict(spec)
    assert estimate.latency_ms == pytest.approx(20.0 * complexity(spec).macs * 1e-9)
    assert estimate.low_ms < estimate.latency_ms < estimate.high_ms
    assert MacsPredictor(20.0).error is None
    assert MacsPredictor(20.0).device.key != MacsPredictor(30.0).device.key
    with pytest.raises(NasError, match="ms_per_gmac"):
        MacsPredictor(0.0)


def test_estimates_refuse_a_disordered_interval() -> None:
    with pytest.raises(ValueError, match="ordered"):
        LatencyEstimate(latency_ms=1.0, low_ms=2.0, high_ms=3.0)


def test_predicting_imports_neither_torch_nor_a_runtime() -> None:
    code = (
        "import sys; from nas.arch import zoo; from nas.latency.store import load_predictor; "
        "from nas.latency.predictors.macs import MacsPredictor; MacsPredictor(20.0).predict(zoo.get('mixnet_s')); "
        "print(sorted({'torch', 'timm', 'onnxruntime', 'onnx'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr


def test_kinds_in_saved_files_do_not_change() -> None:
    classes = (BlockTable, KernelPredictor, MacsPredictor, PricePredictor, QueuePredictor)
    assert [predictor.kind for predictor in classes] == ["table", "kernels", "macs", "prices", "whole"]
