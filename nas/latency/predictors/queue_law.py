"""The law of a processor that is fed by a queue: what operations cost, and how costs of parts join into a network's.

A host issues kernels one after another; the processor works them off in order. Operation ``j`` cannot begin before it
is issued, nor before the work ahead of it is done, so that

    latency = once + max over j of (issue of operations 0..j  +  work of operations j..last)

On a GPU at batch 1 the host is the slower (latency counts kernels), at large batches the work; in between, as at batch
32, a network's beginning waits for work and its end for the host. A phone's CPU is the case of nearly free issues.
Issue and work are sums of amounts times prices (ms per unit), so that the law is a maximum of linear functions.
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


class Rough(NamedTuple):
    """What is known of a price before any measurement: ms per unit up to a common factor, and its spread (log)."""

    ms: float
    spread: float


# Units: 10^6 multiply-adds (macs, taps), 10^6 bytes moved (mb), 1 per kernel (issue, kernel), 1 per network (once).
# Norms and activations are priced as kernels of their own, as eager frameworks run them; where they are folded into
# their convolution, the fit moves these prices towards nothing.
PRICES: Final[dict[str, Rough]] = {
    "once": Rough(1.0, 2.0),
    "issue.layer": Rough(0.02, 0.5),
    "issue.norm": Rough(0.02, 0.7),
    "issue.activation": Rough(0.02, 0.7),
    "kernel.layer": Rough(0.002, 1.0),
    "kernel.pointwise": Rough(0.002, 1.0),  # of a norm or an activation
    "pointwise.macs": Rough(0.02, 0.7),
    "spatial.macs": Rough(0.02, 1.0),
    **{f"depthwise{kernel}.taps": Rough(0.04, 0.7) for kernel in (3, 5, 7, 9, 11)},
    "depthwise_odd.taps": Rough(
        0.1, 1.0
    ),  # channels off the blocked layout of CPUs: see nas.latency.predictors.op_features
    "dense.mb": Rough(0.03, 0.7),
    "depthwise.mb": Rough(0.04, 0.7),
    "move.mb": Rough(0.04, 0.7),
    "norm.mb": Rough(0.03, 1.0),
    **{f"{name}.mb": Rough(0.03, 1.0) for name in ("relu", "relu6", "hard_swish", "swish", "sigmoid", "hard_sigmoid")},
    "activation.mb": Rough(0.05, 1.0),  # any other
    "weights.mb": Rough(0.03, 1.0),
}
NAMES: Final = tuple(PRICES)
_INDEX: Final = {name: index for index, name in enumerate(NAMES)}
ONCE: Final = _INDEX["once"]
ISSUE: Final[npt.NDArray[np.bool_]] = np.array([name.startswith("issue.") for name in NAMES])
_ISSUES: Final = frozenset(np.flatnonzero(ISSUE).tolist())  # looked up faster than in the array
_WIDEST: Final = 11
_BLOCKED: Final = 4
_MEGA: Final = 1e-6


class Span(NamedTuple):
    """Times of some consecutive operations: of issuing them, of working on them, and of both in the queue.

    ``total_ms`` runs from the issue of the first to the end of the last, on a processor that was idle before.
    """

    issue_ms: float = 0.0
    work_ms: float = 0.0
    total_ms: float = 0.0

    def then(self, later: Span) -> Span:
        """The span of these operations followed by ``later``."""
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
    found = [("issue.layer", 1.0), ("kernel.layer", 1.0), *_work(op)]
    moved = 2 * _mb(op.out_elements)
    if op.norm:
        found += [("issue.norm", 1.0), ("kernel.pointwise", 1.0), ("norm.mb", moved)]
    if op.activation:
        name = f"{op.activation}.mb"
        price = name if name in _INDEX else "activation.mb"
        found += [("issue.activation", 1.0), ("kernel.pointwise", 1.0), (price, moved)]
    return tuple((_INDEX[name], amount) for name, amount in found)


def span(ops: Iterable[Op], prices_ms: Sequence[float]) -> Span:
    """Times of ``ops`` one after another at ``prices_ms`` [names]; what is paid once per network is not in them."""
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


def cuts(spec: ArchSpec) -> FloatArray:
    """Amounts [operations, names] of the law's linear functions: the latency is the largest entry of cuts @ prices.

    Row j: the issues of operations 0 to j and the work from j to the last.
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


def stacked(tables: Sequence[FloatArray]) -> FloatArray:
    """Tables of ``cuts`` as one array [networks, longest, names]; to repeat a last row changes nothing."""
    longest = max(len(table) for table in tables)
    return np.stack([np.pad(table, ((0, longest - len(table)), (0, 0)), mode="edge") for table in tables])


def shares_ms(spec: ArchSpec, prices_ms: Sequence[float]) -> list[tuple[str, float]]:
    """(path, ms) of every operation; they sum to the latency.

    An operation before the one that decides (the law's j) costs its issue, one after it its work: what the other
    does meanwhile is hidden. What is paid once is the first operation's.
    """
    ops = list(network_ops(spec))
    parts = [span((op,), prices_ms) for op in ops]
    deciding = int(np.argmax(cuts(spec) @ np.asarray(prices_ms)))
    shares = [part.issue_ms for part in parts[:deciding]]
    shares += [parts[deciding].total_ms, *(part.work_ms for part in parts[deciding + 1 :])]
    shares[0] += prices_ms[ONCE]
    return [(op.path, share) for op, share in zip(ops, shares, strict=True)]


def _work(op: Op) -> list[tuple[str, float]]:
    """What the processor does for the layer itself."""
    moved = _mb(op.in_elements + op.out_elements)
    if op.kind in ("conv", "linear", "matmul"):
        kind = "pointwise" if op.kernel == 1 else "spatial"
        return [(f"{kind}.macs", op.macs * _MEGA), ("dense.mb", moved), ("weights.mb", _mb(op.weights))]
    if op.kind == "depthwise":
        taps = op.macs * _MEGA
        found = [(f"depthwise{max(3, min(op.kernel, _WIDEST))}.taps", taps), ("depthwise.mb", moved)]
        return [*found, ("depthwise_odd.taps", taps)] if op.out_channels % _BLOCKED else found
    if op.kind == "scale":  # reads and writes the map; the gate is nothing beside it
        moved = 2 * _mb(op.out_elements)
    return [("move.mb", moved)]


def _mb(elements: float) -> float:
    return elements * BYTES_PER_ELEMENT * _MEGA
