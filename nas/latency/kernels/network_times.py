"""Times of the kernels of networks: each kernel is evaluated once per context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from nas.arch.ops.network import PartSegments, network_segments
from nas.arch.spec import ArchSpec
from nas.core.bounded_cache import BoundedCache
from nas.latency.arrays import FloatArray
from nas.latency.kernels.kernel import Context, kernel_elements, network_context
from nas.latency.kernels.ort_lowering import Kernel, LoweredSegment, lowered_part
from nas.latency.kernels.time_table import Evaluate, TimeTable

_CACHED_TIMES: Final = 4_000_000  # of kernels in contexts, 32 MB
_CACHED_PARTS: Final = 65536  # some 40 MB; also most kernels

# Kernels of a segment: their numbers in the time table, as the bytes of 32-bit integers, which are joined faster than
# arrays, and the elements of activations and of weights that they move. Of a part of a network also whether its output
# is in the blocked layout. Plain tuples: Python's garbage collector looks at them once.
_Kernels = tuple[bytes, int, int]
_Part = tuple[bytes, int, int, bool]


class NetworkTimes:
    """Times of networks' kernels, looked up by parts that networks share.

    ``evaluate``: of new kernels. ``lane``: channels of one block of the blocked layout.
    """

    def __init__(self, evaluate: Evaluate, lane: int) -> None:
        self._evaluate, self._lane = evaluate, lane
        self._clear()

    def totals(self, networks: Sequence[tuple[ArchSpec, int | None]]) -> FloatArray:
        """Times of networks at a side in px (None: their own), shape (networks,).

        What the kernels of all of them lack is evaluated in one batch. A total does not depend on the others.
        """
        if self._table.size > _CACHED_TIMES or self._table.kernels > _CACHED_PARTS:
            self._clear()
        found = [self._network(spec, resolution_px) for spec, resolution_px in networks]
        ends = np.cumsum([network.kernels for network in found])
        return np.add.reduceat(self._times(found), [0, *ends[:-1].tolist()])

    def of_kernels(self, spec: ArchSpec) -> FloatArray:
        """Times of the kernels of ``spec`` in the order of ``network_calls``."""
        return self._times([self._network(spec, None)])

    def _clear(self) -> None:
        """Empty the caches, whose numbers of kernels belong together."""
        self._table = TimeTable(self._evaluate)
        self._known: dict[Kernel, tuple[int, int, int]] = {}
        self._segments: BoundedCache[LoweredSegment, _Kernels] = BoundedCache(_CACHED_PARTS)
        self._parts: BoundedCache[tuple[PartSegments, bool], _Part] = BoundedCache(_CACHED_PARTS)

    def _times(self, networks: Sequence[_Network]) -> FloatArray:
        """Times of all kernels of ``networks``, one network after the other."""
        numbers = np.frombuffer(b"".join([part for network in networks for part in network.parts]), dtype=np.int32)
        contexts = np.repeat(
            [self._table.context_number(network.context) for network in networks],
            [network.kernels for network in networks],
        )
        return self._table.times(numbers, contexts)

    def _network(self, spec: ArchSpec, resolution_px: int | None) -> _Network:
        """Kernels and context of ``spec``."""
        parts, activations, weights, blocked = [], 0, 0, False  # images are in the plain layout
        for segments in network_segments(spec, resolution_px):
            key = (segments, blocked)
            numbers, moved, held, blocked = self._parts.get(key) or self._part(key)
            parts.append(numbers)
            activations, weights = activations + moved, weights + held
        return _Network(parts, network_context(activations, weights))

    def _part(self, key: tuple[PartSegments, bool]) -> _Part:
        """Kernels of a part of a network, which are cached under ``key``.

        ``key``: its segments, and whether its input is in the blocked layout.
        """
        lowered, blocked = lowered_part(key[0], self._lane, key[1])
        parts, activations, weights = [], 0, 0
        for segment in lowered:
            numbers, moved, held = self._segments.get(segment) or self._segment(segment)
            parts.append(numbers)
            activations, weights = activations + moved, weights + held
        return self._parts.keep(key, (b"".join(parts), activations, weights, blocked))

    def _segment(self, segment: LoweredSegment) -> _Kernels:
        """Kernels of a segment, which are cached under it."""
        numbers, moved, held = zip(*[self._kernel(call.kernel) for call in segment.calls], strict=True)
        return self._segments.keep(segment, (np.array(numbers, dtype=np.int32).tobytes(), sum(moved), sum(held)))

    def _kernel(self, kernel: Kernel) -> tuple[int, int, int]:
        """Number of a kernel in the table, and elements that it moves, as in ``_Kernels``."""
        known = self._known.get(kernel)
        if known is None:
            _, moved, held = kernel_elements(kernel, self._lane)
            known = self._known[kernel] = (self._table.add_kernel(kernel), moved, held)
        return known


class _Network(NamedTuple):
    """Numbers of the kernels of a network's parts, and their context."""

    parts: list[bytes]
    context: Context

    @property
    def kernels(self) -> int:
        """Number of kernels."""
        return sum(map(len, self.parts)) // 4
