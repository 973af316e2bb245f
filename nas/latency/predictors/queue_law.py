"""Queue law: latency of a processor that executes a queue of kernels.

It defines the costs of operations, and how costs of parts combine into a network's. A host issues kernels one after
another; the processor executes them in order. Operation ``j`` cannot start before it is issued, nor before the work
ahead of it is done, so that

    latency = once + max over j of (issue of operations 0..j  +  work of operations j..last)

On a GPU at batch 1 the host is the bottleneck (latency counts kernels), at large batches the work; in between, as at
batch 32, the first operations of a network wait for work and the last for the host. A phone's CPU is the case of nearly
free issues. Issue and work are sums of amounts times prices (ms per unit), so that the law is a maximum of linear
functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from nas.arch.complexity import BYTES_PER_ELEMENT
from nas.arch.ops.network import Op, network_ops
from nas.arch.spec import ArchSpec
from nas.latency.arrays import FloatArray

Amounts = tuple[tuple[int, float], ...]


class PricePrior(NamedTuple):
    """Prior of a price: ms per unit up to a common factor, and its spread.

    ``spread``: standard deviation of the logarithm.
    """

    ms: float
    spread: float


# Units: 10^6 multiply-adds (macs, taps), 10^6 bytes moved (mb), 1 per kernel (issue, kernel), 1 per network (once).
# Norms and activations are priced as separate kernels, as eager frameworks run them; where they are fused into their
# convolution, the fit moves these prices towards zero.
PRICES: Final[dict[str, PricePrior]] = {
    "once": PricePrior(1.0, 2.0),
    "issue.layer": PricePrior(0.02, 0.5),
    "issue.norm": PricePrior(0.02, 0.7),
    "issue.activation": PricePrior(0.02, 0.7),
    "kernel.layer": PricePrior(0.002, 1.0),
    "kernel.pointwise": PricePrior(0.002, 1.0),  # of a norm or an activation
    "pointwise.macs": PricePrior(0.02, 0.7),
    "spatial.macs": PricePrior(0.02, 1.0),
    **{f"depthwise{kernel}.taps": PricePrior(0.04, 0.7) for kernel in (3, 5, 7, 9, 11)},
    # Channels that cannot use the blocked layout of CPUs: see nas.latency.predictors.op_features.
    "depthwise_odd.taps": PricePrior(0.1, 1.0),
    "dense.mb": PricePrior(0.03, 0.7),
    "depthwise.mb": PricePrior(0.04, 0.7),
    "move.mb": PricePrior(0.04, 0.7),
    "norm.mb": PricePrior(0.03, 1.0),
    **{
        f"{name}.mb": PricePrior(0.03, 1.0)
        for name in ("relu", "relu6", "hard_swish", "swish", "sigmoid", "hard_sigmoid")
    },
    "activation.mb": PricePrior(0.05, 1.0),  # any other
    "weights.mb": PricePrior(0.03, 1.0),
}
NAMES: Final = tuple(PRICES)
_INDEX: Final = {name: index for index, name in enumerate(NAMES)}
ONCE: Final = _INDEX["once"]
ISSUE: Final[npt.NDArray[np.bool_]] = np.array([name.startswith("issue.") for name in NAMES])
_ISSUES: Final = frozenset(np.flatnonzero(ISSUE).tolist())  # faster look-up than in the array
_WIDEST: Final = 11
_BLOCKED: Final = 4
_MEGA: Final = 1e-6


class Span(NamedTuple):
    """Times of consecutive operations: of issuing, of work, and of both in the queue.

    ``total_ms``: from the issue of the first to the end of the last, on a processor that was idle before.
    """

    issue_ms: float = 0.0
    work_ms: float = 0.0
    total_ms: float = 0.0

    def then(self, later: Span) -> Span:
        """Span of these operations followed by ``later``."""
        return Span(
            self.issue_ms + later.issue_ms,
            self.work_ms + later.work_ms,
            max(self.total_ms + later.work_ms, self.issue_ms + later.total_ms),
        )


@lru_cache(maxsize=65536)
def amounts(op: Op) -> Amounts:
    """(index in ``NAMES``, amount) of everything that ``op`` pays for at batch 1."""
    if op.kind == "split":  # a view
        return ()
    named = [("issue.layer", 1.0), ("kernel.layer", 1.0), *_work(op)]
    moved = 2 * _mb(op.out_elements)
    if op.norm:
        named += [("issue.norm", 1.0), ("kernel.pointwise", 1.0), ("norm.mb", moved)]
    if op.activation:
        name = f"{op.activation}.mb"
        price = name if name in _INDEX else "activation.mb"
        named += [("issue.activation", 1.0), ("kernel.pointwise", 1.0), (price, moved)]
    return tuple((_INDEX[name], amount) for name, amount in named)


def span(ops: Iterable[Op], prices_ms: Sequence[float]) -> Span:
    """Times of consecutive ``ops``, without the price that is paid once per network.

    ``prices_ms``: ms per unit, in the order of ``NAMES``.
    """
    issue_ms = work_ms = total_ms = 0.0
    for op in ops:
        own_issue = own_work = 0.0
        for index, amount in amounts(op):
            if index in _ISSUES:
                own_issue += amount * prices_ms[index]
            else:
                own_work += amount * prices_ms[index]
        total_ms = max(total_ms, issue_ms + own_issue) + own_work
        issue_ms, work_ms = issue_ms + own_issue, work_ms + own_work
    return Span(issue_ms, work_ms, total_ms)


def design_matrix(spec: ArchSpec) -> FloatArray:
    """Design matrix of the law's linear functions, float64, (operations, prices).

    Row j has the issues of operations 0 to j and the work of operations j to the last. The latency is the largest entry
    of matrix @ prices.
    """
    ops = list(network_ops(spec))
    table = np.zeros((len(ops), len(NAMES)))
    for row, op in zip(table, ops, strict=True):
        for index, amount in amounts(op):
            row[index] += amount
    table[:, ISSUE] = np.cumsum(table[:, ISSUE], axis=0)
    table[:, ~ISSUE] = np.cumsum(table[::-1, ~ISSUE], axis=0)[::-1]
    table[:, ONCE] = 1.0
    return table


def stack_designs(tables: Sequence[FloatArray]) -> FloatArray:
    """Design matrices of networks as one array, (networks, operations, prices).

    Shorter ones are padded by repeating their last row, which does not change the maximum.
    """
    longest = max(len(table) for table in tables)
    return np.stack([np.pad(table, ((0, longest - len(table)), (0, 0)), mode="edge") for table in tables])


def shares_ms(spec: ArchSpec, prices_ms: Sequence[float]) -> list[tuple[str, float]]:
    """(path, ms) per operation; they sum to the latency.

    An operation before the one that attains the maximum (the law's j) costs its issue, one after it its work: the other
    is hidden behind it. What is paid once per network is counted with the first operation. ``prices_ms``: ms per unit,
    in the order of ``NAMES``.
    """
    ops = list(network_ops(spec))
    parts = [span((op,), prices_ms) for op in ops]
    deciding = int(np.argmax(design_matrix(spec) @ np.asarray(prices_ms)))
    shares = [part.issue_ms for part in parts[:deciding]]
    shares += [parts[deciding].total_ms, *(part.work_ms for part in parts[deciding + 1 :])]
    shares[0] += prices_ms[ONCE]
    return [(op.path, share) for op, share in zip(ops, shares, strict=True)]


def _work(op: Op) -> list[tuple[str, float]]:
    """(price name, amount) of a layer's own work, without norm and activation."""
    moved = _mb(op.in_elements + op.out_elements)
    if op.kind in ("conv", "linear", "matmul"):
        kind = "pointwise" if op.kernel == 1 else "spatial"
        return [(f"{kind}.macs", op.macs * _MEGA), ("dense.mb", moved), ("weights.mb", _mb(op.weights))]
    if op.kind == "depthwise":
        taps = op.macs * _MEGA
        work = [(f"depthwise{max(3, min(op.kernel, _WIDEST))}.taps", taps), ("depthwise.mb", moved)]
        return [*work, ("depthwise_odd.taps", taps)] if op.out_channels % _BLOCKED else work
    if op.kind == "scale":  # reads and writes the map; the gate is negligible
        moved = 2 * _mb(op.out_elements)
    return [("move.mb", moved)]


def _mb(elements: float) -> float:
    return elements * BYTES_PER_ELEMENT * _MEGA
