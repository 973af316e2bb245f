"""NAS-Bench-Macro as a tabular benchmark: all its networks are trained already.

Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021, arXiv:2103.11922: 6,561 networks
on CIFAR-10, three trainings of each. Licence Apache-2.0; read in place, never copied.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec

PATH: Final = Path("../shared/data/nas_bench_macro/nas-bench-macro_cifar10.json")
STAGES: Final = ((64, 2), (128, 3), (256, 3))  # channels, layers
LAYERS: Final = ("identity", "e3k3", "e6k5")  # in the order of the digits of the keys
_BLOCKS: Final = {"e3k3": "ir_r1_k3_s{stride}_e3_c{channels}", "e6k5": "ir_r1_k5_s{stride}_e6_c{channels}"}
_DOWNSAMPLE: Final = "cn_r1_k1_s2_c{channels}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Table row of a network: ``accuracies`` of its three trainings, in [0, 1]."""

    accuracies: tuple[float, ...]
    params: int
    macs: int

    @property
    def accuracy(self) -> float:
        """Mean accuracy in [0, 1]."""
        return sum(self.accuracies) / len(self.accuracies)


class MacroSpace:
    """Eight layers, each absent or an inverted residual of 3 x 3 or 5 x 5.

    The first layer of a stage halves the map; identity there is a 1 x 1 convolution. Elsewhere identity is no layer at
    all, wherever in its stage, so that 6,561 points are 3,969 networks.
    """

    name = "nas_bench_macro"
    largest_kernel = 5
    published: tuple[str, ...] = ()
    parameters: Mapping[str, tuple[str, ...]] = {f"layer{index}": LAYERS for index in range(8)}
    size = len(LAYERS) ** 8

    def sample(self, rng: random.Random) -> dict[str, str]:
        return {name: rng.choice(values) for name, values in self.parameters.items()}

    def decode(self, genotype: Mapping[str, Any], *, classes: int = 10, in_channels: int = 3) -> ArchSpec:
        layers = iter([genotype[name] for name in self.parameters])
        stages = [_stage([next(layers) for _ in range(depth)], channels) for channels, depth in STAGES]
        return ArchSpec.from_strings(
            self.name,
            stages,
            stem=StemSpec(channels=32, stride=1),
            head=HeadSpec(channels=1280),
            resolution_px=32,
            in_channels=in_channels,
            classes=classes,
        )

    def decode_base(self, genotype: Mapping[str, Any], **_: int) -> tuple[ArchSpec, Scaling]:
        raise NotImplementedError

    def encode(self, spec: ArchSpec) -> dict[str, str]:
        raise NotImplementedError


class MacroTable:
    """The table, by genotype key and by ``arch_id``."""

    def __init__(self, path: Path = PATH) -> None:
        self.by_key = {
            key: Entry(
                accuracies=tuple(value / 100 for value in entry["test_acc"]),
                params=entry["params"],
                macs=entry["flops"],
            )
            for key, entry in json.loads(path.read_text(encoding="utf-8")).items()
        }
        self.space = MacroSpace()

    def genotype(self, key: str) -> dict[str, str]:
        """Genotype of the digits of ``key``."""
        return {name: LAYERS[int(digit)] for name, digit in zip(self.space.parameters, key, strict=True)}

    @cached_property
    def by_arch(self) -> dict[str, Entry]:
        """The 3,969 networks."""
        return {self.space.decode(self.genotype(key)).arch_id: entry for key, entry in self.by_key.items()}


def _stage(layers: list[str], channels: int) -> list[str]:
    first, rest = layers[0], layers[1:]
    begin = _BLOCKS.get(first, _DOWNSAMPLE).format(stride=2, channels=channels)
    return [begin, *(_BLOCKS[layer].format(stride=1, channels=channels) for layer in rest if layer != LAYERS[0])]
