"""Activations that move into the convolutions before a concat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nas.arch.ops.network import Op


def fused_before_concats(ops: Sequence[Op], outputs: Sequence[str] = ()) -> tuple[Op, ...]:
    """Move activations of concats into the convolutions that they join.

    These apply ReLU and ReLU6 at no cost. They are moved where all inputs of the concat are outputs of convolutions
    that have no activation and no other reader. ``outputs``: paths of the network's outputs, which are read as well.
    """
    readers = Counter([*(name for op in ops for name in op.inputs), *outputs])
    by_path = {op.path: op for op in ops}
    for concat in ops:
        if concat.kind != "concat" or concat.activation not in ("relu", "relu6"):
            continue
        sources = [by_path[name] for name in concat.inputs if name in by_path]
        if len(sources) == len(concat.inputs) and all(
            op.kind in ("conv", "depthwise") and not op.activation and readers[op.path] == 1 for op in sources
        ):
            by_path[concat.path] = concat._replace(activation=None)
            by_path.update({op.path: op._replace(activation=concat.activation) for op in sources})
    return tuple(by_path[op.path] for op in ops)
