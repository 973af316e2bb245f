"""Time stem, blocks and head one by one on this machine: the classic way to a latency table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.core.validation import check_number
from nas.latency.device import describe
from nas.latency.measure.backends import ImageBatch, Runner, onnx_session
from nas.latency.measure.timer import Measurement, at_common_speed, measure_runners
from nas.latency.predictors.block_pieces import Ops, Piece, pieces
from nas.latency.predictors.block_table import BlockTable

Graph = tuple[bytes, Mapping[str, ImageBatch]]

_BACKEND: Final = "onnxruntime"  # its graphs can be cut
_CHUNK: Final = 50  # pieces in memory at a time


def table_of(
    specs: Sequence[ArchSpec],
    *,
    threads: int = 1,
    batch: int = 1,
    rounds: int = 10,
    runs: int = 4,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> BlockTable:
    """A table of all pieces of ``specs``, each timed alone in ONNX Runtime (float32) on this machine.

    A piece is cut out of its network's graph and fed with normal noise, so that nothing before or after it is timed;
    what a call costs with next to nothing to do is subtracted from all but the stem. What a sum of such entries
    misses is what follows from context: the memory layout that the runtime carries from block to block, and caches.

    ``progress`` is told pieces done and all. Raises: NasError as ``measure_many``.
    """
    for name, value in (("rounds", rounds), ("runs", runs), ("threads", threads), ("batch", batch)):
        check_number(name, value, low=1, whole=True)
    device = describe(_BACKEND, threads, batch)
    found = _distinct(specs)
    idle: list[Measurement] = []
    measured: list[Measurement] = []
    for start in range(0, len(found), _CHUNK):
        if progress:
            progress(start, len(found))
        graphs = [_idle(), *cut_out(found[start : start + _CHUNK], batch, seed)]
        runners = [_run(onnx_session(graph, threads), feed) for graph, feed in graphs]
        first, *others = measure_runners(runners, device, rounds=rounds, runs=runs)
        idle.append(first)
        measured += others
    if progress:
        progress(len(found), len(found))
    idle_ms = float(np.median([one.latency_ms for one in idle]))
    entries = {
        piece: max(one.latency_ms - (idle_ms if place else 0.0), idle_ms / 10)
        for (piece, _, place), one in zip(found, at_common_speed(measured), strict=True)
    }
    return BlockTable(device=device, entries=entries)


def _distinct(specs: Sequence[ArchSpec]) -> list[tuple[Piece, ArchSpec, int]]:
    """Each piece once, with the first network that has it and its place there."""
    found: dict[Ops, tuple[Piece, ArchSpec, int]] = {}
    for spec in specs:
        for place, (_, piece) in enumerate(pieces(spec)):
            found.setdefault(piece.ops, (piece, spec, place))
    return list(found.values())


def cut_out(chunk: Sequence[tuple[Piece, ArchSpec, int]], batch: int, seed: int) -> Iterator[Graph]:
    """The ONNX graph of each piece, which stands at a place of a network, and noise to feed it with."""
    from onnx import shape_inference
    from onnx.utils import Extractor

    from nas.export.onnx.graph import INPUT, to_onnx

    known: ArchSpec | None = None
    for piece, spec, place in chunk:
        if spec is not known:
            known, extractor = spec, Extractor(shape_inference.infer_shapes(to_onnx(spec, batch=batch, seed=seed)))
            outputs = [f"{path}.{one.ops[-1].path}" if path else one.ops[-1].path for path, one in pieces(spec)]
        source = outputs[place - 1] if place else INPUT
        graph = extractor.extract_model([source], [outputs[place]])
        shape = (batch, piece.in_channels, piece.input_px, piece.input_px)
        feed = {source: np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)}
        yield graph.SerializeToString(), feed


def _idle() -> Graph:
    """A graph that does next to nothing."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["output"])], "idle", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), {"input": np.ones(1, dtype=np.float32)}


def _run(made: Any, feed: Mapping[str, ImageBatch]) -> Runner:
    return lambda: made.run(None, feed)
