"""Base class of predictors that sum latencies over operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Final

from nas.arch.ops.network import Op, PartSegments, Segment, network_ops, network_segments
from nas.arch.spec import ArchSpec
from nas.core.bounded_cache import BoundedCache
from nas.latency.predictors.base import LatencyEstimate

_CACHED: Final = 65536


class SumPredictor(ABC):
    """Predictor whose latency is a sum over operations.

    Sums over segments and over parts of networks are cached.
    """

    def __init__(self, *, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._segment_ms: BoundedCache[Segment, float] = BoundedCache(_CACHED)
        self._part_ms: BoundedCache[PartSegments, float] = BoundedCache(_CACHED)

    @abstractmethod
    def op_ms(self, op: Op) -> float:
        """Latency of one operation in ms."""

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        latency_ms = 0.0
        for part in network_segments(spec, resolution_px):
            cost_ms = self._part_ms.get(part)
            latency_ms += self._sum_part(part) if cost_ms is None else cost_ms
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms * self._low, high_ms=latency_ms * self._high)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order."""
        return [self.predict(spec) for spec in specs]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) per operation in execution order; they sum to the prediction."""
        return [(op.path, self.op_ms(op)) for op in network_ops(spec)]

    def _sum_part(self, part: PartSegments) -> float:
        """Latency of a part of a network in ms, which is cached."""
        cost_ms = self.op_ms(part.addition) if part.addition else 0.0
        for segment in part.segments:
            segment_ms = self._segment_ms.get(segment)
            if segment_ms is None:
                segment_ms = self._segment_ms.keep(segment, sum([self.op_ms(op) for op in segment.ops]))
            cost_ms += segment_ms
        return self._part_ms.keep(part, cost_ms)
