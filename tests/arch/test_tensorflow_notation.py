"""Block strings of TensorFlow's releases: the published networks, both ways, and mistakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nas.arch import zoo
from nas.arch.blocks import BlockSpec
from nas.arch.files import parse_spec
from nas.arch.notation import parse_block, split_stages
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.arch.tensorflow_notation import format_tensorflow_block, group_stages, parse_tensorflow_block
from nas.cli.resolve.networks import resolve_arch
from nas.core.errors import NasError, SpecError
from nas.latency.calibration.external import read_measurements
from nas.latency.predictors.block_pieces import Piece

# tensorflow/tpu: mnasnet_models.py, efficientnet_builder.py, mixnet_builder.py
PUBLISHED: dict[str, str] = {
    "semnasnet_100": """
        r1_k3_s11_e1_i32_o16_noskip r2_k3_s22_e6_i16_o24 r3_k5_s22_e3_i24_o40_se0.25 r4_k3_s22_e6_i40_o80
        r2_k3_s11_e6_i80_o112_se0.25 r3_k5_s22_e6_i112_o160_se0.25 r1_k3_s11_e6_i160_o320""",
    "mnasnet_100": """
        r1_k3_s11_e1_i32_o16_noskip r3_k3_s22_e3_i16_o24 r3_k5_s22_e3_i24_o40 r3_k5_s22_e6_i40_o80
        r2_k3_s11_e6_i80_o96 r4_k5_s22_e6_i96_o192 r1_k3_s11_e6_i192_o320_noskip""",
    "mnasnet_small": """
        r1_k3_s11_e1_i16_o8 r1_k3_s22_e3_i8_o16 r2_k3_s22_e6_i16_o16 r4_k5_s22_e6_i16_o32_se0.25
        r3_k3_s11_e6_i32_o32_se0.25 r3_k5_s22_e6_i32_o88_se0.25 r1_k3_s11_e6_i88_o144""",
    "efficientnet_b0": """
        r1_k3_s11_e1_i32_o16_se0.25 r2_k3_s22_e6_i16_o24_se0.25 r2_k5_s22_e6_i24_o40_se0.25
        r3_k3_s22_e6_i40_o80_se0.25 r3_k5_s11_e6_i80_o112_se0.25 r4_k5_s22_e6_i112_o192_se0.25
        r1_k3_s11_e6_i192_o320_se0.25""",
    "mixnet_s": """
        r1_k3_a1_p1_s11_e1_i16_o16 r1_k3_a1.1_p1.1_s22_e6_i16_o24 r1_k3_a1.1_p1.1_s11_e3_i24_o24
        r1_k3.5.7_a1_p1_s22_e6_i24_o40_se0.5_sw r3_k3.5_a1.1_p1.1_s11_e6_i40_o40_se0.5_sw
        r1_k3.5.7_a1_p1.1_s22_e6_i40_o80_se0.25_sw r2_k3.5_a1_p1.1_s11_e6_i80_o80_se0.25_sw
        r1_k3.5.7_a1.1_p1.1_s11_e6_i80_o120_se0.5_sw r2_k3.5.7.9_a1.1_p1.1_s11_e3_i120_o120_se0.5_sw
        r1_k3.5.7.9.11_a1_p1_s22_e6_i120_o200_se0.5_sw r2_k3.5.7.9_a1_p1.1_s11_e6_i200_o200_se0.5_sw""",
    "mixnet_m": """
        r1_k3_a1_p1_s11_e1_i24_o24 r1_k3.5.7_a1.1_p1.1_s22_e6_i24_o32 r1_k3_a1.1_p1.1_s11_e3_i32_o32
        r1_k3.5.7.9_a1_p1_s22_e6_i32_o40_se0.5_sw r3_k3.5_a1.1_p1.1_s11_e6_i40_o40_se0.5_sw
        r1_k3.5.7_a1_p1_s22_e6_i40_o80_se0.25_sw r3_k3.5.7.9_a1.1_p1.1_s11_e6_i80_o80_se0.25_sw
        r1_k3_a1_p1_s11_e6_i80_o120_se0.5_sw r3_k3.5.7.9_a1.1_p1.1_s11_e3_i120_o120_se0.5_sw
        r1_k3.5.7.9_a1_p1_s22_e6_i120_o200_se0.5_sw r3_k3.5.7.9_a1_p1.1_s11_e6_i200_o200_se0.5_sw""",
}
# mnasnet_models.py builds the small network's stem with 8 channels, though its first block says i16.
PUBLISHED["mnasnet_small"] = PUBLISHED["mnasnet_small"].replace("i16_o8", "i8_o8")
HEADS = {"mixnet_s": 1536, "mixnet_m": 1536}
ACTIVATION = {"efficientnet_b0": "swish"}


def spec_file(name: str, **fields: Any) -> str:
    strings = PUBLISHED[name].split()
    data = {
        "format": "nas.arch/1",
        "name": "published",
        "stem": {"channels": parse_tensorflow_block(strings[0])[1]},
        "stages": strings,
        "head": {"channels": HEADS.get(name, 1280)},
        "activation": ACTIVATION.get(name, "relu"),
    }
    return yaml.safe_dump({**data, **fields})


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_list_is_the_published_network(name: str) -> None:
    arch = parse_spec(spec_file(name)).arch
    expected = zoo.get(name)
    assert arch.strings == expected.strings
    assert arch.arch_id == expected.arch_id
    stages = [list(stage) for stage in group_stages(PUBLISHED[name].split())]
    assert parse_spec(spec_file(name, stages=stages)).arch == arch


def test_coefficients_scale_the_published_list() -> None:
    coefficients = {"width": 1.0, "depth": 1.1, "resolution_px": 240}
    arch = parse_spec(spec_file("efficientnet_b0", coefficients=coefficients)).arch
    assert arch.arch_id == zoo.get("efficientnet_b1").arch_id


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_written_as_published(name: str) -> None:
    plain = [text.replace("_a1_p1_", "_") for text in PUBLISHED[name].split()]
    assert zoo.get(name).tensorflow_strings() == plain


def test_every_network_is_written_back_or_refused() -> None:
    refused = set()
    for name in zoo.names():
        arch = zoo.get(name)
        try:
            strings = arch.tensorflow_strings()
        except SpecError:
            refused.add(name.split("_")[0])
            continue
        stages, rest = [], iter(strings)
        for stage in arch.stages:
            stages.append([next(rest) for _ in stage.blocks])
        again = replace(arch, stages=ArchSpec.from_strings("", stages, stem=arch.stem, head=arch.head).stages)
        assert again.arch_id == arch.arch_id
    assert refused == {"mobilenetv1", "mobilenetv3", "tf"}  # tf_mobilenetv3


TOKENS = st.fixed_dictionaries(
    {
        "r": st.integers(1, 9).map(str),
        "k": st.lists(st.sampled_from("3579"), min_size=1, max_size=4).map(".".join),
        "s": st.sampled_from(("11", "22")),
        "e": st.integers(1, 9).map(str),
        "i": st.integers(8, 300).map(str),
        "o": st.integers(8, 300).map(str),
    },
    optional={"se": st.sampled_from(("0.25", "0.5", "1"))},
)


@given(TOKENS, st.booleans(), st.sets(st.sampled_from(("sw", "noskip", "dilated"))), st.randoms(use_true_random=False))
def test_strings_round_trip_in_any_order(tokens: dict[str, str], grouped: bool, flags: set[str], random: Any) -> None:
    texts = [key + value for key, value in tokens.items() if key != "r"] + sorted(flags)
    texts += ["a1.1" if tokens["e"] != "1" else "a1", "p1.1"] if grouped else []
    random.shuffle(texts)
    text = "_".join([f"r{tokens['r']}", *texts])
    block, in_channels = parse_tensorflow_block(text)
    written = format_tensorflow_block(block, in_channels)
    assert sorted(written.split("_")) == sorted(text.split("_"))
    assert parse_tensorflow_block(written) == (block, in_channels)
    assert parse_block(text) == parse_block(str(block)) == block


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r1_k3_s11_e1_i32", "option 'o' is missing; TensorFlow's notation needs r, k, s, e, i, o"),
        ("r1_k3_s2_e1_i32_o16", "option 's2': must be s11 or s22"),
        ("r1_k3_s12_e1_i32_o16", "option 's12': must be s11 or s22"),
        ("r1_k3_s11_e1_i32_o16_o16", "option 'o' is given twice"),
        ("r1_k3_s11_e1_i32_o16_nosk", "unknown option 'nosk'; .* Did you mean 'noskip'"),
        ("r1_k3_s11_e1_i32_o16_nsw", "unknown option 'nsw'"),
        ("r1_k3_s11_e1_i32_o16_sw1", "unknown option 'sw1'"),
        ("r1_s11_e1_i32_o16_k", "unknown option 'k'"),
        ("r1_k3_s11_e4_i24_o24_c1", "option 'c1', a block without a depthwise .* use timm's"),
        ("r1_k3_s11_e4_i24_o24_f1", "option 'f1', a fused block"),
        ("r1_k3_s11_e6_i24_o24_p1", "options 'a' and 'p' .* come together"),
        ("r1_k4_s11_e6_i24_o24", "kernels .4,.: must be odd"),
        ("r1_k3_s11_e2.5_i24_o24", "option 'e2.5': needs a whole number"),
        ("r1_k3_s11_e6_i0_o24", "option 'i0': input channels"),
        ("r1_k3_s11_e6_i24_o24_se0.2.5", "option 'se0.2.5': needs a number"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"block '{text}': .*{message}"):
        parse_block(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("er_r1_k3_s1_e4_c24", "type er"),
        ("ir_r1_k3_s1_e1_c24", "an expansion convolution of ratio 1"),
        ("ir_r1_k3_s1_e2.5_c24", "expansion 2.5, not a whole number"),
        ("ir_r1_k3_s1_e6_c24_nhs", "activation hard_swish"),
        ("ir_r1_k3.5_s1_e6_c24_exponential", "partition exponential"),
        ("ir_r1_k3_gs8_s1_e6_c24", "group_size 8"),
        ("ir_r1_k3_s1_e6_c24_unknownskip", "that a shortcut is not known"),
    ],
)
def test_what_the_notation_cannot_say_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"block '{text}': TensorFlow's notation cannot say {message}"):
        format_tensorflow_block(parse_block(text), 16)


def test_another_squeeze_excite_cannot_be_written() -> None:
    arch = replace(zoo.get("semnasnet_100"), squeeze_excite=zoo.get("mobilenetv3_large_100").squeeze_excite)
    with pytest.raises(SpecError, match=r"semnasnet_100.*cannot say SqueezeExcite"):
        arch.tensorflow_strings()


def test_input_channels_must_be_those_of_the_block_before() -> None:
    strings = [["r1_k3_s11_e1_i32_o16"], ["r1_k3_s22_e6_i24_o24"]]
    message = "'r1_k3_s22_e6_i24_o24': option 'i24', but the block before has 16 output channels"
    with pytest.raises(SpecError, match=message):
        ArchSpec.from_strings("one", strings, stem=StemSpec(channels=32), head=HeadSpec(channels=8))
    with pytest.raises(SpecError, match="option 'i32', but the stem has 16 output channels"):
        ArchSpec.from_strings("one", strings[:1], stem=StemSpec(channels=16), head=HeadSpec(channels=8))
    with pytest.raises(SpecError, match="option 'i16', but the stem has 24"):
        parse_spec(spec_file("mixnet_s", stem={"channels": 24}))
    with pytest.raises(SpecError, match=r"stages: block 'r1_k3_s3'"):
        parse_spec(spec_file("mixnet_s", stages=["r1_k3_s3"]))
    with pytest.raises(SpecError, match="option 'i' differs from in_channels 16"):
        _ = Piece(block="r1_k3_s11_e6_i24_o24", in_channels=16, input_px=56).ops


@pytest.mark.parametrize("separator", ["+", " ", "|", " | "])
def test_arch_takes_published_block_strings(separator: str) -> None:
    text = separator.join(PUBLISHED["semnasnet_100"].split())
    assert resolve_arch(text).arch_id == zoo.get("semnasnet_100").arch_id


def test_arch_takes_block_strings_of_timm_and_names_mistakes() -> None:
    text = "|".join("+".join(stage) for stage in zoo.get("mnasnet_100").strings)
    assert resolve_arch(text).arch_id == zoo.get("mnasnet_100").arch_id
    with pytest.raises(NasError, match="baseline: block 'r1_k3': option 's' is missing"):
        resolve_arch("r1_k3", "baseline")


def test_a_stage_may_not_be_empty() -> None:
    with pytest.raises(NasError, match="arch: a stage needs at least one block"):
        resolve_arch("ir_r1_k3_s1_e6_c24||ir_r1_k3_s1_e6_c24")


def test_tables_take_published_block_strings(tmp_path: Any) -> None:
    path = tmp_path / "phone.csv"
    header = "# device: Pixel 1\n# backend: tflite\nnetwork,latency_ms\n"
    path.write_text(f"{header}{'+'.join(PUBLISHED['semnasnet_100'].split())},7\n", encoding="utf-8")
    assert read_measurements(path).networks[0][0].arch_id == zoo.get("semnasnet_100").arch_id
    entry = Piece(block="r1_k3_s22_e6_i16_o24", in_channels=16, input_px=56)
    assert entry.ops == Piece(block="ir_r1_k3_s2_e6_c24", in_channels=16, input_px=56).ops


def test_stages_with_a_bar_are_kept() -> None:
    first, second = "r1_k3_s11_e6_i24_o24", "r1_k3_s11_e6_i24_o24_noskip"
    assert split_stages(f"{first}+{second}") == [[first, second]]
    assert split_stages(f"{first}|{second}") == [[first], [second]]
    assert parse_block(first) == BlockSpec(type="ir", channels=24, expansion=6.0)
