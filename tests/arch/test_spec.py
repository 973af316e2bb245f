"""Specs are validated and immutable, and equal networks have equal ``arch_id``."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, NormSpec, SqueezeExcite, StemSpec
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import SpecError

STAGES = [["ds_r1_k3_s1_c16"], ["ir_r2_k3.5.7_s2_e6_c24_se0.25", "ir_r1_k5_s1_e3_c24"], ["cn_r1_k1_s1_c32"]]


def network(stages: list[list[str]] | None = None, **other: Any) -> ArchSpec:
    given: dict[str, Any] = {"stem": StemSpec(channels=16), "head": HeadSpec(channels=64), **other}
    return ArchSpec.from_strings(given.pop("name", "n"), stages or STAGES, **given)


UNIVERSAL = (StageSpec.parse(["uir_r1_k3_s1_e2_c16"]),)


def with_first(text: str, **fields_of_network: Any) -> ArchSpec:
    """A network whose first stage is ``text``, after a stem of 16 channels."""
    return network([[text], *STAGES[1:]], **fields_of_network)


def with_attention(text: str) -> ArchSpec:
    """A network whose first stage is ``text`` and a block that may end a stage."""
    return network([[text, "ds_r1_k3_s1_c16"], *STAGES[1:]])


EQUIVALENT = {
    "repeats": (network([["ir_r2_k3_s2_e6_c16"]]), network([["ir_r1_k3_s2_e6_c16", "ir_r1_k3_s1_e6_c16"]])),
    "explicit default activation": (with_first("ds_r1_k3_s1_c16_nre"), with_first("ds_r1_k3_s1_c16")),
    "dilated 3x3": (with_first("ds_r1_k3_s1_c16_dilated"), with_first("ds_r1_k3_s1_c16")),
    "dilated with stride": (with_first("ds_r1_k5_s2_c16_dilated"), with_first("ds_r1_k5_s2_c16")),
    "exponential of one kernel": (with_first("ds_r1_k5_s1_c16_exponential"), with_first("ds_r1_k5_s1_c16")),
    "exponential halves": (with_first("ds_r1_k3.5_s1_c16_exponential"), with_first("ds_r1_k3.5_s1_c16")),
    "no shortcut where none fits": (with_first("ds_r1_k3_s1_c24_noskip"), with_first("ds_r1_k3_s1_c24")),
    "no shortcut over a stride": (with_first("ds_r1_k3_s2_c16_noskip"), with_first("ds_r1_k3_s2_c16")),
    "no shortcut of a dsa": (with_first("dsa_r1_k3_s1_c16_noskip"), with_first("dsa_r1_k3_s1_c16")),
    "shortcut that cannot be": (with_first("cn_r1_k3_s1_c24_skip"), with_first("cn_r1_k3_s1_c24")),
    "ratios that round alike": (with_first("ir_r1_k3_s1_e2.3_c80"), with_first("ir_r1_k3_s1_e2.5_c80")),
    "groups of one channel": (with_first("ds_r1_k3_gs1_s1_c16"), with_first("ds_r1_k3_s1_c16")),
    "one group": (with_first("cn_r1_k3_gs16_s1_c16"), with_first("cn_r1_k3_s1_c16")),
    "kernel of keys that stay": (with_attention("mqa_r1_k5_h2_s1_d8_c16"), with_attention("mqa_r1_k3_h2_s1_d8_c16")),
    "initial layer scale": (
        replace(with_first("uir_r1_k3_s1_e2_c16"), layer_scale=0.1),
        replace(with_first("uir_r1_k3_s1_e2_c16"), layer_scale=0.2),
    ),
    "base of an expansion": (with_first("er_r1_k3_s1_e4_c16_fc24"), with_first("er_r1_k3_s1_e6_c16")),
    "unknown shortcut": (with_first("ds_r1_k3_s1_c24_unknownskip"), with_first("ds_r1_k3_s1_c24_noskip")),
    "name": (network(name="a"), network(name="b")),
    "training rates": (network(dropout=0.3, drop_path=0.2), network()),
    "squeeze-excite kind without any": (
        network([["ds_r1_k3_s1_c16"]], squeeze_excite=MOBILENET_V3_SE),
        network([["ds_r1_k3_s1_c16"]]),
    ),
}
CHANGES: dict[str, ArchSpec] = {
    "kernel": with_first("ds_r1_k5_s1_c16"),
    "two kernels": with_first("ds_r1_k3.5_s1_c16"),
    "kernel order": with_first("ds_r1_k5.3_s1_c16"),
    "kernels swapped for 1": with_first("ds_r1_k1_s1_c16"),
    "three kernels": with_first("ds_r1_k3.5.7_s1_c16"),
    "exponential": with_first("ds_r1_k3.5.7_s1_c16_exponential"),
    "dilated": with_first("ds_r1_k3.5.7_s1_c16_dilated"),
    "projection groups": with_first("ds_r1_k3_p1.1_s1_c16"),
    "stride": with_first("ds_r1_k3_s2_c16"),
    "channels": with_first("ds_r1_k3_s1_c24"),
    "repeats": with_first("ds_r2_k3_s1_c16"),
    "squeeze-excite": with_first("ds_r1_k3_s1_c16_se0.25"),
    "wider squeeze": with_first("ds_r1_k3_s1_c16_se0.5"),
    "activation of a block": with_first("ds_r1_k3_s1_c16_nsw"),
    "no shortcut": with_first("ds_r1_k3_s1_c16_noskip"),
    "type dsa": with_first("dsa_r1_k3_s1_c16"),
    "type ir": with_first("ir_r1_k3_s1_e1_c16"),
    "wider expansion": with_first("ir_r1_k3_s1_e3_c16"),
    "expansion groups": with_first("ir_r1_k3_a1.1_s1_e3_c16"),
    "type er": with_first("er_r1_k3_s1_e3_c16"),
    "type cn": with_first("cn_r1_k3_s1_c16"),
    "type cn with shortcut": with_first("cn_r1_k3_s1_c16_skip"),
    "stage borders": network([["ds_r1_k3_s1_c16"], [STAGES[1][0]], [STAGES[1][1]], STAGES[2]]),
    "stem channels": network(stem=StemSpec(channels=24)),
    "stem kernel": network(stem=StemSpec(channels=16, kernel=5)),
    "stem stride": network(stem=StemSpec(channels=16, stride=1)),
    "head channels": network(head=HeadSpec(channels=72)),
    "head kind": network(head=HeadSpec(channels=64, kind="pool_conv")),
    "resolution": network(resolution_px=192),
    "input channels": network(in_channels=1),
    "classes": network(classes=10),
    "activation": network(activation="swish"),
    "squeeze of expanded": network(squeeze_excite=SqueezeExcite(relative_to="expanded")),
    "squeeze to eights": network(squeeze_excite=SqueezeExcite(divisor=8)),
    "gate": network(squeeze_excite=SqueezeExcite(gate="hard_sigmoid")),
    "norm": network(norm=NormSpec(eps=1e-3)),
    "padding": network(padding="same"),
    "dense groups": with_first("cn_r1_k3_gs8_s1_c16"),
    "type uir": with_first("uir_r1_k3_s1_e3_c16"),
    "uir with start": with_first("uir_r1_k3_a3_s1_e3_c16"),
    "uir with end": with_first("uir_r1_k3_p3_s1_e3_c16"),
    "uir without kernel": with_first("uir_r1_k0_s1_e3_c16"),
    "layer scale": replace(with_first("uir_r1_k3_s1_e3_c16"), layer_scale=0.1),
    "type mqa": with_attention("mqa_r1_k3_h2_s1_d8_c16"),
    "heads": with_attention("mqa_r1_k3_h1_s1_d8_c16"),
    "key channels": with_attention("mqa_r1_k3_h2_s1_d16_c16"),
    "smaller keys": with_attention("mqa_r1_k3_h2_v2_s1_d8_c16"),
    "smaller keys, wider kernel": with_attention("mqa_r1_k5_h2_v2_s1_d8_c16"),
    "head norm": network(head=HeadSpec(channels=64, kind="pool_conv_norm")),
    "plain head": network(head=HeadSpec(channels=64, kind="pool_conv_plain")),
    "gelu": network(activation="gelu"),
}


@pytest.mark.parametrize("pair", EQUIVALENT.values(), ids=list(EQUIVALENT))
def test_equivalent_specs_share_an_id(pair: tuple[ArchSpec, ArchSpec]) -> None:
    first, second = pair
    assert first != second
    assert first.arch_id == second.arch_id and first.canonical() == second.canonical()


def test_every_real_change_changes_the_id() -> None:
    names: dict[str, str] = {network().arch_id: "base"}
    for name, spec in CHANGES.items():
        assert spec.arch_id not in names, f"{name} has the id of {names.get(spec.arch_id)}"
        names[spec.arch_id] = name
    assert all(len(arch_id) == 12 and int(arch_id, 16) >= 0 for arch_id in names)


def test_inner_activation_of_squeeze_excite_counts_where_it_differs() -> None:
    """ReLU inside is a change for swish blocks and none for ReLU blocks."""
    inner = SqueezeExcite(activation="relu")
    assert network(squeeze_excite=inner).arch_id == network().arch_id
    assert network(activation="swish", squeeze_excite=inner).arch_id != network(activation="swish").arch_id


def test_placed_blocks_of_mixnet_s() -> None:
    spec = zoo.get("mixnet_s")
    blocks = list(spec.placed_blocks())
    assert (len(blocks), spec.depth, spec.total_stride) == (16, 16, 32)
    assert [block.path for block in blocks][:4] == ["blocks.0.0", "blocks.1.0", "blocks.1.1", "blocks.2.0"]
    assert [block.in_channels for block in blocks] == [16, 16, 24, 24, *[40] * 4, *[80] * 3, *[120] * 3, 200, 200]
    assert [block.stride for block in blocks] == [1, 2, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1]
    assert network().strings[2] == ("cn_r1_k1_s1_c32",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ds_r1_k3.5.7.9.11.13_s1_c16_exponential",
            r"blocks\.0\.0.*16 channels cannot be split 6 ways \(kernels, exponential",
        ),
        ("ir_r1_k3_a1.1.1_s1_e6_c2", r"2 channels cannot be split 3 ways \(expand_kernels, equal"),
        ("ir_r1_k3_p1.1.1_s1_e6_c2", r"2 channels cannot be split 3 ways \(project_kernels, equal"),
        ("ds_r1_k3.5.7_s1_c2", r"2 channels cannot be split 3 ways \(kernels, equal"),
    ],
)
def test_splits_that_leave_a_group_empty(text: str, message: str) -> None:
    channels = 16 if "c16" in text else 2
    with pytest.raises(SpecError, match=message):
        network([[text]], stem=StemSpec(channels=channels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ds_r1_k3_gs3_s1_c16", r"blocks\.0\.0 .*group_size 3 does not divide 16 channels\."),
        ("ds_r1_k3_gs32_s1_c16", "group_size 32 does not divide 16"),
        ("er_r1_k3_gs4_s1_e3_c16", r"group_size 4 does not divide 48 channels into groups that divide 16 too"),
        ("cn_r1_k3_gs4_s1_c18", r"group_size 4 does not divide 16 channels into groups that divide 18 too"),
    ],
)
def test_groups_that_do_not_fit(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        with_first(text)


def test_the_smallest_exponential_split() -> None:
    """16 channels are 8, 4, 2, 1, 1 in five groups.

    In six, floor(16 / 2^5) would leave the fifth without any.
    """
    assert network([["ds_r1_k3.5.7.9.11_s1_c16_exponential"]]).depth == 1


def test_an_unknown_shortcut_may_not_matter() -> None:
    """It does where stride and channels leave room for one."""
    message = (
        r"blocks\.0\.1 ds_r2_k3_s1_c24_unknownskip: .*; replace unknownskip by noskip, or by nothing if it has one"
    )
    assert with_first("ds_r1_k3_s1_c24_unknownskip").arch_id == with_first("ds_r1_k3_s1_c24").arch_id
    assert with_first("dsa_r2_k3_s1_c24_unknownskip").arch_id == with_first("dsa_r2_k3_s1_c24").arch_id
    with pytest.raises(SpecError, match=message):
        with_first("ds_r2_k3_s1_c24_unknownskip")
    with pytest.raises(SpecError, match="replace unknownskip by skip, or by nothing if it has none"):
        with_first("cn_r2_k3_s1_c24_unknownskip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ()}, "network 'n' has no stages"),
        ({"resolution_px": 0}, "resolution_px 0: must be a whole number of at least 1"),
        ({"resolution_px": 16385}, "resolution_px 16385: must be at most 16384"),
        ({"resolution_px": 224.0}, r"resolution_px 224\.0"),
        ({"in_channels": -3}, "in_channels -3"),
        ({"classes": 0}, "classes 0"),
        ({"activation": "elu"}, "unknown activation 'elu': choose from relu"),
        ({"padding": "valid"}, "padding 'valid'"),
        ({"layer_scale": 0.1}, r"layer_scale 0\.1: no uir or mqa block; set it to null"),
        (
            {"layer_scale": 0.0, "stages": UNIVERSAL},
            r"layer_scale 0\.0: must be a positive number, at most 1000",
        ),
        ({"dropout": 1.0}, r"dropout 1\.0: must lie in \[0, 1\)"),
        ({"drop_path": -0.1}, r"drop_path -0\.1"),
    ],
)
def test_invalid_networks(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(network(), **change)


@pytest.mark.parametrize(
    ("kind", "fields_of_part", "message"),
    [
        (StemSpec, {"channels": 0}, "stem .*positive channels"),
        (StemSpec, {"channels": 8, "kernel": 4}, "odd kernel"),
        (StemSpec, {"channels": 8, "stride": 4}, "stride 1 or 2"),
        (HeadSpec, {"channels": -1}, "head channels -1"),
        (HeadSpec, {"channels": 0, "kind": "pool_conv"}, "head channels 0: must be positive"),
        (HeadSpec, {"channels": 8, "kind": "conv"}, "head kind 'conv'"),
        (SqueezeExcite, {"relative_to": "output"}, "relative_to is input or expanded"),
        (SqueezeExcite, {"divisor": 4}, "divisor is 1 or 8"),
        (NormSpec, {"eps": 0.0}, "eps must be positive"),
        (NormSpec, {"momentum": 1.5}, "momentum in"),
        (StageSpec, {"blocks": ()}, "a stage needs at least one block"),
    ],
)
def test_invalid_parts(kind: type, fields_of_part: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        kind(**fields_of_part)


def test_a_stage_that_ends_on_attention_is_refused() -> None:
    with pytest.raises(SpecError, match="mqa_r1_k3_h2_d8_s1_c16: a stage cannot end with attention"):
        with_first("mqa_r1_k3_h2_s1_d8_c16")


def test_a_later_stride_in_a_stage_is_refused() -> None:
    with pytest.raises(SpecError, match="block 1 of the stage, ds_r1_k3_s2_c8: only the first block"):
        StageSpec.parse(["ds_r1_k3_s2_c8", "ds_r1_k3_s2_c8"])


@pytest.mark.parametrize(
    "part", [network(), StemSpec(channels=8), HeadSpec(channels=8), SqueezeExcite(), NormSpec(), network().stages[0]]
)
def test_immutable_and_hashable(part: Any) -> None:
    assert hash(part) == hash(replace(part))
    for item in fields(part):
        with pytest.raises(FrozenInstanceError):
            setattr(part, item.name, None)
