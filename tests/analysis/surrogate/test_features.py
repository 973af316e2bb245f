"""Tests of the features of networks: counted by hand, and the same under other names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.analysis.surrogate import FeatureScale, network_features
from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec, StageSpec


def features(*stages: str) -> dict[str, float]:
    spec = ArchSpec(
        name="test",
        stem=StemSpec(channels=8, stride=2),
        stages=tuple(StageSpec.parse([strings]) for strings in stages),
        head=HeadSpec(channels=32),
        resolution_px=32,
        classes=10,
    )
    return network_features(spec, complexity(spec))


def test_a_stage_has_its_blocks_counted_and_their_numbers_summed() -> None:
    found = features("ds_r1_k3_s1_c8", "ir_r3_k3.5_s2_e4_c16_se0.25")
    assert found["s0.type=ds"] == 1 and found["s1.type=ir"] == found["s1.depth"] == 3
    assert found["s1.kernels=3.5"] == 3 and found["s1.kernel_px"] == 3 * 4 and found["s1.kernel_groups"] == 6
    assert found["s1.expansion"] == 12 and found["s1.se_ratio"] == 0.75 and found["depth"] == 4
    assert found["s1.log_channels"] == math.log(16)


def test_the_receptive_field_is_that_of_the_recursion_over_layers() -> None:
    # Araujo et al., Computing receptive fields of convolutional neural networks, 2019: r += (k - 1) * j, then j *= s.
    found = features("ds_r2_k3_s1_c8", "ir_r2_k5_s2_e4_c16")
    layers = [(3, 2), (3, 1), (3, 1), (5, 2), (5, 1)]  # kernel and stride: stem, two ds, two ir
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    assert found["receptive_field_px"] == field


def test_a_repeat_is_the_same_as_two_strings() -> None:
    whole = features("ir_r2_k3_s2_e4_c16")
    spec = ArchSpec(
        name="test",
        stem=StemSpec(channels=8, stride=2),
        stages=(StageSpec.parse(["ir_r1_k3_s2_e4_c16", "ir_r1_k3_s1_e4_c16"]),),
        head=HeadSpec(channels=32),
        resolution_px=32,
        classes=10,
    )
    assert network_features(spec, complexity(spec)) == whole


def test_columns_that_are_constant_or_equal_are_left_out() -> None:
    rows = [{"a": 1.0, "b": 2.0, "c": 5.0, "d": -1.0}, {"a": 2.0, "b": 4.0, "c": 5.0, "d": -2.0}, {"a": 4.0, "b": 8.0}]
    rows[2] |= {"c": 5.0, "d": -4.0, "e": 1.0}
    scale = FeatureScale.fit(rows)
    assert scale.names == ("a", "e", "constant")  # b and d are a in another unit
    table = scale.transform(rows)
    assert (table[:, 2] == 1).all()
    table = table[:, :2]
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(table.std(axis=0), 1)


def test_a_single_network_has_no_feature_that_varies() -> None:
    scale = FeatureScale.fit([{"a": 1.0}])
    assert scale.names == ("constant",) and scale.transform([{"a": 3.0}]).tolist() == [[1.0]]
    assert FeatureScale.fit([]).names == ("constant",)


@pytest.mark.parametrize("name", ["mixnet_m", "mobilenetv3_large_100", "efficientnet_b0", "mobilenetv1_100"])
def test_published_networks_have_as_many_blocks_as_they_say(name: str) -> None:
    spec = zoo.get(name)
    found = network_features(spec, complexity(spec))
    depths = [value for key, value in found.items() if key.startswith("s") and key.endswith(".depth")]
    assert sum(depths) == found["depth"] == spec.depth
