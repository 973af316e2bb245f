"""Operations of a network, per block: shapes, kernels, parameters and MACs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.arch.ops.dense_head import BOX_VALUES, LAST_CONV, class_layers
    from nas.arch.ops.network import (
        Op,
        OpKind,
        PartSegments,
        Segment,
        block_ops,
        block_segments,
        head_ops,
        head_segments,
        network_ops,
        network_segments,
        out_side,
        output_ops,
        stem_op,
        stem_segments,
        with_network_paths,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "dense_head": ["BOX_VALUES", "LAST_CONV", "class_layers"],
            "network": [
                "PartSegments",
                "Op",
                "OpKind",
                "Segment",
                "block_ops",
                "block_segments",
                "head_ops",
                "head_segments",
                "network_ops",
                "network_segments",
                "out_side",
                "output_ops",
                "stem_op",
                "stem_segments",
                "with_network_paths",
            ],
        },
    )

__all__ = [
    "LAST_CONV",
    "class_layers",
    "BOX_VALUES",
    "PartSegments",
    "Op",
    "OpKind",
    "Segment",
    "block_ops",
    "block_segments",
    "head_ops",
    "head_segments",
    "network_ops",
    "network_segments",
    "out_side",
    "output_ops",
    "stem_op",
    "stem_segments",
    "with_network_paths",
]
