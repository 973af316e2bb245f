"""Static int8 quantisation for LiteRT by AI Edge Quantizer."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from nas.core.errors import NasError, quoted
from nas.core.files import write_bytes_atomically
from nas.core.streams import silenced_standard_error
from nas.exporters.formats import ImageBatch, Run, is_installed
from nas.exporters.graph import InferenceGraph
from nas.exporters.litert.graph import INPUT_TENSOR, LiteRtGraph, litert_model
from nas.exporters.litert.session import interpreter_run, litert_interpreter
from nas.exporters.litert.task_metadata import with_labels

_LEAST_RANGE: Final = 1e-6


def write_int8(
    graph: InferenceGraph, path: Path, batches: Iterable[ImageBatch], keep_float: Set[str] = frozenset()
) -> tuple[Path, ...]:
    """Write ``graph`` quantised to int8 as a LiteRT model; see ``int8_model``.

    Returns ``(path,)``.
    """
    write_bytes_atomically(path, int8_model(graph, batches, keep_float))
    return (path,)


def open_int8(graph: InferenceGraph, batches: Iterable[ImageBatch], threads: int = 1) -> Run:
    """Open ``graph`` quantised to int8 in LiteRT, in memory, to measure it."""
    return interpreter_run(litert_interpreter(int8_model(graph, batches), threads))


def int8_model(graph: InferenceGraph, batches: Iterable[ImageBatch], keep_float: Set[str] = frozenset()) -> bytes:
    """LiteRT model of ``graph``, quantised to int8 and calibrated on ``batches``.

    ``batches``: float32 arrays (N, C, H, W) of the graph's input shape, normalised. ``keep_float``: paths of the
    operations that stay float32. Images and logits are float32. Weights are symmetric with one scale per output
    channel; activations have one asymmetric range per tensor.

    Hard swish, GELU, mish and attention stay float32: XNNPACK 2.3 does not take them in int8, and outside of it int8 is
    slower than float32 (1.36 times for mobilenetv3_large_100, which so takes 0.53).

    Raises: NasError if the quantiser is not installed, there is no batch, or an operation is unknown.
    """
    samples = [batch.transpose(0, 2, 3, 1) for batch in batches]
    if not samples:
        raise NasError("int8: needs at least one batch of images to calibrate on; there is none.")
    written = LiteRtGraph(graph)
    unknown = set(keep_float) - set(written.tensors)
    if unknown:
        raise NasError(f"keep_float {quoted(min(unknown))}: is no operation of the network.")
    if not is_installed("ai_edge_quantizer"):
        raise NasError("int8 for litert: the package ai_edge_quantizer is not installed; pip install 'nas[litert]'.")
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

    operators, none = qtyping.TFLOperationName, algorithm_manager.AlgorithmName.NO_QUANTIZE
    kept = [*written.float_tensors, *(name for path in sorted(keep_float) for name in written.tensors[path])]
    if set(written.computed) <= set(kept):  # which the quantiser refuses
        return litert_model(graph)
    float32 = written.serialise()
    worker = quantizer.Quantizer(bytearray(float32))
    worker.add_static_config(".*", operators.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    for operator in (operators.INPUT, operators.OUTPUT):
        worker.update_quantization_recipe(".*", operator, algorithm_key=none)
    if kept:  # operators are named by their outputs, each followed by a semicolon
        names = "|".join(re.escape(name) for name in kept)
        worker.update_quantization_recipe(rf"^(?:{names});", operators.ALL_SUPPORTED, algorithm_key=none)
    with _quietly():
        ranges = _ranges(float32, [INPUT_TENSOR, *written.computed], samples)
        model = bytes(worker.quantize(ranges).quantized_model)
    return with_labels(model, written.labels) if written.labels else model


def _ranges(
    model: bytes, tensors: Sequence[str], batches: Sequence[ImageBatch]
) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
    """Least and largest value of each tensor, as the quantiser takes them.

    They are means over ``batches``, each (N, H, W, C).

    The quantiser's own calibration fails where XNNPACK does not keep a tensor, as that of a slice; without a delegate
    all are kept. A tensor without a range, as that of a ReLU that never passes anything, gets one of width 1: XNNPACK
    2.3 refuses such scales as its own would have, or corrupts the memory of the process.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    indices = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()}
    source = interpreter.get_input_details()[0]["index"]
    extremes = np.zeros((len(tensors), 2))
    for batch in batches:
        interpreter.set_tensor(source, batch)
        interpreter.invoke()
        values = (interpreter.get_tensor(indices[name]) for name in tensors)
        extremes += [(value.min(), value.max()) for value in values]
    ranges = {}
    for name, (low, high) in zip(tensors, extremes / len(batches), strict=True):
        shape = (1,) * interpreter.get_tensor(indices[name]).ndim
        high = high if high - low > _LEAST_RANGE else low + 1
        ranges[name] = {key: np.full(shape, value, dtype=np.float32) for key, value in (("min", low), ("max", high))}
    return ranges


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Context without the quantiser's progress bars, summaries and warnings on memory."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        silenced_standard_error(),
    ):
        warnings.simplefilter("ignore")
        yield
