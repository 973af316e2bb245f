"""Reduction to proxies: strides, rounding, realised scaling, warnings."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from nas.arch import zoo
from nas.arch.parts import HeadSpec, NormSpec, StemSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError
from nas.estimators.proxy.reduce import identical_proxies, limit_strides, reduce_arch
from nas.estimators.proxy.settings import ProxySettings
from nas.model.build import build

HALF_KERNEL = ProxySettings(min_map_px="auto")  # last maps at least half as large as the largest kernel


def with_kernels(spec: ArchSpec, kernels: tuple[int, ...]) -> ArchSpec:
    """Return ``spec`` with other kernel sizes in the last block string."""
    *stages, last = spec.stages
    *blocks, block = last.blocks
    return replace(spec, stages=(*stages, StageSpec((*blocks, replace(block, kernels=kernels)))))


@pytest.mark.parametrize(
    ("side_px", "min_map_px", "expected"),
    [
        (224, 5, (2, 1, 2, 2, 2, 1, 2)),  # 7 px: unchanged
        (32, 5, (1, 1, 1, 1, 2, 1, 2)),  # 32 / 4 = 8 px, one stride more would leave 4
        (32, 4, (1, 1, 1, 2, 2, 1, 2)),
        (16, 5, (1, 1, 1, 1, 1, 1, 2)),
        (8, 5, (1, 1, 1, 1, 1, 1, 1)),
        (4, 5, (1, 1, 1, 1, 1, 1, 1)),  # not reachable
        (33, 5, (1, 1, 1, 2, 2, 1, 2)),  # sides round up: 33, 17, 9, 5
    ],
)
def test_strides_are_removed_first_to_last(side_px: int, min_map_px: int, expected: tuple[int, ...]) -> None:
    assert limit_strides((2, 1, 2, 2, 2, 1, 2), side_px, min_map_px) == expected


@pytest.mark.parametrize("name", ["mixnet_s", "efficientnet_b0", "mobilenetv3_large_100"])
def test_built_proxy_has_the_final_map_size(name: str) -> None:
    proxy = reduce_arch(
        zoo.get(name), replace(HALF_KERNEL, resolution_px=20), classes=7, largest_kernel=9, in_channels=1
    )
    model = build(proxy.spec).eval()
    images = torch.zeros(1, 1, proxy.spec.resolution_px, proxy.spec.resolution_px)
    sides: list[int] = []
    model.blocks.register_forward_hook(lambda module, args, out: sides.append(out.shape[-1]))  # type: ignore[union-attr,operator]
    with torch.no_grad():
        assert model(images).shape == (1, 7)
    assert sides == [proxy.final_map_px]
    assert proxy.final_map_px >= 5


def test_candidates_of_a_space_share_strides() -> None:
    base = zoo.get("mixnet_s")
    candidates = [with_kernels(base, (3,)), with_kernels(base, (3, 5, 7, 9)), scale(base, Scaling(width=2, depth=1.4))]
    proxies = [reduce_arch(spec, ProxySettings(), classes=10, largest_kernel=9) for spec in candidates]
    assert len({proxy.strides for proxy in proxies}) == 1
    assert identical_proxies(proxies) == ()


def test_unreachable_map_size_is_warned_about() -> None:
    spec = zoo.get("mixnet_s")
    settings = replace(HALF_KERNEL, resolution_px=4, width_multiplier=0.5)
    proxy = reduce_arch(spec, settings, classes=10, largest_kernel=11)
    assert proxy.final_map_px == 4
    assert any("last map of 4 px is below 6 px" in warning for warning in proxy.warnings)
    own = reduce_arch(spec, ProxySettings(resolution_px=32, min_map_px=1), classes=10, largest_kernel=11)
    assert own.strides == (2, 1, 2, 2, 2, 1, 2)
    assert own.final_map_px == 1


def test_fine_divisor_preserves_a_width_of_1_1() -> None:
    base = zoo.get("efficientnet_b0")
    wider = scale(base, Scaling(width=1.1))
    fine, coarse = ProxySettings(divisor=1), ProxySettings(divisor=8)
    distinct = [reduce_arch(spec, fine, classes=10, largest_kernel=5).spec for spec in (base, wider)]
    merged = [reduce_arch(spec, coarse, classes=10, largest_kernel=5).spec for spec in (base, wider)]
    widths = [[stage.blocks[0].channels for stage in spec.stages] for spec in (*distinct, *merged)]
    assert sum(widths[1]) / sum(widths[0]) == pytest.approx(1.1, abs=0.03)
    assert widths[2][:4] == widths[3][:4]


def test_realised_ratios_match_the_channels() -> None:
    spec = ArchSpec.from_strings(
        "two", [["ds_r1_k3_s1_c10"], ["ir_r3_k3_s2_e4_c30"]], stem=StemSpec(channels=16), head=HeadSpec(channels=64)
    )
    settings = ProxySettings(width_multiplier=0.5, divisor=4, resolution_px=16)
    proxy = reduce_arch(spec, settings, classes=10, largest_kernel=3)
    # 5 -> 4 (nearest, half up) loses over 10% of 5, so 8; 15 -> 16.
    assert [stage.blocks[0].channels for stage in proxy.spec.stages] == [8, 16]
    assert proxy.width_range == pytest.approx((16 / 30, 8 / 10))
    assert proxy.width_ratio == pytest.approx((16 / 30 + 8 / 10) / 2)
    assert proxy.depth_ratio == 1
    for figure in ("width x0.667", "0.533 to 0.800", "depth x1.00", "strides 2-1-2", "last map 4 px"):
        assert figure in proxy.realised_note


def test_rounding_to_equal_proxies_is_detected_and_warned_about() -> None:
    base = zoo.get("mobilenetv3_large_100")
    shallow, deep = scale(base, Scaling(depth=1.2)), scale(base, Scaling(depth=1.3))
    half = ProxySettings(depth_multiplier=0.3)
    proxies = [reduce_arch(spec, half, classes=10, largest_kernel=5) for spec in (base, shallow, deep, base)]
    assert any({0, 3} <= set(group) for group in identical_proxies(proxies))
    assert any("depth x0.3 is realised as" in warning for warning in proxies[0].warnings)
    narrow = reduce_arch(base, ProxySettings(width_multiplier=0.1), classes=10, largest_kernel=5)
    assert any("hidden channels are multiples of 8" in warning for warning in narrow.warnings)


def test_too_narrow_proxy_is_refused() -> None:
    with pytest.raises(NasError, match=r"proxy\.width_multiplier: 0\.01 is too narrow for mixnet_s: .*\. Raise it\."):
        reduce_arch(zoo.get("mixnet_s"), ProxySettings(width_multiplier=0.01, divisor=1), classes=10, largest_kernel=9)


def test_compared_resolutions_stay_distinct() -> None:
    base = zoo.get("efficientnet_b0")
    sides = [
        reduce_arch(
            replace(base, resolution_px=side), replace(HALF_KERNEL, resolution_px=32), classes=10, largest_kernel=5,
            base_resolution_px=224,
        )
        for side in (224, 258, 296)
    ]  # fmt: skip
    assert [proxy.spec.resolution_px for proxy in sides] == [32, 37, 42]
    assert len({proxy.strides for proxy in sides}) == 1


def test_regularisation_and_momentum_are_replaced() -> None:
    spec = replace(zoo.get("efficientnet_b0"), drop_path=0.2, norm=NormSpec(eps=1e-3, momentum=0.01))
    small = reduce_arch(spec, ProxySettings(dropout=0.1), classes=10, largest_kernel=5).spec
    assert (small.dropout, small.drop_path) == (0.1, 0.0)
    assert (small.norm.eps, small.norm.momentum) == (1e-3, 0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width_multiplier": 0}, r"proxy\.width_multiplier 0: must be a number above 0"),
        ({"divisor": 0}, r"proxy\.divisor 0:"),
        ({"min_map_px": "all"}, r"proxy\.min_map_px 'all':"),
        ({"drop_path": 1.0}, r"proxy\.drop_path 1\.0:"),
        ({"lr": -1}, r"proxy\.lr -1:"),
    ],
)
def test_invalid_settings_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        ProxySettings(**fields)


def test_reduction_does_not_import_torch() -> None:
    code = "import sys, nas.estimators.proxy.reduce, nas.training.results; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
