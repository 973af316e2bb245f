"""Operations of a network, per block: shapes, kernels, parameters and MACs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.arch.ops.network import Op, block_ops, head_ops, network_ops, out_side, stem_op
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"network": ["Op", "block_ops", "head_ops", "network_ops", "out_side", "stem_op"]}
    )

__all__ = ["Op", "block_ops", "head_ops", "network_ops", "out_side", "stem_op"]
