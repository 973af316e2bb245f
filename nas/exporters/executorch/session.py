"""ExecuTorch programs (.pte) for XNNPACK, and its runtime on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.core.streams import silenced_standard_error
from nas.exporters.formats import ImageBatch, Outputs, Run, as_outputs
from nas.exporters.graph import InferenceGraph
from nas.exporters.model_files import read_model, unopened
from nas.exporters.torch_program import exported_program

_METHOD: Final = "forward"
_MAGIC: Final = b"ET12"  # identifier of the FlatBuffer, after its first offset


def write_model(graph: InferenceGraph, path: Path) -> tuple[Path, ...]:
    """Write ``graph`` as an ExecuTorch program; returns ``(path,)``.

    What XNNPACK runs is in its delegates: one for a whole network.
    """
    write_bytes_atomically(path, executorch_program(graph))
    return (path,)


def open_model(path: Path, threads: int = 1) -> Run:
    """Open an ExecuTorch program.

    It uses as many threads as ExecuTorch chooses, whatever ``threads`` says: its Python package has no setting for it.

    Raises: NasError if it cannot be read.
    """
    content = read_model(path)
    if content[4:8] != _MAGIC:
        raise NasError(f"{path}: is no ExecuTorch program.")
    return executorch_run(content, str(path))


def open_graph(graph: InferenceGraph, threads: int = 1) -> Run:
    """Open ``graph`` in ExecuTorch, in memory."""
    return executorch_run(executorch_program(graph), "format executorch")


def lowered(graph: InferenceGraph) -> Any:
    """``EdgeProgramManager`` of ``graph``, lowered to XNNPACK."""
    program = exported_program(graph)
    with _quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        return to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])


def executorch_program(graph: InferenceGraph) -> bytes:
    """Serialised ExecuTorch program of ``graph``."""
    return serialized(lowered(graph))


def serialized(edge: Any) -> bytes:
    """Serialised program of an ``EdgeProgramManager``."""
    with _quiet():
        return bytes(edge.to_executorch().buffer)


def executorch_run(content: bytes, what: str) -> Run:
    """Function that runs a serialised program; ``what``: its name, for errors.

    Raises: NasError if ExecuTorch cannot read it.
    """
    with _quiet():
        from executorch.runtime import Runtime

        try:
            program = Runtime.get().load_program(content)
            method = program.load_method(_METHOD)
        except RuntimeError as error:
            raise unopened(what, "ExecuTorch", error) from None
    read_in_place = (content, program)  # by the method, which does not keep them

    def run(images: ImageBatch) -> Outputs:
        assert read_in_place
        batch = torch.from_numpy(np.ascontiguousarray(images))  # strides are not looked at
        with torch.inference_mode():
            return as_outputs(tensor.numpy().copy() for tensor in method.execute([batch]))

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without ExecuTorch's warnings, and its remarks on the processor."""
    with silenced_standard_error(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
