"""Features of a network by which its accuracy is learned, read from its spec.

They describe the network alone: how a space names or orders its choices changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from nas.analysis.bayesian_regression import FloatArray
from nas.arch.blocks import BlockSpec
from nas.arch.complexity import Complexity, complexity
from nas.arch.spec import ArchSpec, StageSpec

CONSTANT: Final = "constant"
_STAGE_MARK: Final = "."  # after the number of a stage
_EQUAL: Final = 1e-9  # relative difference below which two standardised columns are the same


def network_features(spec: ArchSpec, cost: Complexity | None = None) -> dict[str, float]:
    """Features of ``spec`` by name; ``cost`` is that of the network where it is known.

    Of each stage, ``s0`` to ``sN``: how many of its blocks have which type, kernels, expansion and so on, the sums of
    those that are numbers, and its depth and channels. Of the network: depth, the receptive field in px, and logarithms
    of MACs, parameters and resolution (px). What a network does not have is absent, and counts as 0.
    """
    cost = cost or complexity(spec)
    features: dict[str, float] = {
        "log_macs": math.log(cost.macs),
        "log_params": math.log(cost.params),
        "log_resolution_px": math.log(spec.resolution_px),
        "log_stem_channels": math.log(spec.stem.channels),
        "log_head_channels": math.log(spec.head.channels or 1),
        "depth": float(spec.depth),
    }
    field_px, step_px = spec.stem.kernel, spec.stem.stride
    for number, stage in enumerate(spec.stages):
        of_stage, reach_px, stride = _stage_features(number, stage)
        features |= of_stage
        field_px += reach_px * step_px
        step_px *= stride
    features["receptive_field_px"] = float(field_px)
    return features


@lru_cache(maxsize=65536)
def _stage_features(number: int, stage: StageSpec) -> tuple[Mapping[str, float], int, int]:
    """Features of ``stage``, its reach in px and its stride.

    The reach is what it widens the receptive field by, at the resolution of its input.
    """
    prefix = f"s{number}{_STAGE_MARK}"
    features = {prefix + "log_channels": math.log(stage.blocks[-1].channels)}
    reach_px, step_px = 0, 1
    for block in stage.blocks:
        for name, amount in _block_features(prefix, block):
            features[name] = features.get(name, 0.0) + block.repeats * amount
        reach = _reach(block)
        reach_px += reach * step_px
        step_px *= block.stride
        reach_px += (block.repeats - 1) * reach * step_px
    return features, reach_px, step_px


@lru_cache(maxsize=65536)
def _block_features(prefix: str, block: BlockSpec) -> tuple[tuple[str, float], ...]:
    """Names and amounts of one repeat of ``block``.

    1 for each value of a field, and its numbers. ``prefix``: of the names.
    """
    kernels = ".".join(map(str, block.kernels))
    has = [
        f"type={block.type}",
        f"kernels={kernels}",
        f"expansion={block.expansion:g}",
        f"se_ratio={block.se_ratio:g}",
        f"expand_groups={len(block.expand_kernels)}",
        f"project_groups={len(block.project_kernels)}",
    ]
    optional = (
        ("partition", block.partition if len(block.kernels) > 1 else None),
        ("activation", block.activation),
        ("dilated", block.dilated or None),
        ("group_size", block.group_size),
        ("start_kernel", block.start_kernel or None),
        ("end_kernel", block.end_kernel or None),
        ("heads", block.heads or None),
        ("key_channels", block.key_channels or None),
        ("no_shortcut", None if block.skip else True),
    )
    has += [f"{name}={value}" for name, value in optional if value is not None]
    numbers = (
        ("depth", 1.0),
        ("kernel_px", sum(block.kernels) / len(block.kernels)),
        ("kernel_groups", float(len(block.kernels))),
        ("expansion", block.expansion),
        ("se_ratio", block.se_ratio),
    )
    return (*((prefix + name, 1.0) for name in has), *((prefix + name, amount) for name, amount in numbers))


@lru_cache(maxsize=65536)
def _reach(block: BlockSpec) -> int:
    """Px by which one repeat of ``block`` widens the receptive field.

    At the resolution of the block's input.
    """
    return max(max(block.kernels), 1) - 1 + max(block.start_kernel - 1, 0) + max(block.end_kernel - 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureScale:
    """Columns of a model's features, with their means and deviations.

    ``names``: (P,), sorted, ``CONSTANT`` last, a column of ones: the results of a search are not those of an average
    network. Other columns that are constant in the sample of networks, and those that equal another one, are left out.
    """

    names: tuple[str, ...]
    center: FloatArray
    scale: FloatArray

    @property
    def of_stages(self) -> npt.NDArray[np.bool_]:
        """Which features (P,) are those of single stages, not of the whole network."""
        return np.array([_STAGE_MARK in name for name in self.names], dtype=bool)

    @property
    def is_constant(self) -> npt.NDArray[np.bool_]:
        """Which column (P,) is the one of ones."""
        return np.array([name == CONSTANT for name in self.names], dtype=bool)

    @classmethod
    def fit(cls, networks: Sequence[Mapping[str, float]]) -> FeatureScale:
        """Learn from the features of a sample of ``networks``."""
        if not networks:
            return cls(names=(CONSTANT,), center=np.zeros(1), scale=np.ones(1))
        names = sorted({name for features in networks for name in features})
        table = np.array([[features.get(name, 0.0) for name in names] for features in networks]).reshape(-1, len(names))
        center, deviation = table.mean(axis=0), table.std(axis=0)
        varies = np.flatnonzero(deviation > 1e-9 * (1 + abs(center)))
        columns = (table[:, varies] - center[varies]) / deviation[varies]
        kept = varies[_distinct(columns)]
        return cls(
            names=(*(names[place] for place in kept), CONSTANT),
            center=np.append(center[kept], 0.0),
            scale=np.append(deviation[kept], 1.0),
        )

    def transform(self, networks: Sequence[Mapping[str, float]]) -> FloatArray:
        """Standardised features, (N, P)."""
        places = {name: place for place, name in enumerate(self.names)}
        table = np.zeros((len(networks), len(self.names)))
        table[:, -1] = 1.0
        for row, features in zip(table, networks, strict=True):
            for name, value in features.items():
                if (place := places.get(name)) is not None:
                    row[place] = value
        return (table - self.center) / self.scale


def _distinct(columns: FloatArray) -> list[int]:
    """Places of the columns (N, P) that no earlier one equals, or is the negative of."""
    kept: list[int] = []
    correlations = abs(columns.T @ columns) / max(len(columns), 1)
    for place in range(columns.shape[1]):
        if not any(correlations[place, earlier] > 1 - _EQUAL for earlier in kept):
            kept.append(place)
    return kept
