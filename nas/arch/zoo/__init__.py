"""Published networks as specs, by timm's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Final

from nas.arch.spec import ArchSpec
from nas.arch.zoo.efficientnet import EFFICIENTNETS
from nas.arch.zoo.mixnet import MIXNETS
from nas.arch.zoo.mnasnet import MNASNETS
from nas.arch.zoo.mobilenet_v1 import MOBILENETS_V1
from nas.arch.zoo.mobilenet_v2 import MOBILENETS_V2
from nas.arch.zoo.mobilenet_v3 import MOBILENETS_V3
from nas.core.errors import unknown_choice

ZooFamily = dict[str, Callable[[], ArchSpec]]

_ZOO: Final[ZooFamily] = {
    **MOBILENETS_V1,
    **MOBILENETS_V2,
    **MNASNETS,
    **MOBILENETS_V3,
    **MIXNETS,
    **EFFICIENTNETS,
}


def names() -> tuple[str, ...]:
    """Names of all published networks, grouped by family."""
    return tuple(_ZOO)


def published_name(arch: ArchSpec) -> str:
    """Name of the published network that ``arch`` is, with any classes.

    And any input channels. Empty for a network that is not among ``names``. Equal networks have the same id, at the
    same resolution.
    """
    return _names_by_id(arch.classes, arch.in_channels).get(arch.arch_id, "")


@cache
def _names_by_id(classes: int, in_channels: int) -> dict[str, str]:
    pairs = ((replace(get(name), classes=classes, in_channels=in_channels).arch_id, name) for name in reversed(names()))
    return dict(pairs)


@cache
def get(name: str) -> ArchSpec:
    """The published network ``name`` at its published resolution.

    Raises: NasError for an unknown name.
    """
    if name not in _ZOO:
        raise unknown_choice("network", name, names())
    return _ZOO[name]()
