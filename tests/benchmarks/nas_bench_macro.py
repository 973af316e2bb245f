"""NAS-Bench-Macro as a search space and a table of accuracies of full trainings.

Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021, arXiv:2103.11922: 6,561 points on
CIFAR-10, three trainings of each; networks as in ``train/model.py`` of github.com/xiusu/NAS-Bench-Macro, from which the
table comes (Apache-2.0; read in place, never copied).

    table = MacroTable(Path("../shared/data") / FILE)
    arch = table.space.decode(table.genotype("21012010"), classes=10)
    table.by_arch[arch.arch_id].accuracy
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

from nas.arch.blocks import BlockSpec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError
from search_spaces.space import Genotype, Scalar, SearchSpace

FILE: Final = Path("nas_bench_macro/nas-bench-macro_cifar10.json")  # below the folder of shared data
STAGES: Final = ((64, 2), (128, 3), (256, 3))  # channels, layers
LAYERS: Final = ("id", "e3k3", "e6k5")  # in the order of the digits of the keys
CLASSES: Final = 10
_BLOCKS: Final = {"e3k3": (3, 3.0), "e6k5": (5, 6.0)}  # kernel side in px, expansion


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Table row of a network: ``accuracies`` of its three trainings, in [0, 1]."""

    accuracies: tuple[float, ...]
    params: int
    macs: int

    @property
    def accuracy(self) -> float:
        """Mean accuracy in [0, 1]."""
        return fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Sample standard deviation of ``accuracies`` (n - 1; the file's own has n)."""
        return stdev(self.accuracies)


class NasBenchMacroSpace(SearchSpace):
    """Eight layers, each absent or an inverted residual of 3x3 or 5x5.

    The first layer of a stage halves the map; identity there is a 1x1 convolution of stride 2. Elsewhere identity is no
    layer at all, wherever in its stage, so that 6,561 points are 3,969 networks. One difference from the original: its
    1x1 convolution has a norm and no activation, our ``cn`` block has both. Parameters and MACs are the same.
    """

    @property
    def name(self) -> str:
        return "nas_bench_macro"

    @property
    def parameters(self) -> Mapping[str, tuple[Scalar, ...]]:
        return {f"l{index}": LAYERS for index in range(sum(depth for _, depth in STAGES))}

    @property
    def largest_kernel(self) -> int:
        return max(kernel for kernel, _ in _BLOCKS.values())

    def decode(self, genotype: Genotype, *, classes: int = CLASSES, in_channels: int = 3) -> ArchSpec:
        self.check(genotype)
        layers = iter([str(genotype[name]) for name in self.parameters])
        return ArchSpec(
            name=self.name,
            stem=StemSpec(channels=32, stride=1),
            stages=tuple(_stage([next(layers) for _ in range(depth)], channels) for channels, depth in STAGES),
            head=HeadSpec(channels=1280),
            resolution_px=32,
            in_channels=in_channels,
            classes=classes,
        )

    def decode_base(
        self, genotype: Genotype, *, classes: int = CLASSES, in_channels: int = 3
    ) -> tuple[ArchSpec, Scaling]:
        return self.decode(genotype, classes=classes, in_channels=in_channels), Scaling()

    def encode(self, spec: ArchSpec) -> Genotype:
        """Find the genotype whose identities come last in their stages."""
        if len(spec.stages) != len(STAGES):
            raise NasError(f"space {self.name!r} cannot express {len(spec.stages)} stages, it has {len(STAGES)}.")
        layers: list[str] = []
        for index, (stage, (_, depth)) in enumerate(zip(spec.stages, STAGES, strict=True)):
            found = [_layer(block) for block in stage.blocks for _ in range(block.repeats)]
            if len(found) > depth:
                raise NasError(f"space {self.name!r} cannot express {len(found)} blocks in stage {index} ({depth}).")
            layers += found + ["id"] * (depth - len(found))
        genotype = dict(zip(self.parameters, layers, strict=True))
        same = self.decode(genotype, classes=spec.classes, in_channels=spec.in_channels)
        if same.arch_id != spec.arch_id:
            raise NasError(f"space {self.name!r} cannot express {spec.name}: it has {same.canonical()}.")
        return genotype


class MacroTable:
    """The table, by key of eight digits and by ``arch_id``.

    Raises: NasError if there is no file at ``path``.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NasError(f"{path} is not here: get it from github.com/xiusu/NAS-Bench-Macro (data/{path.name}).")
        self.space = NasBenchMacroSpace()
        self.by_key = {
            key: Entry(
                accuracies=tuple(value / 100 for value in row["test_acc"]), params=row["params"], macs=row["flops"]
            )
            for key, row in json.loads(path.read_text(encoding="utf-8")).items()
        }

    def genotype(self, key: str) -> dict[str, str]:
        """Genotype of the digits of ``key``."""
        return {name: LAYERS[int(digit)] for name, digit in zip(self.space.parameters, key, strict=True)}

    def decode(self, key: str) -> ArchSpec:
        """Network of ``key``."""
        return self.space.decode(self.genotype(key))

    @cached_property
    def distinct(self) -> tuple[str, ...]:
        """Keys of the 3,969 different networks, in order of the digits.

        Of equal networks, the key whose identities come last in their stages.
        """
        return tuple(sorted({distinct_key(key) for key in self.by_key}))

    @cached_property
    def best_tenth(self) -> tuple[str, ...]:
        """Keys of the tenth of the different networks with the highest mean accuracies, best first."""
        ordered = sorted(self.distinct, key=lambda key: -self.by_key[key].accuracy)
        return tuple(ordered[: len(ordered) // 10])

    @cached_property
    def by_arch(self) -> dict[str, Entry]:
        """The different networks."""
        return {self.decode(key).arch_id: self.by_key[key] for key in self.distinct}

    def truth(self, key: str) -> tuple[float, float]:
        """Mean accuracy of the network of ``key``, and its sample standard deviation over three trainings."""
        entry = self.by_key[key]
        return entry.accuracy, entry.std

    def draw(self, count: int, *, seed: int, best: bool = False) -> list[str]:
        """Draw the keys of ``count`` different networks uniformly, of all or of the ``best`` tenth.

        A larger draw of the same seed begins with the smaller.

        Raises: NasError if there are not as many.
        """
        keys = list(self.best_tenth if best else self.distinct)
        if count > len(keys):
            raise NasError(f"{count} networks: there are {len(keys)}; draw fewer.")
        random.Random(f"nas_bench_macro {seed}").shuffle(keys)
        return keys[:count]


def distinct_key(key: str) -> str:
    """Key of the same network whose identities come last in their stages.

    A stage's first layer halves the map and stays.
    """
    return "".join(digits[0] + digits[1:].replace("0", "").ljust(len(digits) - 1, "0") for digits in _by_stage(key))


def _by_stage(key: str) -> Iterator[str]:
    start = 0
    for _, depth in STAGES:
        yield key[start : start + depth]
        start += depth


def _stage(layers: Sequence[str], channels: int) -> StageSpec:
    first, *rest = layers
    return StageSpec(
        (_block(first, channels, 2), *[_block(layer, channels, 1) for layer in rest if layer != LAYERS[0]])
    )


def _block(layer: str, channels: int, stride: int) -> BlockSpec:
    if layer not in _BLOCKS:
        return BlockSpec(type="cn", channels=channels, kernels=(1,), stride=stride, skip=False)
    kernel, expansion = _BLOCKS[layer]
    return BlockSpec(type="ir", channels=channels, kernels=(kernel,), stride=stride, expansion=expansion)


def _layer(block: BlockSpec) -> str:
    """Name of the layer that ``block`` may be; whether it is, decoding tells."""
    names = {fields: name for name, fields in _BLOCKS.items()}
    return names.get((block.kernels[0], block.expansion), LAYERS[0])
