"""Networks whose accuracy is linear in their choices, so that every effect is known."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nas.analysis.surrogate import AccuracyModel, Evaluated, FeatureScale

KERNELS: Final = ("k3", "k5", "k7")
BLOCKS: Final = tuple(f"s{stage}.b{block}.kernel" for stage in range(3) for block in range(2))
POINTS: Final = 5.0  # of accuracy that one unit of worth is


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearTruth:
    """Worth of each value of each choice, drawn for ``seed``; a ``share`` of the variance is noise.

    Blocks of one stage are worth the same, as counts of operations per stage see them. ``networks``: a sample.
    """

    worth: Mapping[str, Mapping[Any, float]]
    networks: tuple[Mapping[str, Any], ...]
    share: float

    @classmethod
    def drawn(cls, seed: int, *, share: float = 0.1, count: int = 400) -> LinearTruth:
        """Draw the truth and the sample."""
        rng = random.Random(seed)
        stages = [{kernel: rng.gauss(0, 0.5) for kernel in KERNELS} for _ in range(3)]
        worth = {name: stages[int(name[1])] for name in BLOCKS} | {"width": {1.0: 0.0, 1.3: rng.gauss(0, 1)}}
        networks = [{name: rng.choice(list(values)) for name, values in worth.items()} for _ in range(count)]
        return cls(worth=worth, networks=tuple(networks), share=share)

    def of(self, genotype: Mapping[str, Any]) -> float:
        """Worth of a network, without noise."""
        return sum(self.worth[name][value] for name, value in genotype.items())

    def features(self, genotype: Mapping[str, Any]) -> dict[str, float]:
        """Counts of kernels by stage, and the width, which is all that their multiply-adds tell."""
        found = {"log_macs": math.log(genotype["width"])}
        for name in BLOCKS:
            key = f"s{name[1]}.kernels={genotype[name]}"
            found[key] = found.get(key, 0.0) + 1.0
        return found

    def results(self, count: int, seed: int) -> list[Evaluated]:
        """Results of ``count`` of the networks."""
        rng = np.random.default_rng(seed)
        deviation = float(np.std([self.of(one) for one in self.networks]))
        noise = deviation * np.sqrt(self.share / (1 - self.share)) * rng.standard_normal(count)
        return [
            Evaluated(features=self.features(one), accuracy=float(0.5 + POINTS / 100 * (self.of(one) + error)))
            for one, error in zip(self.networks[:count], noise, strict=True)
        ]

    @property
    def scale(self) -> FeatureScale:
        """Scale of the features in the sample."""
        return FeatureScale.fit([self.features(one) for one in self.networks])

    def fitted(self, count: int, seed: int) -> tuple[AccuracyModel, list[Evaluated]]:
        """A calibrated model of ``count`` results, and the results."""
        results = self.results(count, seed)
        return AccuracyModel.fit(self.scale, results, noise=None), results
