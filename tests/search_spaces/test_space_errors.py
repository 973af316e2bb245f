"""Errors in a space's YAML or in a genotype.

Each is one line that names the entry, the value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nas.core.errors import NasError
from search_spaces.space import SearchSpace

Config = dict[str, Any]
Change = Callable[[Config], Any]


def at(*keys: str | int, value: Any) -> Change:
    """A function that sets ``value`` at the path ``keys`` of a config."""

    def change(config: Config) -> None:
        container: Any = config
        for key in keys[:-1]:
            container = container[key]
        container[keys[-1]] = value

    return change


BLOCK = ("stages", 1, "blocks", 1)
MISTAKES: dict[str, tuple[Change, str]] = {
    "typo in block": (at(*BLOCK, "grops", value=2), "space.stages[1].blocks[1].grops: unknown; choose from"),
    "typo is guessed": (at(*BLOCK, "grops", value=2), "Did you mean 'groups'?"),
    "typo in stage": (at("stages", 0, "chanels", value=8), "space.stages[0].chanels: unknown"),
    "typo in choices": (at("choices", "kernal", value=3), "space.choices.kernal: unknown"),
    "typo in space": (at("choises", value={}), "space.choises: unknown"),
    "typo in space is guessed": (at("stage", value=[]), "Did you mean 'stages'?"),
    "keys of a space": (at("bloks", value=[]), "choose from name, stages, stem, head, choices, width, depth, resol"),
    "no name": (lambda config: config.pop("name"), "space.name: missing; give"),
    "name of another kind": (at("name", value=5), "space.name: 5 is not a string"),
    "stages left out": (lambda config: config.pop("stages"), "space.stages null: must be a list with at least one"),
    "typo in stem": (at("stem", "width", value=8), "space.stem.width: unknown"),
    "typo in rules": (at("scaling", value={"depth_rul": "ceil"}), "space.scaling.depth_rul: unknown"),
    "rule": (at("scaling", value={"depth_rule": "floor"}), "choose from ceil, round, per_string"),
    "multiplier among rules": (at("scaling", value={"width": 2.0}), "space.scaling.width: unknown"),
    "activation": (at("activation", value="elu"), "space: unknown activation 'elu': choose from"),
    "no groups": (at(*BLOCK, "groups", value=[0, 1]), "space.stages[1].blocks[1].groups 0: must be at least 1"),
    "even kernel": (at("choices", "kernel", value=[3, 4]), "space.choices.kernel 4: kernels (4,): must be odd"),
    "empty list": (at("choices", "expansion", value=[]), "space.choices.expansion: the list is empty"),
    "twice": (at("choices", "expansion", value=[6, 3, 6.0]), "space.choices.expansion: 6.0 is listed twice"),
    "string": (at("stages", 1, "channels", value="many"), "space.stages[1].channels 'many': must be a whole number"),
    "boolean": (at(*BLOCK, "repeats", value=True), "space.stages[1].blocks[1].repeats true: must be a whole number"),
    "fraction": (at("resolution_px", value=[32.5]), "space.resolution_px 32.5: must be a whole number"),
    "too many px": (at("resolution_px", value=[32, 20000]), "space.resolution_px 20000: must be a positive number of"),
    "zero width": (at("width", value=[0, 1]), "space.width 0.0: a multiplier must be a positive number"),
    "type": (at("stages", 0, "type", value="mb"), "space.stages[0].type 'mb': unknown type 'mb': choose from ir, ds"),
    "type of networks alone": (at("stages", 0, "type", value="uir"), "space.stages[0].type 'uir': unknown type 'uir'"),
    "stride": (at("stages", 1, "stride", value=3), "space.stages[1].stride 3: must be 1 or 2"),
    "head": (at("head", "kind", value="pool"), "space.head.kind 'pool': must be conv_pool, pool_conv, "),
    "no stages": (at("stages", value=[]), "space.stages []: must be a list with at least one entry"),
    "no stem": (at("stem", value=None), "space.stem null: must be a mapping of channels, kernel, stride"),
    "no stem channels": (at("stem", value={"stride": 1}), "space.stem.channels null: must be a whole number"),
    "stage of words": (at("stages", 1, value="ir_r1"), "space.stages[1] 'ir_r1': must be a mapping of"),
    "no channels": (
        at("stages", 2, value={"stride": 2}),
        "space.stages[2].blocks[0]: channels is missing; give it here, in",
    ),
    "two kernels": (at(*BLOCK, "kernel", value=3), "space.stages[1].blocks[1]: kernel and groups set the same field"),
    "number for kernels": (at("stages", 2, "kernels", value=[3.5]), "space.stages[2].kernels 3.5: must be a string"),
    "no effect": (at("stages", 0, "expand_groups", value=2), "space.stages[0].expand_groups: has no effect"),
    "first block absent": (at("stages", 2, "repeats", value=[0, 1]), "space.stages[2].blocks[0].repeats 0: only"),
    "cn without kernel": (
        lambda config: config.update(choices={"groups": [1, 2]}, stages=[{"channels": 8, "type": "cn"}]),
        "space.stages[0].blocks[0]: kernel is missing",
    ),
    "impossible split": (
        lambda config: config.update(choices={"groups": [1, 9]}, stages=[{"channels": 8, "type": "ds"}], width=0.5),
        "8 channels cannot be split 9 ways (kernels, equal)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_yaml_errors_name_the_mistake(
    config: Callable[[str], Config], construct: Callable[[Config], SearchSpace], mistake: str
) -> None:
    change, message = MISTAKES[mistake]
    own = config("tiny")
    change(own)
    with pytest.raises(NasError) as caught:
        construct(own)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_split_must_be_a_stage(load: Callable[..., SearchSpace]) -> None:
    with pytest.raises(NasError, match=r"space\.split 8: must be the index of a stage, or 7"):
        load("mobilenet_v3", split=[3, 8])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.75}, "width 0.75 is not a valid choice; choose from 0.5, 1.0"),
        ({"s1.b1.groups": "k3"}, "s1.b1.groups 'k3' is not a valid choice; choose from 1, 2, 3"),
        ({"s1.b1.grups": 1}, "'s1.b1.grups' is not a choice of this space. Did you mean 's1.b1.groups'?"),
    ],
)
def test_genotype_errors_name_the_mistake(
    load: Callable[..., SearchSpace], change: dict[str, Any], message: str
) -> None:
    space = load("tiny")
    genotype = {name: values[0] for name, values in space.parameters.items()}
    with pytest.raises(NasError) as caught:
        space.decode({**genotype, **change})
    assert message in str(caught.value)


def test_missing_choice_is_named(load: Callable[..., SearchSpace]) -> None:
    with pytest.raises(NasError, match=r"'width' is missing; choose from 0\.5, 1\.0"):
        load("tiny").decode({})
