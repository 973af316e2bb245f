"""Mixed precision: int8, and float32 where int8 costs accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.exporters.check import run_in_batches
from nas.exporters.formats import Format, ImageBatch
from nas.exporters.graph import InferenceGraph
from nas.exporters.quantisation.comparison import LabelledImages, PairedScore, ScoredImages, comparison_of
from nas.exporters.quantisation.sensitivity import Int8Opener, Sensitivity, sensitivities
from nas.exporters.quantisation.units import QuantisationUnit, block_units, layer_units

_MOST_LAYERS: Final = 40  # of blocks that stay float32, up to which each layer is tried by itself
_SENSITIVITY_IMAGES: Final = 16  # of the calibration, by whose logits parts are compared


class NoMixedInt8Error(NasError):
    """No part of a network can be int8 within a tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedInt8:
    """A network in int8 whose accuracy is within a tolerance of float32's.

    Accuracy is the score of its task: top-1, AP or mIoU.

    ``files``: that were written. ``float_layers``: names of the layers that stay float32, ``float_ops``: paths of their
    operations. ``int8``: accuracy with everything in int8, ``mixed``: of the files; both on the images by which layers
    were chosen, which must not be those that report the accuracy. ``blocks``: sensitivity of each block, the worst
    first; empty where int8 alone is within ``tolerance``.
    """

    files: tuple[Path, ...]
    float_layers: tuple[str, ...]
    float_ops: frozenset[str]
    int8: PairedScore
    mixed: PairedScore
    blocks: tuple[Sensitivity, ...]
    tolerance: float


def write_mixed_int8(
    graph: InferenceGraph,
    file_format: Format,
    path: Path,
    *,
    calibration: ImageBatch,
    selection: LabelledImages | ScoredImages,
    tolerance: float = 0.01,
    threads: int = 1,
    on_progress: ProgressCallback | None = None,
) -> MixedInt8:
    """Write ``graph`` to ``path`` in int8, with as few layers in float32 as it needs.

    Where the loss of accuracy on ``selection`` is at most ``tolerance``, everything is int8. Otherwise each block is
    quantised alone; the blocks with the largest error of the logits stay float32, as many as it takes; and of these,
    layer by layer (of up to 40), what can be int8 after all. Each loss is determined on 500 of the images first, and on
    twice as many until it is significantly below or above the tolerance (one-sided, 95%); where all of them leave it
    open, the estimate decides. ``calibration``: images (N, C, H, W), float32. Both are normalised, and none of them may
    be among the images that report the accuracy. The file alone has the processing of ``graph``.

    Raises: NoMixedInt8Error where no block can be int8.
    """
    search = _Search(
        replace(graph, processing=None), file_format, calibration, selection, tolerance, threads, on_progress
    )
    int8 = search.accuracy(frozenset())
    kept: list[QuantisationUnit] = []
    mixed = int8
    if int8.loss > tolerance:
        kept, mixed = search.fewest(int8.metric_name)
    float_ops = _joined(kept)
    files = Int8Opener(graph, file_format, calibration, threads).write(path, float_ops)
    return MixedInt8(
        files=files,
        float_layers=tuple(unit.name for unit in layer_units(graph, float_ops)),
        float_ops=float_ops,
        int8=int8,
        mixed=mixed,
        blocks=tuple(search.blocks),
        tolerance=tolerance,
    )


class _Search:
    """Search for the fewest parts of a network that have to stay float32."""

    def __init__(
        self,
        graph: InferenceGraph,
        file_format: Format,
        calibration: ImageBatch,
        selection: LabelledImages | ScoredImages,
        tolerance: float,
        threads: int,
        on_progress: ProgressCallback | None,
    ) -> None:
        self._graph, self._tolerance = graph, tolerance
        self.open_int8 = Int8Opener(graph, file_format, calibration, threads)
        run = file_format.module().open_graph(graph, threads)
        self._comparison = comparison_of(run, selection, graph.batch)
        self._sample = calibration[:_SENSITIVITY_IMAGES]
        self._open_sample = Int8Opener(graph, file_format, self._sample, threads)
        self._logits = run_in_batches(run, self._sample, graph.batch)
        self.blocks: list[Sensitivity] = []
        self._on_progress, self._done = on_progress, 0

    def accuracy(self, float_ops: frozenset[str]) -> PairedScore:
        """Accuracy with ``float_ops`` in float32, on the selection images."""
        found = self._comparison.accuracy(self.open_int8(float_ops), self._tolerance)
        self._step()
        return found

    def fewest(self, metric_name: str) -> tuple[list[QuantisationUnit], PairedScore]:
        """Units that stay float32, and the accuracy with them, called ``metric_name``."""
        self.blocks = self._sorted(block_units(self._graph))
        kept, accuracy = self._shortest([one.unit for one in self.blocks])
        if accuracy is None:
            raise NoMixedInt8Error(
                f"tolerance {self._tolerance:g}: {self._graph.spec.name} loses more {metric_name} in int8, whichever "
                "blocks stay float32; ship float32, or raise the tolerance."
            )
        layers = layer_units(self._graph, _joined(kept))
        if len(layers) > _MOST_LAYERS:
            return kept, accuracy
        fewer, found = self._shortest([one.unit for one in self._sorted(layers)])
        return (fewer, found) if found is not None else (kept, accuracy)

    def _sorted(self, units: Sequence[QuantisationUnit]) -> list[Sensitivity]:
        return sensitivities(self._graph, units, self._open_sample, self._sample, self._logits, self._step)

    def _shortest(self, ranked: Sequence[QuantisationUnit]) -> tuple[list[QuantisationUnit], PairedScore | None]:
        """Shortest beginning of ``ranked`` that, in float32, is within the tolerance.

        Its length is doubled until it is, then bisected. The whole of ``ranked`` is not tried; None if none is within.
        """
        low, high, found = 0, 1, None
        while low < len(ranked) - 1:
            high = min(high, len(ranked) - 1)
            found = self._within(ranked[:high])
            if found is not None:
                break
            low, high = high, 2 * high
        if found is None:
            return list(ranked), None
        while high - low > 1:
            middle = (low + high) // 2
            accuracy = self._within(ranked[:middle])
            low, high, found = (middle, high, found) if accuracy is None else (low, middle, accuracy)
        return list(ranked[:high]), found

    def _within(self, units: Sequence[QuantisationUnit]) -> PairedScore | None:
        """Accuracy with ``units`` in float32, or None beyond the tolerance."""
        accuracy = self.accuracy(_joined(units))
        return accuracy if accuracy.loss <= self._tolerance else None

    def _step(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            steps = len(block_units(self._graph)) + 2 * math.ceil(math.log2(len(self._graph.ops)))
            self._on_progress(self._done, max(steps, self._done))


def _joined(units: Sequence[QuantisationUnit]) -> frozenset[str]:
    return frozenset().union(*(unit.ops for unit in units))
