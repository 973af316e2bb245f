"""Sub-networks against timm's modules with the same weights, for every block and space."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.ops.network import network_ops
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import Scaling, scale
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.proxy.reduce import reduce_arch
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.supernet.layout import TensorSlice, check_fits, is_transform, residual_scales, slot_shapes
from nas.estimators.supernet.network import Subnetwork, take_slice
from nas.estimators.supernet.sampling import covering_genotypes, extreme_genotype
from nas.estimators.supernet.weights import initial_weights, standalone_state
from nas.model.build import build
from nas.model.initialization import zero_init_residual
from tests.model.random_specs import specs
from tests.search_spaces.conftest import build as build_space
from tests.search_spaces.conftest import read

SPACES = ("mixnet", "mobilenet_v3", "mobilenet_v3_small", "mnasnet", "efficientnet", "mobilenet_v1", "tiny")
PROXY = ProxySettings(width_multiplier=0.25, resolution_px=8, min_map_px=2)


def weights_with_transforms(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Initial weights, and kernel transforms as a training might have left them."""
    shared = initial_weights(shapes, seed=0)
    generator = torch.Generator().manual_seed(1)
    return {
        slot: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) if is_transform(slot) else tensor
        for slot, tensor in shared.items()
    }


def assert_equals_standalone(spec: ArchSpec, shapes: dict[str, tuple[int, ...]]) -> None:
    """The sub-network in training and evaluation against timm's module."""
    network, shared = Subnetwork(spec), weights_with_transforms(shapes)
    check_fits(spec, network.bound, shapes)
    images = torch.randn(3, spec.in_channels, spec.resolution_px, spec.resolution_px)
    statistics = network.estimate_statistics(shared, torch.randn_like(images))
    module = build(spec, dropout=0, drop_path=0)
    module.load_state_dict(standalone_state(network.bound, shared, statistics))
    for mode, given_statistics in ((False, statistics), (True, None)):
        expected = module.train(mode)(images)
        torch.testing.assert_close(network.outputs(shared, images, given_statistics), expected, rtol=1e-4, atol=1e-4)


@given(specs(), specs(), st.booleans())
@settings(max_examples=40)
def test_random_network_has_the_outputs_of_its_standalone_module(
    spec: ArchSpec, other: ArchSpec, kernel_transform: bool
) -> None:
    spec, other = replace(spec, layer_scale=None), replace(other, layer_scale=None)
    assert_equals_standalone(spec, slot_shapes([spec, other], kernel_transform=kernel_transform))


@pytest.mark.parametrize("name", ["mixnet_m", "mobilenetv3_large_100", "efficientnet_b0", "mobilenetv1_100"])
def test_scales_that_begin_at_zero_are_those_of_a_standalone_network(name: str) -> None:
    """timm's modules know which of them have a shortcut."""
    spec = replace(zoo.get(name), resolution_px=32)
    module = build(spec)
    zero_init_residual(module)
    zeroed = {path for path, one in module.named_parameters() if path.endswith(".weight") and not one.any()}
    slots = residual_scales([spec])
    bound = Subnetwork(spec).bound
    found = {path for item in bound for path, part in item.tensors.items() if part.slot in slots}
    assert found == zeroed and bool(zeroed) == (name != "mobilenetv1_100")
    shared = initial_weights(slot_shapes([spec]), 0, slots)
    assert {slot for slot, one in shared.items() if slot.endswith(".weight") and not one.any()} == slots


def test_a_scale_that_any_network_uses_without_a_shortcut_begins_at_one() -> None:
    space = build_space(read("mobilenet_v3"))
    widest = {name: max(values) if name == "width" else values[0] for name, values in space.parameters.items()}
    networks = [
        replace(space.decode(genotype), resolution_px=32) for genotype in (widest, space.sample(random.Random(1)))
    ]
    alone, together = residual_scales(networks[:1]), residual_scales(networks)
    ending = {item.op.inputs[0] for item in Subnetwork(networks[1]).bound if item.op.kind == "add"}
    without = {item.scale.slot for item in Subnetwork(networks[1]).bound if item.scale and item.op.path not in ending}
    assert alone and not together & without


@pytest.mark.parametrize("name", SPACES)
def test_networks_of_every_space_have_the_outputs_of_their_standalone_modules(name: str) -> None:
    space = build_space(read(name))

    def proxy(genotype: Mapping[str, Any]) -> ArchSpec:
        arch = space.decode(genotype, classes=5)
        return reduce_arch(arch, PROXY, classes=5, largest_kernel=space.largest_kernel, in_channels=3).spec

    largest = extreme_genotype(space, lambda genotype: complexity(proxy(genotype)).macs, largest=True)
    covering = [proxy(genotype) for genotype in covering_genotypes(space, largest, drawn=20, seed=0)]
    shapes = slot_shapes(covering)
    with_transforms = slot_shapes(covering, kernel_transform=True)
    kernels = {op.kernel for spec in covering for op in network_ops(spec) if op.kind == "depthwise"}
    assert any(map(is_transform, with_transforms)) == (len(kernels) > 1)
    rng = random.Random(1)
    drawn = [proxy(space.sample(rng)) for _ in range(60)]
    for spec in drawn:
        check_fits(spec, Subnetwork(spec).bound, with_transforms)
    for spec, own in ((drawn[0], shapes), (drawn[1], with_transforms), (proxy(largest), with_transforms)):
        assert_equals_standalone(spec, own)


def test_slices_are_prefixes_of_channels_and_centres_of_kernels() -> None:
    shared = {"x": torch.arange(4 * 3 * 5 * 5).reshape(4, 3, 5, 5)}
    taken = take_slice(shared, TensorSlice("x", (2, 1, 3, 3), (1, 2)))
    assert torch.equal(taken, shared["x"][1:3, 2:3, 1:4, 1:4])


def test_kernels_are_transformed_by_way_of_the_sides_between() -> None:
    """From 7 over 5 to 3, by a loop over outputs and inputs of each matrix."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (4, 2, 7, 7), "x.t5": (25, 25), "x.t3": (9, 9), "y.t3": (9, 9)}
    shared = {slot: torch.randn(shape, generator=generator) for slot, shape in shapes.items()}

    def smaller(kernel: Any, matrix: Any) -> Any:
        centre = [value for row in kernel[1:-1] for value in row[1:-1]]
        flat = [sum(factor * value for factor, value in zip(row, centre, strict=True)) for row in matrix]
        side = len(kernel) - 2
        return [flat[first : first + side] for first in range(0, len(flat), side)]

    for side, first in ((3, 1), (5, 0)):
        taken = take_slice(shared, TensorSlice("x", (2, 1, side, side), (first, 1)))
        for index in range(2):
            expected = smaller(shared["x"][first + index, 1].tolist(), shared["x.t5"].tolist())
            if side == 3:
                expected = smaller(expected, shared["x.t3"].tolist())
            torch.testing.assert_close(taken[index, 0], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    whole = take_slice(shared, TensorSlice("x", (4, 2, 7, 7)))
    assert torch.equal(whole, shared["x"])


def test_untrained_transforms_change_no_kernel_and_no_draw() -> None:
    spec = zoo.get("mixnet_s")
    small = scale(spec, Scaling(width=0.2, resolution_px=32))
    plain, transformed = (slot_shapes([small], kernel_transform=flag) for flag in (False, True))
    first, second = initial_weights(plain, seed=3), initial_weights(transformed, seed=3)
    added = set(second) - set(first)
    assert {slot.rpartition(".")[2] for slot in added} == {"t3", "t5", "t7", "t9"}  # mixnet_s has 3 to 11
    assert all(torch.equal(second[slot], first[slot]) for slot in first)
    for bound in Subnetwork(small).bound:
        for part in bound.slices:
            assert torch.equal(take_slice(first, part), take_slice(second, part))


def test_wider_and_narrower_networks_share_the_narrower_one() -> None:
    narrow, wide = (scale(zoo.get("mixnet_s"), Scaling(width=width, resolution_px=32)) for width in (0.2, 0.4))
    shapes = slot_shapes([narrow, wide])
    assert shapes == slot_shapes([wide])
    shared = initial_weights(shapes, seed=0)
    small, large = (standalone_state(Subnetwork(spec).bound, shared, NoStatistics()) for spec in (narrow, wide))
    shared_names = [name for name in small if name.endswith("conv_dw.weight") or name == "conv_stem.weight"]
    assert len(shared_names) > 3
    for name in shared_names:
        channels = len(small[name])
        assert torch.equal(small[name], large[name][:channels])


class NoStatistics(dict[str, tuple[torch.Tensor, torch.Tensor]]):
    """Statistics of a network that are not looked at."""

    def __missing__(self, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1), torch.ones(1)


def small_kernels(kernel: int) -> ArchSpec:
    return ArchSpec.from_strings(
        "x", [[f"ds_r1_k{kernel}_s1_c16"]], stem=StemSpec(channels=8), head=HeadSpec(channels=8)
    )


def test_network_of_another_space_is_refused_with_the_missing_weights() -> None:
    shapes = slot_shapes([zoo.get("mobilenetv1_025")])
    with pytest.raises(NasError, match="mixnet_s: is not a network of this supernet, which has 8x3x3x3 of conv_stem"):
        check_fits(zoo.get("mixnet_s"), Subnetwork(zoo.get("mixnet_s")).bound, shapes)
    transformed = {**slot_shapes([small_kernels(3), small_kernels(7)], kernel_transform=True)}
    with pytest.raises(
        NasError, match=r"which has kernels of side 3, 7 of blocks\.0\.0\.ds\.conv_dw\.weight, where 8x1x5"
    ):
        check_fits(small_kernels(5), Subnetwork(small_kernels(5)).bound, transformed)
    with pytest.raises(NasError, match=r"which has nothing of blocks\.0\.0\.ds"):
        check_fits(zoo.get("mnasnet_small"), Subnetwork(zoo.get("mnasnet_small")).bound, shapes)


def test_attention_is_refused_with_the_block_and_what_to_do() -> None:
    spec = ArchSpec.from_strings(
        "x",
        [["ds_r1_k3_s1_c16"], ["mqa_r1_k3_h2_d8_s1_c16", "ds_r1_k3_s1_c16"]],
        stem=StemSpec(channels=8),
        head=HeadSpec(channels=8),
    )
    with pytest.raises(NasError, match=r"x: blocks\.1\.0 is an mqa block.*estimator=proxy"):
        Subnetwork(spec)
