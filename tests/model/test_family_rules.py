"""Rounding rules of each family against all networks that timm scales by multipliers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache
from typing import Any
from unittest.mock import patch

import pytest
import timm
import torch
from timm.layers import MultiQueryAttention2d
from timm.models import efficientnet, hardcorenas, mobilenetv3
from torch import nn

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.scaling.compound import scale_rounded
from nas.arch.scaling.published_families import FAMILIES, find_family
from nas.arch.scaling.rounding_rules import rules_for
from nas.arch.scaling.transform import Factors
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError
from nas.model.timm_import.network import timm_arch
from tests.model.torch_counts import counts, without_storage

PX = 224
WIDTHS = ("channel_multiplier", "model_width")
# What siblings may differ in from their base: multipliers; what their rules are; padding and norms, which cost nothing.
FREE = (*WIDTHS, "depth_multiplier", "variant", "pretrained", "fix_stem_head", "kwargs.bn_eps", "kwargs.pad_type")


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A network as timm's function for its name defines it: the builder that it calls, with its arguments."""

    name: str
    builder: Callable[..., Any]
    bound: inspect.BoundArguments

    @property
    def width(self) -> float:
        return float(next((self.bound.arguments[name] for name in WIDTHS if name in self.bound.arguments), 1.0))

    @property
    def depths(self) -> tuple[float, ...]:
        """Depth multipliers: one, or one per stage."""
        depth = self.bound.arguments.get("depth_multiplier", 1.0)
        return depth if isinstance(depth, tuple) else (depth,)

    @property
    def is_scaled(self) -> bool:
        return self.width != 1 or self.depths != (1.0,)

    @property
    def shared(self) -> tuple[object, ...]:
        """Builder and arguments that a base shares with its scaled networks."""
        arguments = dict(self.bound.arguments)
        arguments |= {f"kwargs.{name}": value for name, value in arguments.pop("kwargs").items()}
        return self.builder, {name: repr(value) for name, value in arguments.items() if name not in FREE}


@cache
def definitions() -> dict[str, Definition]:
    """All networks of timm's EfficientNet builder; none is built."""
    found: dict[str, Definition] = {}
    for module in (efficientnet, mobilenetv3, hardcorenas):
        builders = {name: value for name, value in vars(module).items() if name.startswith("_gen_")}
        called: list[tuple[Callable[..., Any], inspect.BoundArguments]] = []

        def record(builder: Callable[..., Any], called: list[Any] = called) -> Callable[..., None]:
            signature = inspect.signature(builder)

            def call(*args: Any, **kwargs: Any) -> None:
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                called.append((builder, bound))

            return call

        with patch.multiple(module, **{name: record(builder) for name, builder in builders.items()}):
            for name in timm.list_models(module=module.__name__.rpartition(".")[2]):
                timm.model_entrypoint(name)()
                builder, bound = called.pop()
                found[name] = Definition(name=name, builder=builder, bound=bound)
    return found


def base_of(scaled: Definition) -> str | None:
    """The unscaled network of the same builder and arguments whose name begins most alike; None if there is none."""
    if scaled.builder is efficientnet._gen_tinynet:
        return "efficientnet_b0"  # TinyNet (arXiv:2010.14819) scales it; timm has no unscaled tinynet
    shared = scaled.shared
    alike = [other.name for other in definitions().values() if not other.is_scaled and other.shared == shared]
    return max(alike, key=lambda name: SequenceMatcher(None, name, scaled.name).find_longest_match().size, default=None)


BASES = {name: base_of(definition) for name, definition in definitions().items() if definition.is_scaled}


@cache
def read(name: str) -> ArchSpec | None:
    """The spec of timm's network, None where no spec can express it."""
    try:
        with without_storage():
            return timm_arch(name)
    except NasError:
        return None


def params_and_macs(model: nn.Module) -> tuple[int, int]:
    """Parameters and multiply-adds of a meta-device module: each output takes as many as its filter has weights.

    Torch's counter takes several times as long; it is used where attention multiplies matrices.
    """
    if any(isinstance(module, MultiQueryAttention2d) for module in model.modules()):
        return counts(model, 3, PX)[:2]
    macs: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda one, _, output: macs.append(output.numel() * one.weight[0].numel()))
    with torch.no_grad(), patch.object(nn.functional, "batch_norm", lambda images, *_args, **_kwargs: images):
        model.eval()(torch.empty(1, 3, PX, PX, device="meta"))
    return sum(parameter.numel() for parameter in model.parameters()), sum(macs)


@cache
def cost_in_timm(base: str, width: float, depths: tuple[float, ...]) -> tuple[int, int]:
    """Parameters and multiply-adds of a scaled network in timm, by torch's counter."""
    for name, definition in definitions().items():
        multipliers = (definition.width, definition.depths)
        if (BASES.get(name) or "").removeprefix("tf_") == base and multipliers == (width, depths):
            with without_storage():
                return params_and_macs(timm.create_model(name))
    raise AssertionError(base)


def scaled_as(baseline: ArchSpec, definition: Definition) -> ArchSpec:
    """``baseline`` at the multipliers of ``definition``, each stage at its depth, by the rules of its family."""
    rules = rules_for(replace(baseline, name=definition.name))
    wholes = [
        scale_rounded(baseline, Factors(depth=depth, width=definition.width), rules).arch for depth in definition.depths
    ]
    if len(wholes) == 1:
        return wholes[0]
    return replace(wholes[0], stages=tuple(whole.stages[index] for index, whole in enumerate(wholes)))


@pytest.mark.parametrize("name", [name for name, base in BASES.items() if base and "_cc_" not in name])
def test_the_rules_of_a_family_give_each_of_its_published_networks(name: str) -> None:
    definition, base = definitions()[name], str(BASES[name])
    expected = cost_in_timm(base.removeprefix("tf_"), definition.width, definition.depths)
    for baseline in (read(base), zoo.get(base) if base in zoo.names() else None):
        if baseline is not None:
            cost = complexity(replace(scaled_as(baseline, definition), resolution_px=PX))
            assert (cost.params, cost.macs) == expected
    assert read(base) is not None


def test_a_base_is_of_the_family_of_its_scaled_networks() -> None:
    """Two families scale a network of another one; their rules are chosen by ``rounding.family``."""
    differing = {
        (find_family(named(base))[0], find_family(named(name))[0]) for name, base in BASES.items() if base is not None
    }
    assert {pair for pair in differing if pair[0] != pair[1]} == {
        ("efficientnet", "tinynet"),
        ("mobilenet_v2", "mobilenet_v2d"),
    }


def test_scaled_networks_that_are_not_compared_cannot_be_read() -> None:
    left_out = [name for name, base in BASES.items() if base is None or "_cc_" in name]
    assert [name for name in left_out if read(name) is not None] == []


def named(name: str) -> ArchSpec:
    return replace(zoo.get("mnasnet_small"), name=name)


def test_every_network_of_timm_is_of_a_family_by_its_name() -> None:
    assert {find_family(named(name))[1] for name in definitions()} == {"name"}


def test_the_evidence_of_a_family_is_what_timm_scales() -> None:
    """Families with published networks say which; the others that there are none."""
    scaled = {find_family(named(name))[0] for name, base in BASES.items() if base is not None}
    assert {name for name, family in FAMILIES.items() if family.evidence.startswith("gives ")} == scaled
    said = {name for name, family in FAMILIES.items() if family.evidence.startswith("no scaled network is published")}
    assert said == set(FAMILIES) - scaled


@pytest.mark.parametrize(
    "family", [name for name, family in FAMILIES.items() if "timm's builder does" in family.evidence]
)
def test_unpublished_multipliers_give_what_the_builder_does(family: str) -> None:
    """Without squeeze-excite: the builder of FBNetV3 multiplies its squeeze channels by the width twice."""
    definition = next(one for name, one in definitions().items() if find_family(named(name))[0] == family)
    baseline = read(definition.name)
    assert baseline is not None
    for width, depth in ((1.1, 1.3), (1.2, 1.0)):
        multipliers = {"channel_multiplier": width, "depth_multiplier": depth}
        given = {name: value for name, value in multipliers.items() if name in definition.bound.arguments}
        bound = definition.bound.arguments | given
        extra = bound.pop("kwargs")
        with without_storage():
            theirs = definition.builder(**bound, **extra)
            for module in theirs.modules():
                if hasattr(module, "se"):
                    module.se = nn.Identity()
            expected = params_and_macs(theirs)
        factors = Factors(depth=given.get("depth_multiplier", 1.0), width=width)
        cost = complexity(replace(scale_rounded(without_se(baseline), factors).arch, resolution_px=PX))
        assert (cost.params, cost.macs) == expected


def without_se(arch: ArchSpec) -> ArchSpec:
    return replace(
        arch,
        stages=tuple(StageSpec(tuple(replace(block, se_ratio=0.0) for block in stage.blocks)) for stage in arch.stages),
    )


def test_hardcorenas_is_scaled_by_no_builder() -> None:
    signature = inspect.signature(hardcorenas._gen_hardcorenas)
    assert not set(signature.parameters) & {*WIDTHS, "depth_multiplier"}
    assert rules_for(named("hardcorenas_a")) == rules_for(named("efficientnet_b0"))
