"""Tests of finding the genotype of a network that is given as block strings, spec or choices."""

from __future__ import annotations

import random
from typing import Any

import pytest
import yaml

from nas.arch import zoo
from nas.arch.spec import ArchSpec
from nas.cli.resolve.spaces import make_space
from nas.core.errors import NasError
from nas.methods.search.trials.network_encoding import NetworkEncoder, NotInSpaceError
from tests.paths import CONF
from tests.study.fakes import mobilenet_v1, small_space

SPACES = ("mixnet", "mobilenet_v3", "mobilenet_v3_small", "mnasnet", "efficientnet", "mobilenet_v1")


def published_space(name: str) -> Any:
    return make_space(yaml.safe_load((CONF / "space" / f"{name}.yaml").read_text(encoding="utf-8")))


def block_text(arch: ArchSpec) -> str:
    """Block strings as the column blocks of trials.csv has them."""
    return "; ".join(" ".join(stage) for stage in arch.strings)


@pytest.mark.parametrize("name", SPACES)
def test_block_strings_give_a_genotype_of_the_same_network(name: str) -> None:
    """With the choices that block strings do not say, which are those of stem, head and resolution."""
    space = published_space(name)
    encoder, rng = NetworkEncoder(space), random.Random(0)
    ends = ("width", "resolution_px", "stem.channels", "head.channels", "head.kind")
    for genotype in (space.sample(rng) for _ in range(4)):
        arch = space.decode(genotype)
        known = {key: value for key, value in genotype.items() if key in ends}
        found = encoder.of_blocks(block_text(arch), known)
        assert space.decode(found).arch_id == arch.arch_id
        assert space.decode(encoder.of_spec(arch)).arch_id == arch.arch_id
        assert encoder.of_choices(genotype, block_text(arch)) == genotype


def test_what_block_strings_imply_need_not_be_given() -> None:
    """Channels of the blocks imply the width, and with it stem and head; nothing implies the resolution."""
    space = mobilenet_v1()
    arch = space.decode({"width": 0.5, "resolution_px": 160})
    encoder = NetworkEncoder(space)
    assert encoder.of_blocks(block_text(arch), {"resolution_px": 160}) == {"width": 0.5, "resolution_px": 160}
    with pytest.raises(NasError, match=r"block strings do not say resolution_px \(128, 160, 192, 224\); add a column"):
        encoder.of_blocks(block_text(arch))


def test_strings_of_tensorflow_are_understood() -> None:
    space = published_space("efficientnet")
    arch = zoo.get("efficientnet_b0")
    found = NetworkEncoder(space).of_blocks(" ".join(arch.tensorflow_strings()))
    assert space.decode(found).arch_id == arch.arch_id


def test_a_network_of_another_space_is_refused_with_its_first_difference() -> None:
    encoder = NetworkEncoder(small_space())
    known = {"width": 1.0, "s0.channels": 8}
    with pytest.raises(
        NotInSpaceError, match=r"space 'small' cannot express this network: s1\.b0 needs kernels \(7,\)"
    ):
        encoder.of_blocks("ds_r1_k3_s1_c8; ir_r1_k7_s2_e3_c16", known)
    with pytest.raises(NotInSpaceError, match="cannot express this network"):
        encoder.of_spec(zoo.get("mixnet_s"))
    with pytest.raises(NotInSpaceError, match=r"width 2\.0: space 'small' offers 0\.5, 1\.0\."):
        encoder.of_blocks("ds_r1_k3_s1_c8; ir_r1_k5_s2_e3_c16", {"width": 2.0})
    with pytest.raises(NasError, match="block 'ir_r1_kx_s2_e3_c16': unknown option 'kx'"):
        encoder.of_blocks("ds_r1_k3_s1_c8; ir_r1_kx_s2_e3_c16", known)


def test_choices_that_contradict_the_network_are_refused() -> None:
    space = small_space()
    encoder = NetworkEncoder(space)
    genotype = space.sample(random.Random(1))
    other = space.decode({**genotype, "s1.b0.kernel": 3 if genotype["s1.b0.kernel"] == 5 else 5})
    with pytest.raises(NasError, match=r"space 'small' gives another network for these choices than blocks has"):
        encoder.of_choices(genotype, block_text(other))
    with pytest.raises(NasError, match=r"s1\.b0\.kernel \d: the network of this row has \d; correct one of them"):
        encoder.of_spec(other, {"s1.b0.kernel": genotype["s1.b0.kernel"]})
    with pytest.raises(NasError, match=r"space 'small' has more choices: width\."):
        encoder.of_choices({key: value for key, value in genotype.items() if key != "width"})


def test_choices_without_effect_need_not_agree() -> None:
    """The kernel of an absent block."""
    space = small_space()
    genotype = {**space.sample(random.Random(2)), "s1.b1.repeats": 0, "s1.b1.kernel": 7}
    found = NetworkEncoder(space).of_spec(space.decode(genotype), {"s1.b1.kernel": 5})
    assert space.decode(found).arch_id == space.decode(genotype).arch_id
