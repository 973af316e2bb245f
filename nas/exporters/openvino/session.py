"""OpenVINO files (IR), and compiled models that run them on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas.core.errors import NasError
from nas.exporters.formats import ImageBatch, Outputs, Run, as_outputs
from nas.exporters.graph import InferenceGraph
from nas.exporters.model_files import check_pair
from nas.exporters.openvino.model import openvino_model, write_openvino


def write_model(graph: InferenceGraph, path: Path) -> tuple[Path, ...]:
    """Write ``graph`` as OpenVINO IR.

    The description to ``path`` (.xml), weights beside it (.bin); returns both.
    """
    return write_openvino(openvino_model(graph), path)


def open_model(path: Path, threads: int = 1) -> Run:
    """Open an OpenVINO file, float32 or int8, with its weights beside it.

    Raises: NasError if it cannot be read.
    """
    from openvino.frontend import FrontEndManager

    check_pair(path, "OpenVINO")
    try:
        # Named, because Core.read_model hands a file that is no IR to the readers of all other formats.
        reader = FrontEndManager().load_by_framework("ir")
        model = reader.convert(reader.load(str(path)))
        if len(model.inputs) != 1 or not model.outputs:
            raise NasError(
                f"{path}: needs one input, and outputs; it has {len(model.inputs)} and {len(model.outputs)}."
            )
        return compiled(model, threads)
    except RuntimeError as error:
        raise NasError(f"{path}: OpenVINO cannot open it ({_reason(error)}).") from None


def open_graph(graph: InferenceGraph, threads: int = 1) -> Run:
    """Open ``graph`` in OpenVINO, in memory."""
    return compiled(openvino_model(graph), threads)


def compiled(model: Any, threads: int) -> Run:
    """Function that runs an ``openvino.Model`` on the CPU.

    It computes in float32 where the model is not quantised. With one thread it works on the calling thread.

    Raises: NasError if OpenVINO cannot compile it.
    """
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # pinned threads of several processes would share one core
        "INFERENCE_PRECISION_HINT": "f32",  # otherwise bfloat16 where the CPU has it
    }
    try:
        request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise NasError(f"OpenVINO cannot compile the network ({_reason(error)}).") from None

    def run(images: ImageBatch) -> Outputs:
        found = request.infer([images], share_inputs=True, share_outputs=True)
        # A shared output is valid only until the next run.
        return as_outputs(np.array(found[index]) for index in range(len(found)))

    return run


def _reason(error: RuntimeError) -> str:
    """Last line of an error of OpenVINO: those before it are places in its source."""
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    return lines[-1].rstrip(".!") if lines else type(error).__name__
