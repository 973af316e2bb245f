"""Scaling of networks read from timm: as timm's own builder scales them."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.files import dump_spec, parse_spec
from nas.arch.scaling.compound import scale_rounded
from nas.arch.scaling.rounding_rules import RoundingRules
from nas.arch.scaling.transform import Factors, Scaling, scale
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, SpecError
from nas.model.build import build
from nas.model.timm_import import definition
from nas.model.timm_import.network import from_timm, timm_arch
from tests.model.torch_counts import without_storage

# Depth and width multipliers of the published networks (timm/models/efficientnet.py), and their base.
MEMBERS = {
    "tf_efficientnetv2_b1": ("tf_efficientnetv2_b0", 1.1, 1.0),
    "tf_efficientnetv2_b2": ("tf_efficientnetv2_b0", 1.2, 1.1),
    "tf_efficientnetv2_b3": ("tf_efficientnetv2_b0", 1.4, 1.2),
    "efficientnet_em": ("efficientnet_es", 1.1, 1.0),
    "efficientnet_el": ("efficientnet_es", 1.4, 1.2),
}
# Multiply-adds in millions, counted on timm's networks at their sides of 240 and 300 px.
PUBLISHED_MACS_M = {"efficientnet_em": 3013, "efficientnet_el": 7936}
# Networks with a block of which the module does not show the shortcut or the base of its expansion.
HIDDEN_IN_DEPTH = (
    *("tf_efficientnetv2_b0", "efficientnet_es", "test_efficientnet", "mnasnet_100", "semnasnet_100", "spnasnet_100"),
)
# Networks that timm defines by the strings of another one, up to the channels.
SAME_STRINGS = {
    "efficientnet_es_pruned": "efficientnet_es",
    "tf_efficientnet_es": "efficientnet_es",
    "mnasnet_050": "mnasnet_100",
    "mnasnet_075": "mnasnet_100",
    "mnasnet_140": "mnasnet_100",
    "semnasnet_050": "semnasnet_100",
    "semnasnet_075": "semnasnet_100",
    "semnasnet_140": "semnasnet_100",
    "mobilenetv3_small_050": "mobilenetv3_small_100",
}
MODULES = tuple(sys.modules[f"timm.models.{name}"] for name in definition.TIMM_MODULES)


@cache
def read(name: str) -> ArchSpec:
    with without_storage():
        return timm_arch(name)


@cache
def member(name: str) -> ArchSpec:
    """The network ``name``, scaled from its base."""
    base, depth, width = MEMBERS[name]
    side = timm.get_pretrained_cfg(name).input_size[-1] / read(base).resolution_px
    return scale_rounded(read(base), Factors(depth, width, side), _exact_side(read(base))).arch


def _exact_side(base: ArchSpec) -> RoundingRules:
    limit = {"round_limit": 0.0} if base.name.startswith("tf_efficientnetv2") else {}
    return RoundingRules(resolution_rule="exact", **limit)


@contextmanager
def timm_times(depth: float) -> Iterator[None]:
    """timm whose builder multiplies the depth of every network by ``depth``."""

    def deeper(decode: Any) -> Any:
        return lambda arch_def, multiplier=1.0, *rest, **options: decode(
            arch_def, options.pop("depth_multiplier", multiplier) * depth, *rest, **options
        )

    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "decode_arch_def", deeper(module.decode_arch_def))
        yield


def structure(model: nn.Module) -> list[object]:
    """Shapes of all tensors, and the blocks with a shortcut."""
    skips = [path for path, module in model.named_modules() if getattr(module, "has_skip", False)]
    return [*((name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()), *skips]


@pytest.mark.parametrize("name", ["tf_efficientnetv2_b1", "tf_efficientnetv2_b2", "tf_efficientnetv2_b3"])
def test_members_of_efficientnetv2_are_those_of_timm(name: str) -> None:
    """Parameters, multiply-adds and outputs, with timm's random weights."""
    spec = member(name)
    torch.manual_seed(1)
    reference = timm.create_model(name).eval()
    with without_storage():
        ours = build(spec).eval()
    ours.load_state_dict(reference.state_dict(), assign=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        expected = reference(images)
    with torch.inference_mode():
        assert expected.std() > 0
        assert torch.equal(ours(images), expected)
    cost = complexity(replace(spec, resolution_px=64))
    assert cost.params == sum(parameter.numel() for parameter in reference.parameters())
    assert 2 * cost.macs == counter.get_total_flops()
    assert spec.resolution_px == reference.default_cfg["input_size"][-1]


@pytest.mark.parametrize("name", PUBLISHED_MACS_M)
def test_members_of_efficientnet_edgetpu_are_those_of_timm(name: str) -> None:
    spec = member(name)
    with without_storage():
        assert structure(build(spec)) == structure(timm.create_model(name))
    assert complexity(spec).macs // 10**6 == PUBLISHED_MACS_M[name]


@pytest.mark.parametrize("name", HIDDEN_IN_DEPTH)
def test_depth_is_scaled_as_by_timm(name: str) -> None:
    with without_storage():
        with timm_times(2.0):
            theirs = timm.create_model(name)
        ours = build(scale(read(name), Scaling(depth=2.0, divisor=1)))
    assert structure(ours) == structure(theirs)


@pytest.mark.parametrize(("name", "other"), SAME_STRINGS.items())
def test_networks_of_one_definition_have_the_same_strings(name: str, other: str) -> None:
    def without_channels(spec: ArchSpec) -> list[str]:
        return [re.sub(r"_c\d+", "", text) for stage in spec.strings for text in stage]

    assert without_channels(read(name)) == without_channels(read(other))


def test_width_is_scaled_by_the_exact_ratio() -> None:
    """24 channels times 3.67 are 88; 3.7, which gives 88 too, would differ at other widths."""
    assert read("mobilenetv3_small_100").strings[1][1] == "ir_r1_k3_s1_e3.67_c24_nre"
    with without_storage():
        theirs = timm.models.mobilenetv3._gen_mobilenet_v3("mobilenetv3_small_150", 1.5)
        ours = build(scale(read("mobilenetv3_small_100"), Scaling(width=1.5, head="fixed")))
    assert structure(ours) == structure(theirs)


def test_squeeze_channels_follow_the_rounding_of_timm() -> None:
    """FBNetV3 rounds to a multiple of 8 that is at least 95% of the channels: 136 / 4 = 34 becomes 40, not 32."""
    spec = read("fbnetv3_b")
    assert spec.strings[4] == ("ir_r1_k3_s1_e5_c120_se0.25", "ir_r5_k5_s1_e3_c120_se0.25")
    wide = scale(spec, Scaling(width=1.13, stem="fixed", head="fixed"))
    with without_storage():
        blocks = build(wide).blocks[4]
    assert [(block.conv_pw.in_channels, block.se.conv_reduce.out_channels) for block in blocks[1:]] == [(136, 40)] * 5


def test_block_strings_are_those_of_timm() -> None:
    """As in timm/models/efficientnet.py, with channels as scaled there."""
    assert read("efficientnet_es").strings[:2] == (("er_r1_k3_s1_e4_c24_fc24_noskip",), ("er_r2_k3_s2_e8_c32",))
    assert read("tf_efficientnetv2_b0").strings[0] == ("cn_r1_k3_s1_c16_skip",)
    assert read("mnasnet_050").strings[-1] == ("ir_r1_k3_s1_e6_c160_noskip",)
    # Equal strings side by side: their repeats are rounded apart when the stage is scaled.
    assert read("hardcorenas_a").strings[4] == ("ir_r1_k5_s1_e6_c112_se0.25",) * 2


def unnamed(spec: ArchSpec) -> ArchSpec:
    """The network as read from a module that bears no name."""
    with without_storage():
        return from_timm(build(spec))


def test_unnamed_modules_equal_to_a_published_network_have_its_block_strings() -> None:
    published = zoo.get("mnasnet_100")
    other = replace(published, classes=10, in_channels=1, name="other")
    assert unnamed(other).strings == published.strings
    assert unnamed(other).arch_id == other.arch_id


def test_depth_over_an_unknown_shortcut_is_refused() -> None:
    known = replace(zoo.get("mnasnet_100"), activation="swish")
    spec = unnamed(known)
    assert spec.arch_id == known.arch_id
    assert (spec.strings[0], spec.strings[-1]) == (
        ("ds_r1_k3_s1_c16_unknownskip",),
        ("ir_r1_k3_s1_e6_c320_unknownskip",),
    )
    assert spec.strings[1:-1] == known.strings[1:-1]
    message = r"blocks\.0\.1 ds_r2_k3_s1_c16_unknownskip: whether this block has a shortcut is not known"
    for read_again in (spec, parse_spec(dump_spec(spec)).arch):
        with pytest.raises(SpecError, match=message):
            scale(read_again, Scaling(depth=2.0))
        wide = Scaling(width=1.4, head="fixed")
        assert scale(read_again, wide).arch_id == scale(known, wide).arch_id
        # first and last stage keep their repeats
        ends = Scaling(depth=2.0, fixed_ends=True)
        assert scale(read_again, ends).arch_id == scale(known, ends).arch_id
    answered = parse_spec(dump_spec(spec).replace("unknownskip", "noskip")).arch
    assert scale(answered, Scaling(depth=2.0)).arch_id == scale(known, Scaling(depth=2.0)).arch_id


def test_width_that_makes_room_for_an_unknown_shortcut_is_refused() -> None:
    spec = unnamed(replace(zoo.get("mnasnet_100"), activation="swish"))
    with pytest.raises(SpecError, match=r"blocks\.0\.0 ds_r1_k3_s1_c32_unknownskip"):
        scale(spec, Scaling(width=2.0, stem="fixed"))


def test_modules_that_differ_from_the_definition_are_read_as_they_are() -> None:
    with without_storage():
        model = timm.create_model("mnasnet_050")
        model.blocks[1][1].has_skip = False
        model.blocks[4][1].has_skip = False
        spec = from_timm(model)
    assert spec.strings[1] == ("ir_r2_k3_s2_e3_c16_noskip", "ir_r1_k3_s1_e3_c16")
    assert spec.strings[4] == ("ir_r2_k3_s1_e6_c48_noskip",)


@pytest.fixture
def other_timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Patch for another version of timm; definitions are read anew before and after it."""
    definition.timm_definition.cache_clear()
    yield monkeypatch
    definition.timm_definition.cache_clear()


def without_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(definition, "_timm_modules", list)


def without_arguments(patch: pytest.MonkeyPatch) -> None:
    for module in MODULES:
        decode = module.decode_arch_def
        patch.setattr(module, "decode_arch_def", lambda *_, decode=decode, **__: _without_noskip(decode(*_, **__)))


def _without_noskip(stages: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    return [[{key: value for key, value in block.items() if key != "noskip"} for block in stage] for stage in stages]


@pytest.mark.parametrize("change", [without_names, without_arguments])
def test_other_versions_of_timm_leave_blocks_unknown(other_timm: pytest.MonkeyPatch, change: Any) -> None:
    change(other_timm)
    with without_storage():
        assert definition.timm_definition("efficientnet_es") is None
        spec, published = timm_arch("test_efficientnet"), timm_arch("semnasnet_050")
    assert spec.strings[0] == ("cn_r1_k3_s1_c16_unknownskip",)
    with pytest.raises(NasError, match=r"blocks\.0\.1 cn_r2_k3_s1_c16_unknownskip: .* replace unknownskip by skip"):
        scale(spec, Scaling(depth=1.5, divisor=1))
    assert published.strings == zoo.get("semnasnet_050").strings


def test_unknown_decoders_leave_the_split_into_strings_to_equality(other_timm: pytest.MonkeyPatch) -> None:
    read_as_usual = read("mnasnet_small")
    other_timm.setattr(definition, "_repeats", lambda _text: 1)  # the recorded strings do not fit the blocks
    with without_storage():
        assert timm_arch("mnasnet_small").strings == read_as_usual.strings


def test_recording_leaves_timm_as_it_was() -> None:
    before = [(module.decode_arch_def, getattr(module, "EfficientNetBuilder", None)) for module in MODULES]
    definition.timm_definition.cache_clear()
    made: list[nn.Module] = []

    def make() -> None:
        with torch.device("meta"):
            made.append(timm.create_model("test_efficientnet"))

    with definition._recording() as strings:  # other threads are not recorded, and get their networks
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
    assert len(made) == 1
    assert strings == []
    assert definition.timm_definition("test_efficientnet") is not None
    after = [(module.decode_arch_def, getattr(module, "EfficientNetBuilder", None)) for module in MODULES]
    assert after == before
