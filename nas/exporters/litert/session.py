"""LiteRT models, and interpreters that run them on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.core.streams import silenced_standard_error
from nas.exporters.formats import ImageBatch, Logits, Outputs, Run, as_outputs
from nas.exporters.graph import InferenceGraph
from nas.exporters.litert.graph import litert_model
from nas.exporters.model_files import read_model, unopened

_MAP_DIMENSIONS: Final = 4  # of a map, whose channels are last in LiteRT


def write_model(graph: InferenceGraph, path: Path) -> tuple[Path, ...]:
    """Write ``graph`` as a LiteRT model, weights included; returns ``(path,)``."""
    write_bytes_atomically(path, litert_model(graph))
    return (path,)


def open_model(path: Path, threads: int = 1) -> Run:
    """Open a LiteRT model. Raises: NasError if it cannot be read."""
    model = read_model(path)
    if not model:
        raise NasError(f"{path}: the file is empty; write it again.")
    return interpreter_run(litert_interpreter(model, threads, str(path)))


def open_graph(graph: InferenceGraph, threads: int = 1) -> Run:
    """Open ``graph`` in LiteRT, in memory."""
    return interpreter_run(litert_interpreter(litert_model(graph), threads))


def litert_interpreter(model: bytes, threads: int, what: str = "format litert") -> Any:
    """Interpreter of LiteRT with XNNPACK for the serialised ``model``.

    It is ready to be invoked. With one thread it works on the calling thread. ``what``: its name, for errors.

    Raises: NasError if it cannot be opened.
    """
    from ai_edge_litert.interpreter import Interpreter

    with silenced_standard_error():  # there it says that it has a delegate; its errors are exceptions
        try:
            interpreter = Interpreter(model_content=model, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise unopened(what, "LiteRT", error) from None
    return interpreter


def interpreter_run(interpreter: Any) -> Run:
    source = interpreter.get_input_details()[0]["index"]
    targets = [detail["index"] for detail in interpreter.get_output_details()]

    def tensor(index: int) -> Logits:
        found = np.asarray(interpreter.get_tensor(index))
        return found.transpose(0, 3, 1, 2) if found.ndim == _MAP_DIMENSIONS else found

    def run(images: ImageBatch) -> Outputs:
        interpreter.set_tensor(source, images.transpose(0, 2, 3, 1))
        interpreter.invoke()
        return as_outputs(map(tensor, targets))

    return run
