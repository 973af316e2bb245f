"""Tests of operation features, their priors, and random networks."""

from __future__ import annotations

import pytest

from nas.arch.complexity import complexity
from nas.arch.ops.network import Op, network_ops
from nas.latency.predictors.op_features import PRIORS, op_features, prior_price, total_features
from nas.latency.predictors.op_fit import network_row
from nas.latency.random_networks import MACS_RANGE, random_specs


def test_convolutions_work_on_channels_filled_up_to_the_vector() -> None:
    op = Op("conv", "x", ("",), 24, 40, 14, 14)
    assert dict(op_features(op, 1))["pointwise.macs"] == pytest.approx(24 * 40 * 14 * 14 * 1e-6)
    assert dict(op_features(op, 16))["pointwise.macs"] == pytest.approx(32 * 48 * 14 * 14 * 1e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "px"), [(3, 1, 1, 7), (11, 1, 1, 4), (5, 2, 1, 9), (3, 1, 4, 6)]
)
def test_depthwise_taps_on_padding_cost_nothing(kernel: int, stride: int, dilation: int, px: int) -> None:
    out_px = -(-px // stride)
    op = Op("depthwise", "x", ("",), 16, 16, px, out_px, kernel, stride, dilation)
    reach = dilation * (kernel - 1) // 2
    inside = [
        1
        for row in range(out_px)
        for column in range(out_px)
        for down in range(kernel)
        for right in range(kernel)
        if 0 <= row * stride + down * dilation - reach < px and 0 <= column * stride + right * dilation - reach < px
    ]
    name = "dilated.taps" if dilation > 1 else f"depthwise{kernel}s{stride}.taps"
    assert dict(op_features(op, 16))[name] == pytest.approx(16 * len(inside) * 1e-6)


def test_depthwise_channels_off_the_blocked_layout_are_a_class_of_their_own() -> None:
    op = Op("depthwise", "x", ("",), 18, 18, 14, 14, 5)
    assert dict(op_features(op, 16))["depthwise_plains1.odd"] == pytest.approx(op.macs * 1e-6)


def test_relu_is_free_and_swish_is_not() -> None:
    op = Op("conv", "x", ("",), 16, 16, 8, 8, activation="relu")
    assert op_features(op, 8) == op_features(op._replace(activation=None), 8)
    assert dict(op_features(op._replace(activation="swish"), 8))["swish.mb"] == pytest.approx(16 * 64 * 4e-6)


def test_random_networks_are_seeded_in_range_and_cover_every_class() -> None:
    specs = random_specs(120, seed=1)
    assert specs == random_specs(120, seed=1)
    assert specs != random_specs(120, seed=2)
    assert all(MACS_RANGE[0] <= complexity(spec).macs <= MACS_RANGE[1] for spec in specs)
    names = set(network_row(specs[0], 16)).union(*(network_row(spec, 16) for spec in specs))
    assert all(prior_price(name) > 0 for name in names)
    assert {name.rpartition(".")[2] for name in names} == set(PRIORS)
    wanted = {f"depthwise{kernel}s{stride}.taps" for kernel in (3, 5, 7, 9, 11) for stride in (1, 2)}
    wanted |= {f"{name}.mb" for name in ("swish", "hard_swish", "mish", "sigmoid", "hard_sigmoid", "add", "pool")}
    wanted |= {"dilated.taps", "split.mb", "concat_odd.mb", "linear.weights", "vector.weights", "spatial.macs"}
    assert wanted <= names


def test_a_network_is_the_sum_of_its_operations() -> None:
    spec = random_specs(1, seed=0)[0]
    parts = [dict(op_features(op, 8)) for op in network_ops(spec)]
    row = network_row(spec, 8)
    assert set(row) == {name for part in parts for name in part}
    for name, value in row.items():
        assert value == pytest.approx(sum(part.get(name, 0.0) for part in parts))
    assert total_features([]) == {}
