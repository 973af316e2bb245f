"""Block-wise timing on this machine: stem, blocks and head, one by one.

This is the classic way to build a latency table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.core.validation import check_number
from nas.exporters.onnx.session import onnx_session
from nas.latency.host import describe
from nas.latency.measure.backends import ImageBatch, Runner
from nas.latency.measure.timer import Measurement, at_common_speed, measure_runners
from nas.latency.predictors.block_pieces import Ops, Piece, pieces
from nas.latency.predictors.block_table import BlockTable

Graph = tuple[bytes, Mapping[str, ImageBatch]]

_BACKEND: Final = "onnxruntime"  # parts of its graphs can be extracted
_CHUNK: Final = 50  # pieces in memory at a time


def table_of(
    specs: Sequence[ArchSpec],
    *,
    threads: int = 1,
    batch: int = 1,
    rounds: int = 10,
    runs: int = 2,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> BlockTable:
    """Measure a latency table of all pieces of ``specs`` on this machine.

    Each piece is timed alone in ONNX Runtime (float32): it is extracted from its network's graph and fed with normal
    noise, so that nothing before or after it is timed. The overhead of a call that does next to nothing is subtracted
    from all pieces but the stem. A sum of such entries misses what depends on context: the memory layout that the
    runtime carries from block to block, and caches.

    ``progress(done, total)``: called with counts of pieces. Raises: NasError as ``measure_many``.
    """
    for name, value in (("rounds", rounds), ("runs", runs), ("threads", threads), ("batch", batch)):
        check_number(name, value, low=1, whole=True)
    device = describe(_BACKEND, threads, batch)
    distinct = _distinct(specs)
    idle: list[Measurement] = []
    measured: list[Measurement] = []
    for start in range(0, len(distinct), _CHUNK):
        if progress:
            progress(start, len(distinct))
        graphs = [_idle(), *extract_graphs(distinct[start : start + _CHUNK], batch, seed)]
        runners = [_session_runner(onnx_session(graph, threads), feed) for graph, feed in graphs]
        first, *others = measure_runners(runners, device, rounds=rounds, runs=runs)
        idle.append(first)
        measured += others
    if progress:
        progress(len(distinct), len(distinct))
    common = at_common_speed([*idle, *measured])
    idle_ms = float(np.median([measurement.latency_ms for measurement in common[: len(idle)]]))
    entries = {
        piece: max(measurement.latency_ms - (idle_ms if index else 0.0), idle_ms / 10)
        for (piece, _, index), measurement in zip(distinct, common[len(idle) :], strict=True)
    }
    return BlockTable(device=device, entries=entries)


def _distinct(specs: Sequence[ArchSpec]) -> list[tuple[Piece, ArchSpec, int]]:
    """Distinct pieces, each with the first network that has it and its index there."""
    distinct: dict[Ops, tuple[Piece, ArchSpec, int]] = {}
    for spec in specs:
        for index, (_, piece) in enumerate(pieces(spec)):
            distinct.setdefault(piece.ops, (piece, spec, index))
    return list(distinct.values())


def extract_graphs(chunk: Sequence[tuple[Piece, ArchSpec, int]], batch: int, seed: int) -> Iterator[Graph]:
    """ONNX graph of each piece of ``chunk``, and noise to feed it with.

    ``chunk``: pieces, each with a network and its index among the pieces of that. The noise is float32 of shape
    (N, C, H, W), with N = ``batch`` and C, H and W those of the piece's input.
    """
    from onnx import shape_inference
    from onnx.utils import Extractor

    from nas.exporters.onnx.graph import INPUT, to_onnx

    loaded: ArchSpec | None = None
    for piece, spec, index in chunk:
        if spec is not loaded:
            loaded, extractor = spec, Extractor(shape_inference.infer_shapes(to_onnx(spec, batch=batch, seed=seed)))
            last_ops = [(path, part.ops[-1].path) for path, part in pieces(spec)]
            outputs = [f"{path}.{op}" if path else op for path, op in last_ops]
        source = outputs[index - 1] if index else INPUT
        graph = extractor.extract_model([source], [outputs[index]])
        shape = (batch, piece.in_channels, piece.input_px, piece.input_px)
        feed = {source: np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)}
        yield graph.SerializeToString(), feed


def _idle() -> Graph:
    """ONNX graph of one Relu on an array of shape (1,), for the overhead of a call."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["output"])], "idle", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), {"input": np.ones(1, dtype=np.float32)}


def _session_runner(session: Any, feed: Mapping[str, ImageBatch]) -> Runner:
    return lambda: session.run(None, feed)
