"""Block notation: strict parsing, round trips, and agreement with timm."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import get_act_layer
from timm.models._efficientnet_builder import decode_arch_def

from nas.arch import zoo
from nas.arch.blocks import ACTIVATIONS, BLOCK_TYPES, BlockSpec, format_block, format_number
from nas.arch.notation import parse_block
from nas.arch.option_values import parse_kernels
from nas.core.errors import SpecError

SIDES = st.sampled_from((1, 3, 5, 7, 9, 11))
KERNELS = st.lists(SIDES, min_size=1, max_size=5).map(tuple)
GROUPS = st.integers(1, 3).map(lambda groups: (1,) * groups)
EXPANSIONS = st.sampled_from((1.0, 2.3, 2.5, 3.0, 3.67, 4.5, 6.0)) | st.floats(0.1, 12)
SIDES_OR_NONE = st.sampled_from((0, 1, 3, 5, 7))
RATIOS = st.sampled_from((0.0, 0.25, 0.5)) | st.floats(0.01, 1)


@st.composite
def blocks(draw: st.DrawFn, *, plain: bool = False) -> BlockSpec:
    """Strategy for valid blocks; ``plain`` ones use nothing that timm lacks."""
    kind = draw(st.sampled_from(BLOCK_TYPES))
    depthwise = kind in ("ir", "ds", "dsa")
    given_fields: dict[str, Any] = {
        "kernels": draw(KERNELS if depthwise else SIDES.map(lambda side: (side,))),
        "skip": draw(st.booleans() if plain else st.sampled_from((True, False, None))),
        "stride": draw(st.sampled_from((1, 2))),
    }
    if kind == "mqa":
        given_fields |= {"heads": draw(st.integers(1, 16)), "key_channels": draw(st.integers(1, 128)), "stride": 1}
        given_fields["kv_stride"] = draw(st.sampled_from((1, 2)))
    else:
        given_fields["activation"] = draw(st.none() | st.sampled_from(ACTIVATIONS))
    if kind in ("ir", "er", "uir"):
        given_fields["expansion"] = draw(EXPANSIONS)
    if kind == "uir":
        start, middle, end = (draw(SIDES_OR_NONE) for _ in range(3))
        given_fields |= {"start_kernel": start, "kernels": (middle,), "end_kernel": end, "se_ratio": draw(RATIOS)}
        given_fields["stride"] = 1 if start == middle == end == 0 else given_fields["stride"]
    if kind == "er":
        given_fields["base_channels"] = draw(st.none() | st.integers(1, 64))
    if kind == "ir":
        given_fields["expand_kernels"] = draw(GROUPS)
    if kind in ("ir", "ds", "dsa", "er"):
        given_fields |= {"se_ratio": draw(RATIOS), "project_kernels": draw(GROUPS)}
    if kind in ("ir", "ds", "dsa", "er", "cn") and len(given_fields["kernels"]) == 1 and draw(st.booleans()):
        given_fields["group_size"] = draw(st.integers(1, 64))
    if depthwise and not plain and "group_size" not in given_fields:
        partition = draw(st.sampled_from(("equal", "exponential")))
        given_fields |= {"partition": partition, "dilated": draw(st.booleans())}
    return BlockSpec(
        type=kind,  # type: ignore[arg-type]
        channels=draw(st.integers(1, 4096)),
        repeats=draw(st.integers(1, 20)),
        **given_fields,
    )


@given(block=blocks())
def test_block_strings_round_trip(block: BlockSpec) -> None:
    assert parse_block(format_block(block)) == block == parse_block(str(block))


@pytest.mark.parametrize("name", zoo.names())
def test_strings_of_published_networks_round_trip(name: str) -> None:
    for stage in zoo.get(name).stages:
        assert [parse_block(str(block)) for block in stage.blocks] == list(stage.blocks)


def of_timm(kernel: int | list[int]) -> tuple[int, ...]:
    return (kernel,) if isinstance(kernel, int) else tuple(kernel)


@given(block=blocks(plain=True))
def test_timm_reads_the_same_fields(block: BlockSpec) -> None:
    (stage,) = decode_arch_def([[format_block(block)]])
    assert len(stage) == block.repeats
    (theirs,) = stage[:1]
    assert (theirs["block_type"], theirs["out_chs"], theirs["stride"]) == (block.type, block.channels, block.stride)
    assert theirs["act_layer"] is (get_act_layer(block.activation) if block.activation else None)
    kernel = {"cn": "kernel_size", "er": "exp_kernel_size", "uir": "dw_kernel_size_mid"}
    assert of_timm(theirs[kernel.get(block.type, "dw_kernel_size")]) == block.kernels
    assert theirs.get("group_size") == block.group_size
    if block.type == "cn":
        assert theirs["skip"] == block.skip
        return
    assert theirs["noskip"] == (not block.skip or block.type == "dsa")
    if block.type == "mqa":
        keys = (theirs["num_heads"], theirs["key_dim"], theirs["value_dim"], theirs["kv_stride"])
        assert keys == (block.heads, block.key_channels, block.key_channels, block.kv_stride)
        return
    assert theirs["se_ratio"] == block.se_ratio
    if block.type == "uir":
        sides = (theirs["dw_kernel_size_start"], theirs["dw_kernel_size_end"])
        assert sides == (block.start_kernel, block.end_kernel)
    else:
        assert of_timm(theirs["pw_kernel_size"]) == block.project_kernels
    if block.type in ("ir", "er", "uir"):
        assert theirs["exp_ratio"] == block.expansion
    if block.type == "er":
        assert (theirs["force_in_chs"] or None) == block.base_channels
    if block.type == "ir":
        assert of_timm(theirs["exp_kernel_size"]) == block.expand_kernels


def test_every_option_in_any_order() -> None:
    expected = BlockSpec(
        type="ir",
        channels=40,
        repeats=2,
        kernels=(3, 5, 7),
        stride=2,
        expansion=6.0,
        se_ratio=0.5,
        expand_kernels=(1, 1),
        project_kernels=(1, 1),
        activation="swish",
        skip=False,
        partition="exponential",
        dilated=True,
    )
    text = "ir_r2_k3.5.7_a1.1_p1.1_s2_e6_c40_se0.5_nsw_noskip_exponential_dilated"
    assert parse_block(text) == expected
    assert parse_block(" ir_dilated_noskip_nsw_se0.5_c40_e6_s2_exponential_p1.1_a1.1_k3.5.7_r2\n") == expected
    assert str(expected) == text


BAD_STRINGS = {
    # unknown, misspelt, incomplete
    "xx_r1_k3_s1_c8": "unknown type 'xx'; the types are ir, ds, dsa, er, cn, uir, mqa",
    "": "unknown type ''",
    "mha_r1_k3_h4_s1_d64_c8": "type 'mha' exists in timm but is not supported",
    "ds_r1_k3_s1_c8_q4": "unknown option 'q4'; the options are r, k,",
    "ds_r1_k3_s1_c8_nosip": "unknown option 'nosip'.* Did you mean 'noskip'",
    "ds_r1_k3_s1_c8_dilate": "unknown option 'dilate'.* Did you mean 'dilated'",
    "ds_r1_k3_s1_c8_nxx": "unknown option 'nxx'; activations are nre, nr6, nhs, nsw, nmi",
    "ds_r1_k3_s1_c8_n3": "unknown option 'n3'",
    "ds_r1_k3_s1_c8_se": "unknown option 'se'",
    "ds_r1_k3_s1_c8_K3": "unknown option 'K3'",
    "ds_r1__k3_s1_c8": "unknown option ''",
    "ir_r1_k3_s1_e6_c8_cc4": "option 'cc4' exists in timm but is not supported",
    "ir_r1_k3_s1_e6_c8_fc24": r"base_channels 24 \(fc\): only an er block has them",
    "er_r1_k3_s1_e6_c8_fc0": "base_channels 0: must be a whole number of at least 1",
    "er_r1_k3_s1_e6_c8_fcx": "unknown option 'fcx'",
    "er_r1_k3_s1_e6_c8_noskip_unknownskip": "'noskip' and 'unknownskip' exclude each other",
    "ds_r1_k3_k5_s1_c8": "option 'k' is given twice",
    "ds_r1_k3_s1_c8_nre_nsw": "option 'n' is given twice",
    "ds_r1_k3_s1_c8_noskip_noskip": "option 'noskip' is given twice",
    "ir_r1_k3_s1_c8": "option 'e' is missing; ir needs r, k, s, e, c",
    "ds_k3_s1_c8": "option 'r' is missing; ds needs r, k, s, c",
    # values
    "ds_r1_k3_s3_c8": "stride 3: a block's stride is 1 or 2",
    "ds_r1_k4_s1_c8": r"kernels \(4,\): must be odd",
    "ds_r1_k3.6_s1_c8": r"kernels \(3, 6\): must be odd",
    "ds_r1_k3._s1_c8": r"kernels '3\.': must be whole numbers joined by dots",
    "ds_r1_k3.+5_s1_c8": r"kernels '3\.\+5': must be whole",
    "ds_r0_k3_s1_c8": "repeats 0: must be a whole number of at least 1",
    "ds_r1_k3_s1_c0": "channels 0: must be",
    "ds_r1.5_k3_s1_c8": r"option 'r1\.5': needs a whole number of at most 9 digits after 'r'",
    "ds_r1_k3_s1_c8x": "option 'c8x': needs a whole number",
    "ds_r1_k3_s1_c8_se0.5x": r"option 'se0\.5x': needs a number",
    "ds_r1_k3_s1_c8_se1.5": r"se_ratio 1\.5: must lie between 0",
    "ir_r1_k3_s1_e0_c8": r"expansion 0\.0: must be a positive",
    "ir_r1_k3_s1_e1e999_c8": "expansion inf: must be",
    # fields that the type does not have
    "ds_r1_k3_s1_e6_c8": "expansion 6: a ds block has no expansion",
    "ds_r1_k3_a1.1_s1_c8": r"expand_kernels \(1, 1\): only an ir block",
    "ir_r1_k3_s1_e6_c8_skip": "'skip' is for cn blocks only",
    "cn_r1_k3_s1_c8_skip_noskip": "'noskip' and 'skip' exclude each other",
    "cn_r1_k3.5_s1_c8": "a cn block is one convolution",
    "cn_r1_k3_s1_c8_se0.25": "a cn block is one convolution",
    "cn_r1_k3_s1_c8_dilated": "dilated: only the depthwise",
    "cn_r1_k3_s1_c8_exponential": "partition exponential: only a depthwise",
    "er_r1_k3.5_s1_e4_c8": "an er block takes one undilated kernel",
    "ir_r1_k3.5_s1_e4_c8_gs8": "group_size 8: for one undilated kernel",
    "ir_r1_k5_s1_e4_c8_gs8_dilated": "group_size 8: for one undilated kernel",
    "uir_r1_k3_s1_e4_c8_gs8": "group_size 8: a uir block takes none",
    "er_r1_k3_s1_e4_c8_gs0": "group_size 0: must be a whole number of at least 1",
    # universal bottlenecks and attention
    "uir_r1_k3.5_s1_e4_c8": "a uir block takes one undilated kernel",
    "uir_r1_k3_s1_e4_c8_dilated": "a uir block takes one undilated kernel",
    "uir_r1_a3.5_k3_s1_e4_c8": r"option 'a3\.5': needs a whole number",
    "uir_r1_a2_k3_s1_e4_c8": r"start_kernel \(2,\): must be odd",
    "uir_r1_k0_s2_e4_c8": "stride 2: a uir block without any kernel",
    "uir_r1_k3_s1_c8": "option 'e' is missing; uir needs r, k, s, e, c",
    "ir_r1_k0_s1_e4_c8": r"kernels \(0,\): must be odd",
    "mqa_r1_k3_s1_d64_c8": "option 'h' is missing; mqa needs r, k, h, s, d, c",
    "mqa_r1_k3_h0_s1_d64_c8": "heads 0: must be a whole number of at least 1",
    "mqa_r1_k3_h4_v3_s1_d64_c8": "kv_stride 3: must be 1 or 2",
    "mqa_r1_k3_h4_s2_d64_c8": "an mqa block takes stride 1",
    "mqa_r1_k3_h4_s1_d64_c8_nre": "an mqa block takes stride 1 and one kernel",
    "mqa_r1_k3_h4_s1_d64_e4_c8": "expansion 4: ",
    "ir_r1_k3_s1_e6_c8_d1": r"heads, key_channels, kv_stride \(h, d, v\): only an mqa block",
}


@pytest.mark.parametrize(("text", "message"), BAD_STRINGS.items(), ids=list(BAD_STRINGS))
def test_errors_name_the_mistake(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        parse_block(text)
    assert f"block {text!r}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "irr"),
        ("partition", "half"),
        ("activation", "gelu"),
        ("channels", 8.0),
        ("channels", True),
        ("repeats", 0),
        ("stride", 4),
        ("kernels", ()),
        ("kernels", (3, -3)),
        ("expand_kernels", (2,)),
        ("expansion", math.nan),
        ("se_ratio", -0.1),
        ("start_kernel", 3),
        ("heads", 1),
    ],
)
def test_invalid_fields(field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=field):
        replace(parse_block("ir_r1_k3_s1_e6_c8"), **{field: value})


def test_blocks_are_immutable_and_hashable() -> None:
    block = parse_block("ds_r1_k3_s1_c8")
    assert hash(block) == hash(parse_block("ds_r1_k3_s1_c8"))
    for item in fields(block):
        with pytest.raises(FrozenInstanceError):
            setattr(block, item.name, None)


def test_numbers_and_kernels() -> None:
    assert [format_number(value) for value in (6.0, 0.25, 2.3, 1e-07)] == ["6", "0.25", "2.3", "1e-07"]
    assert parse_kernels("k3.5.7") == parse_kernels("3.5.7") == (3, 5, 7)
