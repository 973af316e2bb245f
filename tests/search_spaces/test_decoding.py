"""Decoding of choices: names, sizes, kernels, groups, split stages, overrides."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from search_spaces import layout
from search_spaces.space import SearchSpace

Load = Callable[..., SearchSpace]
Config = Callable[[str], dict[str, Any]]
SPACES = ("efficientnet", "mixnet", "mnasnet", "mobilenet_v1", "mobilenet_v3", "mobilenet_v3_small", "tiny")


def first_point(space: SearchSpace, **changes: Any) -> ArchSpec:
    """The network of every first choice, except for ``changes``.

    ``__`` in their names is a dot.
    """
    genotype = {name: values[0] for name, values in space.parameters.items()}
    return space.decode({**genotype, **{name.replace("__", "."): value for name, value in changes.items()}})


def test_size_and_networks_of_tiny_against_a_count_by_hand(load: Load) -> None:
    space = load("tiny")
    # width 2; s1: channels 3, b0 expansion 2, b1 groups 3 and repeats 3; s2: kernel 2, expansion 2, repeats 3.
    assert space.size == 2 * (3 * 2 * 3 * 3) * (2 * 2 * 3) == 1296
    points = itertools.product(*space.parameters.values())
    networks = {space.decode(dict(zip(space.parameters, point, strict=True))).arch_id for point in points}
    # An absent b1 has no groups: 1 + 2 * 3 in place of 9. At width 0.5, 24 / 2 = 12 rounds to 16 as 32 / 2 does.
    assert len(networks) == (3 + 2) * 2 * (1 + 2 * 3) * (2 * 2 * 3) == 840


def test_tiny_example_names_its_choices_in_network_order(load: Load) -> None:
    assert tuple(load("tiny").parameters) == (
        "width",
        "s1.b0.expansion",
        "s1.channels",
        "s1.b1.repeats",
        "s1.b1.groups",
        "s2.b0.repeats",
        "s2.b0.kernel",
        "s2.b0.expansion",
    )


def test_tiny_example_decodes_to_the_expected_block_strings(load: Load) -> None:
    spec = load("tiny").decode(
        {
            "width": 1.0,
            "s1.channels": 40,
            "s1.b0.expansion": 6,
            "s1.b1.groups": 3,
            "s1.b1.repeats": 2,
            "s2.b0.kernel": 5,
            "s2.b0.expansion": 3,
            "s2.b0.repeats": 1,
        }
    )
    assert spec.strings == (
        ("ds_r1_k3_s1_c16_se0.25",),
        ("ir_r1_k3_s2_e6_c40_se0.25", "ir_r2_k3.5.7_s1_e3_c40_se0.25"),
        ("ir_r1_k5_s2_e3_c64_se0.25",),
    )
    assert (spec.activation, spec.resolution_px, spec.stem.stride, spec.head.channels) == ("swish", 32, 1, 128)


@pytest.mark.parametrize("groups", range(1, 6))
def test_groups_are_the_kernels_of_the_mixconv_paper(load: Load, groups: int) -> None:
    space = load("mixnet")
    spec = first_point(space, s1__b0__groups=groups, s1__b0__partition="exponential")
    assert spec.stages[1].blocks[0].kernels == tuple(2 * i + 1 for i in range(1, groups + 1))
    # A single group has no partition, and its block string does not contain one.
    assert spec.stages[1].blocks[0].partition == ("exponential" if groups > 1 else "equal")
    assert spec.strings[1][0].endswith("_exponential") is (groups > 1)
    assert space.largest_kernel == 11


@pytest.mark.parametrize("name", SPACES)
def test_largest_kernel_is_a_tight_bound(load: Load, name: str) -> None:
    space, rng = load(name), random.Random(0)
    widest = {
        max(max(block.kernels) for stage in space.decode(space.sample(rng)).stages for block in stage.blocks)
        for _ in range(200)
    }
    assert max(widest) == space.largest_kernel


def test_grouped_pointwise_convolutions(load: Load) -> None:
    spec = first_point(load("mixnet"), s2__b1__expand_groups=2, s2__b1__project_groups=2, s2__b0__project_groups=2)
    assert [(block.expand_kernels, block.project_kernels) for block in spec.stages[2].blocks] == [
        ((1,), (1, 1)),
        ((1, 1), (1, 1)),
    ]


@pytest.mark.parametrize("split", [0, 3, 4])
def test_split_is_the_first_stage_with_h_swish(load: Load, split: int) -> None:
    spec = first_point(load("mobilenet_v3"), split=split)
    for index, stage in enumerate(spec.stages):
        expected = "relu" if index < split else "hard_swish"
        assert {block.activation or spec.activation for block in stage.blocks} == {expected}


def test_mobilenet_v3_stem_is_fixed_below_three_quarters(load: Load) -> None:
    space = load("mobilenet_v3")
    channels = {width: first_point(space, width=width).stem.channels for width in space.parameters["width"]}
    assert channels == {0.35: 16, 0.5: 16, 0.75: 16, 1.0: 16, 1.25: 24}  # 12 and 20 round to 16 and 24


def test_ds_blocks_in_place_of_ir_ones_have_no_expansion(load: Load) -> None:
    spec = first_point(load("mnasnet"), s2__b0__type="ds", s2__b0__expansion=6)
    assert spec.strings[2] == ("ds_r2_k3_s2_c24",)


def test_zero_repeats_omit_a_block(load: Load) -> None:
    assert first_point(load("mobilenet_v3"), s3__b3__repeats=0).stages[3].depth == 3
    assert first_point(load("mobilenet_v3"), s3__b3__repeats=2).stages[3].depth == 5


def test_the_most_specific_attribute_applies_and_names_the_choice(
    config: Config, construct: Callable[..., Any]
) -> None:
    own = config("tiny")
    own["choices"]["se_ratio"] = [0, 0.25]
    own["stages"][2]["blocks"] = [{}, {"se_ratio": [0.5, 0.75]}, {"kernel": 7}]
    own["stages"][2]["kernel"] = [5, 9]
    own["choices"]["kernel"] = None  # a default that every block overrides would be refused
    names = construct(own).parameters
    assert names["s2.se_ratio"] == (0.0, 0.25)
    assert names["s2.b1.se_ratio"] == (0.5, 0.75)
    assert names["s2.b0.kernel"] == names["s2.b1.kernel"] == (5, 9)
    assert "s2.b2.kernel" not in names
    assert "s2.b0.se_ratio" not in names


def test_explicit_kernels(load: Load) -> None:
    space = load("tiny", choices={"kernel": None, "kernels": ["k3", "k3.7", "k5.9.11"]}, stages=stages_without_kernel())
    spec = first_point(space, s1__b0__kernels="k5.9.11")
    assert spec.stages[1].blocks[0].kernels == (5, 9, 11)
    assert space.largest_kernel == 11


def stages_without_kernel() -> list[dict[str, Any]]:
    return [{"channels": 16, "type": "ds", "kernel": 3}, {"channels": 24, "stride": 2}]


def test_choices_without_effect_are_closed(load: Load) -> None:
    space = load("mixnet", choices={"groups": 1, "dilated": [True, False]})
    assert not [name for name in space.parameters if name.endswith((".partition", ".dilated", ".groups"))]


def test_a_fixed_space_has_one_point(load: Load) -> None:
    space = load("mobilenet_v1", width=1, resolution_px=224)
    assert (space.size, dict(space.parameters), space.sample(random.Random(0))) == (1, {}, {})


def test_sampling_follows_the_seed_and_reaches_every_value(load: Load) -> None:
    space = load("tiny")
    assert space.sample(random.Random(1)) == space.sample(random.Random(1))
    rng = random.Random(0)
    seen = {(name, value) for _ in range(200) for name, value in space.sample(rng).items()}
    assert seen == {(name, value) for name, values in space.parameters.items() for value in values}


def test_command_line_overrides_reach_the_space(config: Config) -> None:
    composed = OmegaConf.create({"space": config("mixnet")})
    composed.merge_with_dotlist(["space.choices.groups=[1,2,3]", "space.width=1.0"])
    space = instantiate(composed.space)
    assert {values for name, values in space.parameters.items() if name.endswith("groups")} == {(1, 2, 3), (1, 2)}
    assert "width" not in space.parameters
    composed.space.choices.grops = [1]
    with pytest.raises(Exception, match=r"space\.choices\.grops: unknown") as caught:
        instantiate(composed.space)
    assert isinstance(caught.value.__cause__, NasError)


def test_spaces_import_nothing_heavy() -> None:
    code = (
        "import sys, search_spaces.mixnet, search_spaces.mobilenet_v3, search_spaces.mobilenet_v1\n"
        "import search_spaces.mnasnet, search_spaces.efficientnet\n"
        "print([name for name in ('torch', 'timm', 'optuna', 'hydra', 'omegaconf', 'numpy') if name in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"


def test_decoding_does_not_depend_on_what_is_cached(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    space = load("mixnet", width=[1.0, 1.3])  # one of its own
    rng = random.Random(6)
    genotypes = [space.sample(rng) for _ in range(20)]
    specs = [space.decode(genotype) for genotype in genotypes]
    for name in ("_CACHED_BLOCKS", "_CACHED_STAGES", "_CACHED_ENDS"):
        monkeypatch.setattr(layout, name, 1)
    forgetful = load("mixnet", width=[1.0, 1.3])
    assert [forgetful.decode(genotype) for genotype in genotypes] == specs
    assert [space.decode(genotype) for genotype in reversed(genotypes)] == specs[::-1]
