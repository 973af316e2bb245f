"""Tests of kernel work, by formulas and brute force, and of the kernel time model."""

from __future__ import annotations

import base64
import math
import zlib

import numpy as np
import pytest

from nas.arch import zoo
from nas.arch.ops.network import network_ops
from nas.latency.kernels.kernel import (
    FEATURES,
    ContextualKernel,
    contextual_kernels,
    kernel_class,
    kernel_context,
    kernel_features,
    kernel_work,
)
from nas.latency.kernels.ort_lowering import Kernel
from nas.latency.predictors import kernel_times
from nas.latency.predictors.kernel_times import KernelTimes
from nas.latency.random_networks import random_specs
from tests.latency.synthetic_device import LANE, true_kernel_us


def test_work_counts_full_blocks() -> None:
    conv = Kernel("conv", 24, 40, 14, 7, True, kernel=3, stride=2)
    macs, moved, weights = kernel_work(conv, 16)
    assert macs == pytest.approx(32 * 48 * 9 * 49 * 1e-6)
    assert moved == pytest.approx((32 * 196 + 48 * 49) * 4e-6)
    assert weights == pytest.approx(32 * 48 * 9 * 4e-6)
    assert kernel_work(conv._replace(blocked=False), 16)[0] == pytest.approx(24 * 40 * 9 * 49 * 1e-6)
    assert kernel_work(conv._replace(in_channels=3, narrow=True), 16)[0] == pytest.approx(3 * 48 * 9 * 49 * 1e-6)
    added = kernel_work(conv._replace(added=True), 16)
    assert added[1] - moved == pytest.approx(48 * 49 * 4e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "px"), [(3, 1, 1, 7), (11, 1, 1, 4), (5, 2, 1, 9), (3, 1, 4, 6)]
)
def test_depthwise_taps_on_padding_are_no_work(kernel: int, stride: int, dilation: int, px: int) -> None:
    out_px = -(-px // stride)
    reach = dilation * (kernel - 1) // 2
    inside = sum(
        0 <= row * stride + down * dilation - reach < px and 0 <= column * stride + right * dilation - reach < px
        for row in range(out_px)
        for column in range(out_px)
        for down in range(kernel)
        for right in range(kernel)
    )
    depthwise = Kernel("depthwise", 16, 16, px, out_px, True, kernel=kernel, stride=stride, dilation=dilation)
    assert kernel_work(depthwise, 16)[0] == pytest.approx(16 * inside * 1e-6)


def test_features_are_named_and_classes_distinguish_layouts() -> None:
    conv = Kernel("conv", 24, 40, 14, 14, True)
    (row,) = kernel_features([(conv, kernel_context(1.0, 2.0))], 16)
    named = dict(zip(FEATURES, row.tolist(), strict=True))
    assert (named["in_tail"], named["out_tail"], named["wide_tail"], named["out_blocks"]) == (8, 8, 40, 3)
    assert named["log2_macs"] == pytest.approx(math.log2(32 * 48 * 196 * 1e-6), abs=1e-5)
    assert (named["columns_tail"], named["network_weights"]) == (2, 1.0)
    classes = [kernel_class(conv), kernel_class(conv._replace(blocked=False)), kernel_class(conv._replace(out_px=1))]
    assert classes == ["pointwise.blocked", "pointwise.plain", "vector.blocked"]


def test_the_context_is_that_of_the_whole_network_in_halves_of_a_power_of_two() -> None:
    placed = contextual_kernels(zoo.get("mobilenetv1_100"), 16)
    assert {surroundings for _, surroundings in placed} == {placed[0][1]}
    weights_mb = 4e-6 * sum(op.weights for op in network_ops(zoo.get("mobilenetv1_100")))  # all fill their blocks
    assert placed[0][1].weights == round(2 * math.log2(weights_mb)) / 2
    assert kernel_context(3.0, 1.0).moved == 2.0


def kernels_of(seed: int, count: int) -> list[ContextualKernel]:
    return [placed for spec in random_specs(count, seed) for placed in contextual_kernels(spec, LANE)]


def times_us(placed: list[ContextualKernel]) -> list[float]:
    return [true_kernel_us(kernel) for kernel, _ in placed]


def test_a_fit_to_a_known_law_is_accurate_and_survives_a_file() -> None:
    seen = kernels_of(1, 60)
    times = kernel_times.fit_kernel_times(seen, times_us(seen), LANE)
    unseen = contextual_kernels(zoo.get("mixnet_m"), LANE)
    expected = np.array(times_us(unseen))
    predicted = times.microseconds(unseen)
    assert np.median(np.abs(predicted / expected - 1)) < 0.03
    assert predicted.sum() == pytest.approx(expected.sum(), rel=0.05)
    assert KernelTimes.from_dict(times.to_dict()).microseconds(unseen).tolist() == predicted.tolist()


def test_an_unseen_class_uses_the_law_of_all_kernels() -> None:
    seen = [placed for placed in kernels_of(1, 20) if kernel_class(placed[0]) != "spatial.plain"]
    times = kernel_times.fit_kernel_times(seen, times_us(seen), LANE)
    unseen = Kernel("conv", 50, 64, 28, 28, False, kernel=3)
    assert kernel_class(unseen) not in times.laws
    assert times.microseconds([(unseen, kernel_context(1.0, 1.0))])[0] > 100


def test_damaged_trees_are_refused() -> None:
    seen = kernels_of(1, 5)
    data = kernel_times.fit_kernel_times(seen, times_us(seen), LANE).to_dict()
    for damaged in ("no base 64", "bm8gdHJlZQ==", base64.b64encode(zlib.compress(b"no tree")).decode()):
        with pytest.raises(ValueError):
            KernelTimes.from_dict({**data, "trees": {"conv": damaged}})
