"""Features of operations in XNNPACK: tiles, routines of depthwise kernels, caches."""

from __future__ import annotations

import pytest

from nas.arch.ops.network import Op
from nas.latency.kernels.xnnpack import TILE_PRIORS, TILES, Tile, xnnpack_features
from nas.latency.predictors.op_features import PRIORS, op_features, prior_price
from nas.latency.predictors.op_fit import network_row
from nas.latency.random_networks import random_forms, random_specs

TILE = Tile(7, 16)


def test_products_are_made_of_whole_tiles() -> None:
    features = dict(xnnpack_features(Op("conv", "x", ("",), 24, 40, 5, 5), TILE))
    # 25 pixels are 4 tiles of 7, 40 channels 3 vectors of 16; the 24 input channels are taken one by one.
    assert features["pointwise.macs"] == pytest.approx(28 * 48 * 24 * 1e-6)
    assert features["pointwise.tiles"] == pytest.approx(12e-3)
    assert features["dense.mb"] == pytest.approx((24 + 40) * 25 * 4e-6)
    grouped = dict(xnnpack_features(Op("conv", "x", ("",), 24, 40, 5, 5, 3, groups=2), TILE))
    assert grouped["spatial_grouped.macs"] == pytest.approx(2 * 28 * 32 * 12 * 9 * 1e-6)


def test_a_depthwise_kernel_costs_the_taps_of_its_routines() -> None:
    def features(kernel: int, channels: int = 32, stride: int = 1) -> dict[str, float]:
        found: dict[str, float] = {}
        op = Op("depthwise", "x", ("",), channels, channels, 8, 8 // stride, kernel, stride)
        for name, value in xnnpack_features(op, TILE):
            found[name] = found.get(name, 0.0) + value
        return found

    assert features(3)["depthwise9s1.taps"] == pytest.approx(32 * 64 * 9 * 1e-6)
    assert features(5, stride=2)["depthwise25s2.taps"] == pytest.approx(32 * 16 * 25 * 1e-6)
    # A 7x7 kernel is three pieces of at most 25 taps, and two additions.
    assert features(7)["depthwise25s1.taps"] == pytest.approx(3 * 32 * 64 * 25 * 1e-6)
    assert (features(7)["depthwise.call"], features(7)["add.call"]) == (3, 2)
    assert "add.call" not in features(5)
    # Channels beyond the last whole vector are a routine of their own; fewer than one are not.
    assert [("depthwise_tail.rows" in features(3, channels)) for channels in (8, 16, 20, 48)] == [
        False,
        False,
        True,
        False,
    ]
    assert features(3, 20)["depthwise9s1.taps"] == features(3, 32)["depthwise9s1.taps"]


def test_activations_and_maps_beyond_the_caches_cost_more() -> None:
    small, large = (Op("conv", "x", ("",), 16, 64, side, side) for side in (14, 160))
    assert xnnpack_features(small._replace(activation="relu6"), TILE) == xnnpack_features(small, TILE)
    swish = dict(xnnpack_features(small._replace(activation="swish"), TILE))
    assert swish["swish.mb"] == pytest.approx(64 * 14 * 14 * 4e-6)
    assert not any(name.endswith(".far") for name in swish)
    far = [(name, value) for name, value in xnnpack_features(large, TILE) if name == "dense4.far"]
    assert far == [("dense4.far", pytest.approx(64 * 160 * 160 * 4e-6 - 4))]


def test_every_feature_of_random_networks_has_a_prior() -> None:
    names: set[str] = set()
    for index, spec in enumerate(random_specs(40, seed=1)):
        for tile in TILES:
            row = network_row(spec, tile, random_forms(spec, 1, index))
            assert all(value >= 0 for value in row.values())
            names |= row.keys()
    assert all(prior_price(name) > 0 for name in names)
    assert {name.rpartition(".")[2] for name in names} <= PRIORS.keys() | TILE_PRIORS.keys()
    op = Op("conv", "x", ("",), 24, 40, 5, 5)
    assert op_features(op, TILE) == xnnpack_features(op, TILE)
