"""ONNX files in int8, as static quantisation by ONNX Runtime writes them."""

from __future__ import annotations

from collections.abc import Iterable, Set
from pathlib import Path

from nas.core.files import write_bytes_atomically
from nas.exporters.formats import ImageBatch
from nas.exporters.graph import InferenceGraph
from nas.exporters.onnx.graph import onnx_model
from nas.exporters.onnx.processing import with_processing
from nas.exporters.onnx.static_int8 import quantize_int8
from nas.exporters.rewriting.network import plain_path


def write_int8(
    graph: InferenceGraph, path: Path, batches: Iterable[ImageBatch], keep_float: Set[str] = frozenset()
) -> tuple[Path, ...]:
    """Write ``graph`` to ``path`` in int8 with Q/DQ nodes; returns ``(path,)``.

    ``batches``: normalised images, float32 (N, C, H, W) with the N of the graph. ``keep_float``: paths of operations
    that stay float32, each with its activation.
    """
    model = onnx_model(graph)
    nodes = [node.name for node in model.graph.node]
    paths = {op.path for op in graph.ops}
    float_nodes = [name for name in nodes if plain_path(name, paths) in keep_float]
    quantised = quantize_int8(model, batches, float_nodes)
    if graph.processing is not None:
        quantised = with_processing(quantised, graph, graph.processing)
    write_bytes_atomically(path, quantised.SerializeToString())
    return (path,)
