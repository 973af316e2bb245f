"""Networks whose accuracy after long training is known, for tests/benchmarks/estimators.py."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Final

from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from search_spaces.space import SearchSpace
from tests.benchmarks.nas_bench_macro import FILE, MacroTable
from tests.benchmarks.tabulated import Curves

_IMAGES: Final = Path("cifar10_mini")  # below the folder of shared data


@dataclass(frozen=True)
class Candidate:
    """A network of a table.

    ``accuracies``: of independent long trainings, in [0, 1]. ``curve``: accuracy after each epoch of the only one,
    where the table has it, and ``curve_cpu_s`` the CPU-seconds of each.
    """

    name: str
    arch: ArchSpec
    accuracies: tuple[float, ...]
    curve: tuple[float, ...] = ()
    curve_cpu_s: tuple[float, ...] = ()

    @property
    def accuracy(self) -> float:
        """Mean accuracy in [0, 1]: the truth that estimates are held against."""
        return fmean(self.accuracies)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """MACs, parameters, and depth: blocks other than a plain 1x1 convolution."""
        cost = complexity(self.arch)
        blocks = [placed.block for placed in self.arch.placed_blocks()]
        depth = sum(not (block.type == "cn" and block.kernels == (1,)) for block in blocks)
        return {"macs": cost.macs, "params": cost.params, "depth": depth}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Networks drawn from a table.

    ``candidates``: uniformly from all. ``best``: from the tenth with the highest accuracy, with which orders are
    compared where it matters. ``images``: folder of the images of the trainings, if it is there. ``validation_images``:
    on which each accuracy was measured.
    """

    table: str
    space: SearchSpace
    candidates: Sequence[Candidate]
    best: Sequence[Candidate]
    images: Path
    validation_images: int

    @cached_property
    def all(self) -> list[Candidate]:
        """Every drawn network once: first ``candidates``, then ``best``."""
        return list({one.name: one for one in (*self.candidates, *self.best)}.values())


def draw_macro(shared: Path, networks: int, best: int, seed: int) -> Sample:
    """Draw from NAS-Bench-Macro: three trainings in full of each network, on all of CIFAR-10."""
    table = MacroTable(shared / FILE)

    def candidate(key: str) -> Candidate:
        return Candidate(key, table.decode(key), table.by_key[key].accuracies)

    return Sample(
        table="macro",
        space=table.space,
        candidates=[candidate(key) for key in table.draw(networks, seed=seed)],
        best=[candidate(key) for key in table.draw(best, seed=seed, best=True)],
        images=shared / _IMAGES,
        validation_images=10_000,
    )


def draw_curves(shared: Path, networks: int, best: int, seed: int) -> Sample:
    """Draw from the 96 networks of learning_curves.json: nine epochs on 2,000 images of 16 px, once each."""
    curves = Curves.read()
    everyone = [
        Candidate(
            name=one["arch_id"],
            arch=curves.space.decode(one["genotype"], classes=10),
            accuracies=(one["accuracy"][-1],),
            curve=tuple(one["accuracy"]),
            curve_cpu_s=tuple(one["cpu_s"]),
        )
        for one in curves.networks.values()
    ]
    tenth = sorted(everyone, key=lambda one: -one.accuracy)[: len(everyone) // 10]
    rng = random.Random(f"curves {seed}")
    return Sample(
        table="curves",
        space=curves.space,
        candidates=_draw(everyone, networks, rng),
        best=_draw(tenth, best, rng),
        images=shared / _IMAGES,
        validation_images=1000,
    )


TABLES: Final[Mapping[str, Callable[[Path, int, int, int], Sample]]] = {"macro": draw_macro, "curves": draw_curves}


def _draw(candidates: Sequence[Candidate], count: int, rng: random.Random) -> list[Candidate]:
    if count > len(candidates):
        raise NasError(f"{count} networks: there are {len(candidates)}; draw fewer.")
    return rng.sample(candidates, len(candidates))[:count]
