"""Costs of hand-made blocks against closed formulas, and of layers against totals."""

from __future__ import annotations

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity, layers, live_elements
from nas.arch.notation import parse_block
from nas.arch.ops.network import Op, block_ops, out_side
from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, SqueezeExcite, StemSpec
from nas.arch.spec import ArchSpec
from nas.latency.random_networks import random_specs
from tests.latency.dense import random_dense_specs


def ops_of(text: str, in_channels: int, px: int, *, se: SqueezeExcite | None = None) -> tuple[Op, ...]:
    """The operations of one block string on a ``px`` x ``px`` input."""
    block = parse_block(text)
    return block_ops(block, block.stride, in_channels, px, "relu", se or SqueezeExcite())


def cost_of(ops: tuple[Op, ...]) -> tuple[int, int, int]:
    return sum(op.macs for op in ops), sum(op.params for op in ops), sum(op.activations for op in ops)


@pytest.mark.parametrize(
    "spec",
    [*map(zoo.get, zoo.names()), *random_specs(60, seed=9), *random_dense_specs(30)],
    ids=lambda spec: spec.name,
)
def test_layers_add_up_to_the_total(spec: ArchSpec) -> None:
    listed, cost = layers(spec), complexity(spec)
    assert sum(layer.macs for layer in listed) == cost.macs
    assert sum(layer.params for layer in listed) == cost.params
    assert sum(layer.activations for layer in listed) == cost.activations
    assert max(layer.live_bytes for layer in listed) == cost.peak_memory_bytes
    assert len({layer.path for layer in listed}) == len(listed)


def test_every_tensor_is_written_before_it_is_read() -> None:
    """Every tensor that a network reads was written before, except its input."""
    for name in ("mixnet_s", "mobilenetv3_large_100", "efficientnet_b0"):
        listed = layers(zoo.get(name))
        assert (listed[0].path, listed[-1].path) == ("conv_stem", "classifier")
        assert listed[0].in_shape == (3, 224) and listed[-1].out_shape == (1000, 1)


def test_inverted_residual() -> None:
    """MobileNetV2, section 3: h * w * d_in * t * (d_in + k^2 + d_out) at stride 1."""
    px, inner, t, out, k = 14, 24, 6, 32, 5
    macs, params, acts = cost_of(ops_of(f"ir_r1_k{k}_s1_e{t}_c{out}", inner, px))
    assert macs == px * px * inner * t * (inner + k * k + out)
    hidden = inner * t
    assert params == hidden * (inner + k * k + out) + 2 * (hidden + hidden + out)
    assert acts == px * px * (hidden + hidden + out)


def test_universal_bottleneck() -> None:
    """MobileNetV4, section 3.

    A depthwise convolution before the expansion, between, and after the projection; the middle one has the stride.
    """
    px, small, ins, hidden, out = 14, 7, 24, 96, 40
    macs, params, acts = cost_of(ops_of("uir_r1_a3_k5_p7_s2_e4_c40", ins, px))
    assert macs == px * px * ins * (9 + hidden) + small * small * (25 * hidden + hidden * out + 49 * out)
    assert params == (9 + hidden + 2) * ins + (2 + 25 + 2 + out) * hidden + (2 + 49 + 2) * out
    assert acts == px * px * (ins + hidden) + small * small * (hidden + out + out)
    first, _, _ = cost_of(ops_of("uir_r1_a3_k0_s2_e4_c40", ins, px))
    assert first == small * small * (9 * ins + ins * hidden + hidden * out)


@pytest.mark.parametrize(("kv_stride", "kv_px"), [(1, 7), (2, 4)])
def test_multi_query_attention(kv_stride: int, kv_px: int) -> None:
    """All heads share one key and one value map.

    Shazeer 2019, arXiv:1911.02150, section 3.
    """
    px, width, heads, d, out = 7, 48, 4, 16, 40
    ops = ops_of(f"mqa_r1_k3_h{heads}_v{kv_stride}_d{d}_s1_c{out}", width, px)
    macs, params, acts = cost_of(ops)
    down = 2 * (kv_stride > 1)  # depthwise convolutions, of key and value
    positions, keys = px * px, kv_px * kv_px
    projections = positions * width * heads * d + 2 * keys * width * d + positions * heads * d * out
    assert macs == projections + down * keys * 9 * width + 2 * positions * keys * heads * d
    assert params == 2 * width + width * heads * d + 2 * width * d + heads * d * out + down * (9 + 2) * width
    assert acts == positions * (heads * d + out) + keys * (2 * d + down * width)
    logits = next(op for op in ops if op.path == "attn.logits")
    assert logits.out_elements == heads * positions * keys
    # Live while the logits are computed: query, key, value and the logits; without a shortcut the input is freed.
    live = dict(zip((op.path for op in ops), live_elements(ops), strict=True))
    assert live["attn.logits"] == positions * heads * d + 2 * keys * d + heads * positions * keys


def test_layer_scale_is_a_parameter_per_channel_and_nothing_else() -> None:
    for text in ("uir_r1_a3_k3_s1_e4_c24", "mqa_r1_k3_h2_s1_d8_c24"):
        plain, block = ops_of(text, 24, 7), parse_block(text)
        scaled = block_ops(block, 1, 24, 7, "relu", SqueezeExcite(), layer_scale=True)
        macs, params, acts = cost_of(plain)
        assert cost_of(scaled) == (macs, params + 24, acts)
        assert live_elements(scaled) == live_elements(plain)


def test_groups_divide_weights_and_work() -> None:
    px, ins, out = 14, 32, 48
    for text, dense, groups in (
        ("cn_r1_k3_gs8_s1_c48", 9 * ins * out, 4),
        ("er_r1_k3_gs32_s1_e4_c48", 9 * ins * 128, 4),
        ("ir_r1_k3_gs16_s1_e4_c48", 9 * 128 * 128, 8),
        ("ds_r1_k3_gs16_s1_c48", 9 * ins * ins, 2),
    ):
        spatial = next(op for op in ops_of(text, ins, px) if op.kernel == 3)
        assert (spatial.kind, spatial.groups, spatial.weights) == ("conv", groups, dense // groups)
        assert spatial.macs == px * px * dense // groups
    for text in ("cn_r1_k3_gs1_s1_c32", "er_r1_k3_gs1_s1_e1_c48", "ir_r1_k3_gs1_s1_e1_c48"):
        spatial = next(op for op in ops_of(text, ins, px) if op.kernel == 3)
        assert (spatial.kind, spatial.weights) == ("depthwise", 9 * ins)


def test_inverted_residual_with_stride_and_odd_side() -> None:
    """The expansion runs at 15 px, everything after the stride at ceil(15 / 2) = 8."""
    macs, _, acts = cost_of(ops_of("ir_r1_k3_s2_e4_c16", 8, 15))
    assert macs == 15 * 15 * 8 * 32 + 8 * 8 * (9 * 32 + 32 * 16)
    assert acts == 15 * 15 * 32 + 8 * 8 * (32 + 16)


@pytest.mark.parametrize("kind", ["ds", "dsa"])
def test_depthwise_separable(kind: str) -> None:
    """MobileNetV1, section 3.1: D_K^2 * M * D_F^2 + M * N * D_F^2."""
    k, m, n, f = 3, 48, 64, 28
    macs, params, acts = cost_of(ops_of(f"{kind}_r1_k{k}_s1_c{n}", m, f))
    assert (macs, acts) == (k * k * m * f * f + m * n * f * f, f * f * (m + n))
    assert params == k * k * m + m * n + 2 * (m + n)


def test_fused_inverted_residual() -> None:
    """A dense k x k convolution expands, with the stride; then a 1x1 projection."""
    macs, params, acts = cost_of(ops_of("er_r1_k3_s2_e4_c24", 16, 20))
    hidden, out_px = 64, 10
    assert macs == out_px**2 * (9 * 16 * hidden + hidden * 24)
    assert params == 9 * 16 * hidden + hidden * 24 + 2 * (hidden + 24)
    assert acts == out_px**2 * (hidden + 24)


def test_plain_convolution() -> None:
    macs, params, acts = cost_of(ops_of("cn_r1_k5_s2_c24", 16, 9))
    assert (macs, params, acts) == (25 * 16 * 24 * 25, 25 * 16 * 24 + 48, 24 * 25)


@pytest.mark.parametrize(
    ("text", "se", "squeeze"),
    [
        ("ir_r1_k3_s1_e6_c24_se0.25", SqueezeExcite(), 6),  # a quarter of the 24 input channels
        ("ds_r1_k3_s1_c24_se0.25", SqueezeExcite(), 6),
        ("ir_r1_k3_s1_e6_c24_se0.25", MOBILENET_V3_SE, 40),  # a quarter of 144 is 36, to a multiple of 8
        ("ir_r1_k3_s1_e6_c24_se0.25", SqueezeExcite(relative_to="expanded"), 36),
        ("ir_r1_k3_s1_e6_c24_se0.01", SqueezeExcite(), 1),  # at least one
    ],
)
def test_squeeze_excite(text: str, se: SqueezeExcite, squeeze: int) -> None:
    """Two 1x1 convolutions with bias on a 1x1 map."""
    hidden = 144 if text.startswith("ir") else 24
    without = cost_of(ops_of(text[: text.index("_se")], 24, 14))
    with_se = cost_of(ops_of(text, 24, 14, se=se))
    added = tuple(after - before for before, after in zip(without, with_se, strict=True))
    assert added == (2 * hidden * squeeze, 2 * hidden * squeeze + squeeze + hidden, squeeze + hidden)


@pytest.mark.parametrize(
    ("suffix", "groups"),
    [
        ("", {3: 11, 5: 10, 7: 10}),  # the remainder of 31 / 3 to group 0
        ("_exponential", {3: 15, 5: 7, 7: 9}),  # 31 // 2, 31 // 4, the rest
    ],
)
def test_mixed_depthwise(suffix: str, groups: dict[int, int]) -> None:
    ops = ops_of(f"ds_r1_k3.5.7_s1_c40{suffix}", 31, 10)
    assert {op.kernel: op.out_channels for op in ops if op.kind == "depthwise"} == groups
    depthwise = sum(kernel * kernel * channels for kernel, channels in groups.items())
    macs, params, acts = cost_of(ops)
    assert (macs, params) == (100 * (depthwise + 31 * 40), depthwise + 31 * 40 + 2 * (31 + 40))
    assert acts == 100 * (31 + 40)


def test_dilated_kernels_cost_a_3x3_where_the_stride_is_1() -> None:
    stride1 = [op for op in ops_of("ds_r1_k3.5.7_s1_c30_dilated", 30, 16) if op.kind == "depthwise"]
    assert [(op.kernel, op.dilation) for op in stride1] == [(3, 1), (3, 2), (3, 3)]
    assert sum(op.macs for op in stride1) == 9 * 30 * 256
    stride2 = [op for op in ops_of("ds_r1_k3.5.7_s2_c30_dilated", 30, 16) if op.kind == "depthwise"]
    assert [(op.kernel, op.dilation) for op in stride2] == [(3, 1), (5, 1), (7, 1)]


def test_grouped_pointwise_convolutions() -> None:
    """Grouped pointwise convolutions: MixNet's a1.1 and p1.1.

    Group j maps part j of the input to part j of the output, remainders in group 0.
    """
    ops = ops_of("ir_r1_k3_a1.1_p1.1_s1_e3_c27", 15, 4)
    hidden = 48  # 45 to a multiple of 8
    expand, project = 8 * 24 + 7 * 24, 24 * 14 + 24 * 13
    macs, params, _ = cost_of(ops)
    assert macs == 16 * (expand + 9 * hidden + project)
    assert params == expand + 9 * hidden + project + 2 * (hidden + hidden + 27)


@pytest.mark.parametrize(
    ("text", "in_channels", "shortcut"),
    [
        ("ir_r1_k3_s1_e6_c16", 16, True),
        ("ir_r1_k3_s1_e6_c16_noskip", 16, False),
        ("ir_r1_k3_s2_e6_c16", 16, False),
        ("ir_r1_k3_s1_e6_c24", 16, False),
        ("ds_r1_k3_s1_c16", 16, True),
        ("dsa_r1_k3_s1_c16", 16, False),
        ("er_r1_k3_s1_e4_c16", 16, True),
        ("cn_r1_k3_s1_c16", 16, False),
        ("cn_r1_k3_s1_c16_skip", 16, True),
    ],
)
def test_shortcuts(text: str, in_channels: int, shortcut: bool) -> None:
    kinds = [op.kind for op in ops_of(text, in_channels, 8)]
    assert ("add" in kinds) == shortcut and kinds.count("add") <= 1


@pytest.mark.parametrize("px", [1, 2, 7, 15, 32, 33])
def test_output_side_is_that_of_symmetric_padding(px: int) -> None:
    for kernel in (1, 3, 5, 7, 9):
        for stride in (1, 2):
            for dilation in (1, 2, 3):
                reach = dilation * (kernel - 1) + 1
                assert out_side(px, stride) == (px + 2 * (reach // 2) - reach) // stride + 1


def tiny(head: HeadSpec) -> ArchSpec:
    stages = [["ir_r2_k3_s1_e2_c8"]]
    return ArchSpec.from_strings(
        "tiny", stages, stem=StemSpec(channels=8), head=head, resolution_px=32, in_channels=1, classes=5
    )


def test_heads() -> None:
    """Cost of each head kind.

    conv_pool: 1x1 convolution with norm at 16 px; pool_conv: with bias at 1 px; no channels: pooling and classifier
    alone.
    """
    bare = complexity(tiny(HeadSpec(channels=0)))
    conv_pool = complexity(tiny(HeadSpec(channels=20)))
    pool_conv = complexity(tiny(HeadSpec(channels=20, kind="pool_conv")))
    assert conv_pool.macs - bare.macs == 8 * 20 * 256 + (20 - 8) * 5
    assert conv_pool.params - bare.params == 8 * 20 + 2 * 20 + (20 - 8) * 5
    assert pool_conv.macs - bare.macs == 8 * 20 + (20 - 8) * 5
    assert pool_conv.params - bare.params == 8 * 20 + 20 + (20 - 8) * 5
    assert conv_pool.activations - bare.activations == 20 * 256
    assert pool_conv.activations - bare.activations == 20


def test_resolution_argument() -> None:
    spec = zoo.get("mixnet_s")
    assert complexity(spec, 224) == complexity(spec)
    larger = complexity(spec, 256)
    assert larger.params == complexity(spec).params and larger.macs > complexity(spec).macs
    assert sum(layer.macs for layer in layers(spec, 256)) == larger.macs
    # Only squeeze-excite and classifier do not grow with the map.
    fixed = sum(layer.macs for layer in layers(spec) if layer.out_shape[1] == 1)
    assert larger.macs - fixed == pytest.approx((complexity(spec).macs - fixed) * (256 / 224) ** 2)


def test_peak_memory_by_hand() -> None:
    """Live elements with folded norms, freed after the last reader.

    The input has 32 px and 1 channel, the 16 px maps M = 256 elements.

        stem: 1024 in, 8 M out                   3072
        expand (shortcut keeps 8 M): 8 M + 16 M  6144
        depthwise: 8 M + 16 M + 16 M            10240 <- the peak
        project: 8 M + 16 M + 8 M                8192
        add: 8 M + 8 M + 8 M                     6144
    """
    spec = tiny(HeadSpec(channels=0))
    live = {layer.path: layer.live_bytes // 4 for layer in layers(spec)}
    names = ("conv_pw", "conv_dw", "conv_pwl", "add")
    assert live["conv_stem"] == 3072
    for block in ("blocks.0.0", "blocks.0.1"):
        assert [live[f"{block}.{name}"] for name in names] == [6144, 10240, 8192, 6144]
    assert (live["global_pool"], live["classifier"]) == (8 * 256 + 8, 8 + 5)
    assert complexity(spec).peak_memory_bytes == 4 * 10240


def test_a_split_is_a_view_and_a_concatenation_a_copy() -> None:
    """k3.5 on 8 channels at 4 px.

    Both groups read the one input; the concatenation doubles what they wrote.
    """
    spec = ArchSpec.from_strings(
        "mixed",
        [["ds_r1_k3.5_s1_c8_noskip"]],
        stem=StemSpec(channels=8, stride=1),
        head=HeadSpec(channels=0),
        resolution_px=4,
        classes=2,
    )
    live = {layer.path.removeprefix("blocks.0.0."): layer.live_bytes // (4 * 16) for layer in layers(spec)}
    assert live["conv_dw.split"] == 8
    assert (live["conv_dw.0"], live["conv_dw.1"]) == (8 + 4, 8 + 4 + 4)
    assert live["conv_dw"] == 4 + 4 + 8  # the input is freed after its last reader
    assert live["conv_pw"] == 8 + 8
