"""Published figures from ``tests/reference/*.json``.

Their block strings are converted to this project's notation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nas.arch.ops.network import Op, network_ops
from nas.arch.spec import ArchSpec
from tests.paths import REFERENCE

FOLDER = REFERENCE


def reference(name: str) -> dict[str, Any]:
    """Load the reference file of one family.

    Each begins with its sources, levels and conventions.
    """
    data: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return data


def with_classes(spec: ArchSpec, classes: int) -> ArchSpec:
    return replace(spec, classes=classes)


def ops(spec: ArchSpec) -> list[Op]:
    return list(network_ops(spec))


def norm_channels(spec: ArchSpec) -> int:
    """Channels under batch normalisation; each has two parameters."""
    return sum(op.out_channels for op in ops(spec) if op.norm)


def bias_elements(spec: ArchSpec) -> int:
    """Difference between a MAC count that adds biases and ours.

    Every bias here acts on a 1x1 map.
    """
    return sum(op.out_elements for op in ops(spec) if op.bias)


def squeeze_excite_macs(spec: ArchSpec) -> int:
    return sum(op.macs for op in ops(spec) if ".se." in op.path)


def translated(text: str) -> tuple[str, int]:
    """Convert a block string of tensorflow/tpu to our notation.

    Returns it with the input channels that it declares. ``r2_k3_s22_e6_i16_o24_se0.25_sw`` has a stride per axis,
    declared input (i) and output (o) filters, and marks swish by ``sw``; an expansion of 1 builds no expansion
    convolution, which is our ``ds``.
    """
    tokens = text.split("_")
    declared = next(int(token[1:]) for token in tokens if token.startswith("i"))
    depthwise_separable = "e1" in tokens
    words = ["ds" if depthwise_separable else "ir"]
    for token in tokens:
        if token.startswith("i") or (depthwise_separable and token == "e1"):
            continue
        if token in ("s11", "s22"):
            words.append(token[:2])
        elif token == "sw":
            words.append("nsw")
        else:
            words.append(f"c{token[1:]}" if token.startswith("o") else token)
    return "_".join(words), declared


def blocks_in_order(spec: ArchSpec) -> Sequence[Any]:
    return [block for stage in spec.stages for block in stage.blocks]
