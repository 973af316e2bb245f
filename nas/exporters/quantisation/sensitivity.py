"""How much each part of a network loses by int8: the error of the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nas.exporters.check import run_in_batches
from nas.exporters.formats import Format, ImageBatch, Outputs, Run, outputs_of
from nas.exporters.graph import InferenceGraph
from nas.exporters.quantisation.units import QuantisationUnit

OpenInt8 = Callable[[Set[str]], Run]  # a network in int8 but for the operations at these paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Error of the logits when ``unit`` alone is int8.

    ``error``: root mean square of the differences to float32, relative to the standard deviation of float32's logits;
    of several outputs the root of the mean of its squares.
    """

    unit: QuantisationUnit
    error: float


class Int8Opener:
    """Opens a network in int8, with any of its operations in float32.

    ``images``: of the calibration, float32 (N, C, H, W). Each call writes a file, which is removed once it is open.
    """

    def __init__(self, graph: InferenceGraph, file_format: Format, images: ImageBatch, threads: int = 1) -> None:
        self._graph, self._format, self._images, self._threads = graph, file_format, images, threads

    def __call__(self, keep_float: Set[str]) -> Run:
        with TemporaryDirectory(prefix="nas-int8-") as folder:
            path = Path(folder) / f"model{self._format.suffix}"
            first, *_ = self.write(path, keep_float)
            return self._format.module().open_model(first, self._threads)

    def write(self, path: Path, keep_float: Set[str]) -> tuple[Path, ...]:
        """Write the network to ``path``; returns all files."""
        return self._format.int8_module().write_int8(
            self._graph, path, full_batches(self._images, self._graph.batch), keep_float
        )


def sensitivities(
    graph: InferenceGraph,
    units: Sequence[QuantisationUnit],
    open_int8: OpenInt8,
    images: ImageBatch,
    float_logits: Outputs,
    on_unit: Callable[[], object] = lambda: None,
) -> list[Sensitivity]:
    """Quantise each of ``units`` alone, and compare the logits; the worst first.

    ``images``: float32 (N, C, H, W), ``float_logits``: the outputs of float32 on them. ``on_unit`` is called after
    each.
    """
    everything = frozenset(op.path for op in graph.ops)
    found = []
    for unit in units:
        logits = run_in_batches(open_int8(everything - unit.ops), images, graph.batch)
        found.append(Sensitivity(unit=unit, error=_error(logits, float_logits)))
        on_unit()
    return sorted(found, key=lambda one: -one.error)


def _error(outputs: Outputs, float_outputs: Outputs) -> float:
    squares = [
        float(np.mean(np.square(found - expected))) / (float(expected.std()) or 1.0) ** 2
        for found, expected in zip(outputs_of(outputs), outputs_of(float_outputs), strict=True)
    ]
    return float(np.sqrt(np.mean(squares)))


def full_batches(images: ImageBatch, batch: int) -> list[ImageBatch]:
    """``images`` in batches of ``batch``; the last one is filled from the beginning."""
    missing = -len(images) % batch
    whole = np.concatenate([images, np.resize(images, (missing, *images.shape[1:]))]) if missing else images
    return np.split(whole, len(whole) // batch)
