"""Rewritten networks compute what the plain ones do, with the operations that their forms say."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

import pytest
import torch

from nas.arch import zoo
from nas.arch.blocks import DEPTHWISE_TYPES, BlockSpec, Partition
from nas.arch.ops.network import network_segments
from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, SqueezeExcite, StemSpec
from nas.arch.spec import ArchSpec, Padding, StageSpec
from nas.core.errors import NasError
from nas.exporters.graph import inference_graph
from nas.exporters.rewriting.candidates import candidates
from nas.exporters.rewriting.forms import PLAIN, BlockForm, Forms
from nas.exporters.rewriting.network import plain_path, rewritten_ops
from tests.exporters.rewriting.float64 import run_in_float64

KERNELS = ("3", "5", "3.5", "3.5.7", "3.5.7.9", "5.7.9.11.3")


def random_network(rng: random.Random, padding: Padding) -> ArchSpec:
    """A small network of blocks of every kind, most of them depthwise, with odd groups, on maps down to 3 px."""
    stages = []
    for index in range(4):
        kind = rng.choice(("ir", "ir", "ir", "ds", "dsa"))
        if rng.random() < 0.15:
            stages.append([rng.choice(("er_r1_k3_s1_e2_c13_se0.25", "cn_r1_k3_s1_c10", "uir_r1_a3_k5_s1_e2_c18"))])
            continue
        tokens = [
            kind,
            f"r{rng.randint(1, 2)}",
            f"k{rng.choice(KERNELS)}",
            f"s{rng.choice((1, 2)) if index < 3 else 1}",
        ]
        if kind == "ir":
            tokens += [f"e{rng.choice((2, 3, 4))}", rng.choice(("a1", "a1.1", "a1.1"))]
        tokens += [f"c{rng.choice((13, 16, 24, 40))}", rng.choice(("p1", "p1.1", "p1.1"))]
        tokens += [f"se{rng.choice((0.25, 0.5))}"] if rng.random() < 0.5 else []
        stages.append(["_".join(token for token in tokens if token not in ("a1", "p1"))])
    spec = ArchSpec.from_strings(
        "random",
        stages,
        stem=StemSpec(channels=16),
        head=HeadSpec(channels=16),
        resolution_px=rng.choice((24, 31, 46)),
        classes=5,
        activation=rng.choice(("relu", "relu6", "swish", "hard_swish", "gelu", "mish")),
        squeeze_excite=rng.choice((SqueezeExcite(), MOBILENET_V3_SE)),
        padding=padding,
    )
    return replace(spec, stages=tuple(StageSpec((varied(stage.blocks[0], rng),)) for stage in spec.stages))


def varied(block: BlockSpec, rng: random.Random) -> BlockSpec:
    """``block``, perhaps dilated, and perhaps with an exponential partition of its MixConv."""
    if block.type not in DEPTHWISE_TYPES:
        return block
    partition: Partition = "exponential" if len(block.kernels) < 4 and rng.random() < 0.4 else "equal"
    return replace(block, dilated=rng.random() < 0.3, partition=partition)


def random_forms(spec: ArchSpec, rng: random.Random, lane: int) -> Forms:
    """A form of every block that is not the plain one, where there is another."""
    found = [candidates(part, spec.padding, lane, linear_gates=True) for part in network_segments(spec)[1:-1]]
    return tuple(rng.choice(forms[1:] or forms).form for forms in found)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("seed", range(12))
def test_rewritten_networks_compute_the_same_function(seed: int, padding: Padding) -> None:
    rng = random.Random(seed)
    spec = random_network(rng, padding)
    images = torch.randn((2, 3, spec.resolution_px, spec.resolution_px), dtype=torch.float64)
    expected = run_in_float64(inference_graph(spec, batch=2), images)
    for lane in (4, 16):
        forms = random_forms(spec, rng, lane)
        graph = inference_graph(spec, batch=2, forms=forms)
        assert graph.ops != inference_graph(spec, batch=2).ops
        torch.testing.assert_close(run_in_float64(graph, images), expected, rtol=1e-9, atol=1e-12, msg=str(forms))


def test_every_form_of_one_block_computes_the_same_function() -> None:
    spec = ArchSpec.from_strings(
        "one_block", [["ir_r1_k3.5.7.9_s2_e5_a1.1_p1.1_c24_se0.25"]],
        stem=StemSpec(channels=24), head=HeadSpec(channels=8), resolution_px=16, classes=3, activation="hard_swish",
    )  # fmt: skip
    images = torch.randn((1, 3, 16, 16), dtype=torch.float64)
    expected = run_in_float64(inference_graph(spec), images)
    expands, projects = ("split", "grouped", "dense", "pieces"), ("split", "grouped", "dense", "sum")
    forms = [
        BlockForm(expand, merged, lane, project, linear_gate, cropped=linear_gate)
        for expand, merged, lane, project, linear_gate in product(
            expands, ((), (4,), (2, 2), (1, 3), (2, 1, 1)), (1, 16), projects, (False, True)
        )
    ]
    for form in forms:
        logits = run_in_float64(inference_graph(spec, forms=(form,)), images)
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12, msg=str(form))


def mixnet_block(form: BlockForm) -> dict[str, object]:
    """Operations of a block of MixNet-S, 40 channels at 28 px, expanded to 240 in kernels 3 and 5, by path."""
    spec = zoo.get("mixnet_s")
    paths = [placed.path for placed in spec.placed_blocks()]
    forms = [PLAIN] * len(paths)
    forms[paths.index("blocks.2.1")] = form
    ops, _ = rewritten_ops(spec, tuple(forms))
    return {op.path.removeprefix("blocks.2.1."): op for op in ops if op.path.startswith("blocks.2.1.")}


def test_the_plain_form_changes_nothing() -> None:
    assert list(mixnet_block(PLAIN).values()) == [
        op for op in inference_graph(zoo.get("mixnet_s")).ops if op.path.startswith("blocks.2.1.")
    ]


def test_merged_kernels_are_one_depthwise_convolution_of_the_largest() -> None:
    ops = mixnet_block(BlockForm(merged=(2,)))
    depthwise = [op for op in ops.values() if op.kind == "depthwise"]
    assert [(op.path, op.kernel, op.out_channels, op.macs) for op in depthwise] == [
        ("blocks.2.1.conv_dw", 5, 240, 240 * 25 * 28 * 28)
    ]
    assert depthwise[0].activation == "swish"


def test_pieces_are_padded_and_neither_split_nor_joined_when_summed() -> None:
    ops = mixnet_block(BlockForm(expand="pieces", lane=16, project="sum"))
    assert {path: op.out_channels for path, op in ops.items() if op.kind == "depthwise"} == {
        "conv_dw.run0": 128, "conv_dw.run1": 128
    }  # fmt: skip
    assert [op.path for op in ops.values() if op.kind == "concat" and op.in_px > 1] == []
    # Each of the two kernels has its own half of the input, whose split is the only one.
    assert [op.path for op in ops.values() if op.kind == "split"] == ["blocks.2.1.conv_pw.split"]
    assert sum(op.kind == "add" for op in ops.values()) == 2  # the sum of two, and the shortcut


def test_grouped_convolutions_keep_their_multiply_adds_and_dense_ones_double_them() -> None:
    plain = sum(op.macs for path, op in mixnet_block(PLAIN).items() if path.startswith("conv_pw.") or path == "conv_pw")
    grouped, dense = mixnet_block(BlockForm(expand="grouped")), mixnet_block(BlockForm(expand="dense"))
    assert (grouped["conv_pw"].groups, grouped["conv_pw"].macs) == (2, plain)
    assert (dense["conv_pw"].groups, dense["conv_pw"].macs) == (1, 2 * plain)


def test_kernels_larger_than_their_map_are_cropped() -> None:
    spec = replace(zoo.get("mixnet_l"), resolution_px=96)  # last maps of 3 px, kernels up to 11
    forms = (BlockForm(cropped=True),) * len(list(spec.placed_blocks()))
    kernels = {op.kernel for op in rewritten_ops(spec, forms)[0] if op.kind == "depthwise" and op.in_px == 3}
    assert kernels == {3, 5}  # at most 2 x 3 - 1


def test_forms_differ_in_their_operations() -> None:
    spec = zoo.get("mixnet_m")
    for part in network_segments(spec):
        found = candidates(part, spec.padding, 16)
        assert found[0].form == PLAIN and found[0].part is part
        assert len({one.part.ops for one in found}) == len(found)


def test_parameters_of_plain_operations_are_found_by_their_paths() -> None:
    plain = {op.path for op in inference_graph(zoo.get("mixnet_s")).ops}
    assert plain_path("blocks.2.1.conv_dw.run1", plain) == "blocks.2.1.conv_dw"
    assert plain_path("blocks.2.1.se.piece0", plain) == "blocks.2.1.se"
    assert plain_path("blocks.2.1.conv_pwl", plain) == "blocks.2.1.conv_pwl"


def test_forms_of_another_network_are_refused() -> None:
    with pytest.raises(NasError, match="forms: 1 for the 16 blocks of mixnet_s"):
        inference_graph(zoo.get("mixnet_s"), forms=(PLAIN,))
