"""Base class of predictors that sum latencies over operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache

from nas.arch.blocks import BlockSpec
from nas.arch.ops.network import Op, block_ops, head_ops, network_ops, stem_op
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import ArchSpec
from nas.latency.predictors.base import LatencyEstimate


class SumPredictor(ABC):
    """Predictor whose latency is a sum over operations; costs of blocks are cached."""

    def __init__(self, *, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._block = lru_cache(maxsize=65536)(self._price_block)

    @abstractmethod
    def op_ms(self, op: Op) -> float:
        """Latency of one operation in ms."""

    def predict(self, spec: ArchSpec, resolution_px: int | None = None) -> LatencyEstimate:
        """Latency of ``spec`` at ``resolution_px`` (default: its own)."""
        stem = stem_op(spec, resolution_px or spec.resolution_px)
        latency_ms, px, channels = self.op_ms(stem), stem.out_px, spec.stem.channels
        for stage in spec.stages:
            for block in stage.blocks:
                for repeat in range(block.repeats):
                    stride = block.stride if repeat == 0 else 1
                    cost_ms, px = self._block(block, stride, channels, px, spec.activation, spec.squeeze_excite)
                    latency_ms, channels = latency_ms + cost_ms, block.channels
        latency_ms += sum(self.op_ms(op) for op in head_ops(spec, px))
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms * self._low, high_ms=latency_ms * self._high)

    def predict_many(self, specs: Iterable[ArchSpec]) -> list[LatencyEstimate]:
        """Latencies at each spec's own resolution, in order."""
        return [self.predict(spec) for spec in specs]

    def layer_ms(self, spec: ArchSpec) -> list[tuple[str, float]]:
        """(path, ms) per operation in execution order; they sum to the prediction."""
        return [(op.path, self.op_ms(op)) for op in network_ops(spec)]

    def _price_block(
        self, block: BlockSpec, stride: int, in_channels: int, px: int, activation: str, se: SqueezeExcite
    ) -> tuple[float, int]:
        """Latency of one block in ms, and the side of its output in px."""
        ops = block_ops(block, stride, in_channels, px, activation, se)
        return sum(self.op_ms(op) for op in ops), ops[-1].out_px
