"""Base class of predictors that sum latencies over operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

from nas.arch.ops.network import Op, PartSegments, Segment, network_ops, network_segments
from nas.arch.spec import ArchSpec, Padding
from nas.core.bounded_cache import BoundedCache
from nas.exporters.rewriting.block import InferencePart
from nas.exporters.rewriting.candidates import Candidate, candidates
from nas.exporters.rewriting.forms import Forms
from nas.exporters.rewriting.network import plain_path, rewritten_ops
from nas.exporters.rewriting.segments import RewrittenSegment
from nas.latency.predictors.base import LatencyEstimate

_CACHED: Final = 65536


class SumPredictor(ABC):
    """Predictor whose latency is a sum over operations.

    Sums over segments and over parts of networks are cached. ``lane``: channels of one vector of the device, with which
    every block is priced in its fastest form; None for plain blocks.
    """

    def __init__(self, *, low: float, high: float, lane: int | None = None) -> None:
        self._low, self._high, self._lane = low, high, lane
        self._fastest: BoundedCache[tuple[PartSegments, Padding], Candidate] = BoundedCache(_CACHED)
        self._segment_ms: BoundedCache[Segment | RewrittenSegment, float] = BoundedCache(_CACHED)
        self._part_ms: BoundedCache[InferencePart, float] = BoundedCache(_CACHED)

    @abstractmethod
    def op_ms(self, op: Op) -> float:
        """Latency of one operation in ms."""

    def network_ms(self, spec: ArchSpec) -> float:
        """What the network as a whole costs beside its operations, in ms."""
        return 0.0

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        latency_ms = self.network_ms(spec)
        for part in self._parts(spec, resolution_px):
            cost_ms = self._part_ms.get(part)
            latency_ms += self._sum_part(part) if cost_ms is None else cost_ms
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms * self._low, high_ms=latency_ms * self._high)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order."""
        return [self.predict(spec) for spec in specs]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) per operation in execution order; they sum to the prediction.

        Operations of a rewritten block count to those that they replace. What the network as a whole costs is shared by
        parameters.
        """
        layers, forms = {op.path: 0.0 for op in network_ops(spec)}, self.forms(spec)
        for op in network_ops(spec) if forms is None else rewritten_ops(spec, forms)[0]:
            layers[plain_path(op.path, layers)] += self.op_ms(op)
        if shared_ms := self.network_ms(spec):
            total = sum(op.params for op in network_ops(spec))
            for op in network_ops(spec):
                layers[op.path] += shared_ms * op.params / total
        return list(layers.items())

    @property
    def rewrites(self) -> bool:
        """Whether every block is priced in its fastest form, instead of the plain one."""
        return self._lane is not None

    def forms(self, spec: ArchSpec, resolution_px: int | None = None) -> Forms | None:
        """Forms of the blocks of ``spec`` that are priced; None for plain ones."""
        if self._lane is None:
            return None
        blocks = network_segments(spec, resolution_px)[1:-1]
        return tuple(self._fastest_form(part, spec.padding, self._lane).form for part in blocks)

    def _parts(self, spec: ArchSpec, resolution_px: int | None) -> Sequence[InferencePart]:
        """Stem, blocks and head as they are priced."""
        parts = network_segments(spec, resolution_px)
        if self._lane is None:
            return parts
        return [self._fastest_form(part, spec.padding, self._lane).part for part in parts]

    def _fastest_form(self, part: PartSegments, padding: Padding, lane: int) -> Candidate:
        key = (part, padding)
        found = self._fastest.get(key)
        if found is None:
            forms = candidates(part, padding, lane, linear_gates=True)
            found = self._fastest.keep(key, min(forms, key=lambda candidate: self._sum_part(candidate.part)))
        return found

    def _sum_part(self, part: InferencePart) -> float:
        """Latency of a part of a network in ms, which is cached."""
        cost_ms = self.op_ms(part.addition) if part.addition else 0.0
        for segment in part.segments:
            segment_ms = self._segment_ms.get(segment)
            if segment_ms is None:
                segment_ms = self._segment_ms.keep(segment, sum([self.op_ms(op) for op in segment.ops]))
            cost_ms += segment_ms
        return self._part_ms.keep(part, cost_ms)
