"""ONNX files, and ONNX Runtime sessions that run them on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas.core.files import write_bytes_atomically
from nas.exporters.formats import ImageBatch, Outputs, Run, as_outputs
from nas.exporters.graph import InferenceGraph
from nas.exporters.model_files import read_model, unopened
from nas.exporters.onnx.processing import processed_model


def write_model(graph: InferenceGraph, path: Path) -> tuple[Path, ...]:
    """Write ``graph`` to ``path`` as ONNX, weights included; returns ``(path,)``."""
    write_bytes_atomically(path, processed_model(graph).SerializeToString())
    return (path,)


def open_model(path: Path, threads: int = 1) -> Run:
    """Open an ONNX file in ONNX Runtime. Raises: NasError if it cannot be read."""
    content = read_model(path)
    try:
        return _run(onnx_session(content, threads))
    except Exception as error:  # the runtime has classes of its own
        raise unopened(path, "ONNX Runtime", error) from None


def open_graph(graph: InferenceGraph, threads: int = 1) -> Run:
    """Open ``graph`` in ONNX Runtime, in memory."""
    return _run(onnx_session(processed_model(graph).SerializeToString(), threads))


def onnx_session(model: bytes, threads: int, profile_prefix: str | None = None) -> Any:
    """Session of ONNX Runtime on the CPU, for the serialised ``model``.

    With one thread it has no thread pool and works on the calling thread. ``profile_prefix``: path prefix of the
    profile's file; None for no profiling.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if profile_prefix is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: Any) -> Run:
    (source,) = session.get_inputs()

    def run(images: ImageBatch) -> Outputs:
        return as_outputs(map(np.asarray, session.run(None, {source.name: images})))

    return run
