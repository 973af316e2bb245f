"""Static int8 quantisation for OpenVINO by NNCF."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterable, Set
from functools import partial
from pathlib import Path
from typing import Any, Final

from nas.core.errors import NasError, quoted
from nas.exporters.formats import ImageBatch, Run, is_installed
from nas.exporters.graph import InferenceGraph
from nas.exporters.openvino.model import openvino_model, write_openvino
from nas.exporters.openvino.session import compiled

# Networks with these activations alone have symmetric ranges, as NNCF recommends.
_SYMMETRIC: Final = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", None)
# Nodes of an operation: what ``openvino_model`` appends to its path.
_NODES: Final = ("", ".linear", "/WithoutBiases", ".linear/WithoutBiases", ".heads")


def write_int8(
    graph: InferenceGraph, path: Path, batches: Iterable[ImageBatch], keep_float: Set[str] = frozenset()
) -> tuple[Path, ...]:
    """Write ``graph`` quantised to int8 as OpenVINO IR; see ``quantized_model``.

    The description to ``path`` (.xml), weights beside it (.bin); returns both.
    """
    return write_openvino(quantized_model(graph, batches, keep_float), path)


def open_int8(graph: InferenceGraph, batches: Iterable[ImageBatch], threads: int = 1) -> Run:
    """Open ``graph`` quantised to int8 in OpenVINO, in memory, to measure it.

    It is as fast as the file that ``write_int8`` writes; biases are not corrected, which takes half of the time.
    """
    return compiled(quantized_model(graph, batches, correct_bias=False), threads)


def quantized_model(
    graph: InferenceGraph,
    batches: Iterable[ImageBatch],
    keep_float: Set[str] = frozenset(),
    *,
    correct_bias: bool = True,
) -> Any:
    """``openvino.Model`` of ``graph``, quantised to int8.

    ``batches``: of the calibration, normalised images of the graph's input shape, float32 (N, C, H, W). ``keep_float``:
    paths of the operations that stay float32. Weights are symmetric with one scale per output channel, in 7 bits but
    for depthwise ones: with larger ones sums overflow on x86 processors without VNNI
    (``nas.exporters.onnx.quantize_int8``). Activations have one range per tensor, before depthwise convolutions one per
    channel where OpenVINO can compile that. Ranges are asymmetric in networks whose activation has negative values, as
    NNCF recommends. NNCF leaves squeeze-excites in float32.
    ``correct_bias``: correct biases by the mean error of the outputs, which doubles the time and no latency shows.

    Raises: NasError if NNCF is not installed, there is no batch, or an operation is unknown.
    """
    samples = list(batches)
    if not samples:
        raise NasError("int8: needs at least one batch of images to calibrate on; there is none.")
    unknown = set(keep_float) - {op.path for op in graph.ops}
    if unknown:
        raise NasError(f"keep_float {quoted(min(unknown))}: is no operation of the network.")
    quantize = partial(_quantize, graph, samples, keep_float, correct_bias=correct_bias)
    model = quantize(per_channel=True)
    # OpenVINO 2026.4 cannot compile some networks where a tensor with ranges per channel is split.
    if any(op.kind == "split" for op in graph.ops) and not _compiles(model):
        return quantize(per_channel=False)
    return model


def _quantize(
    graph: InferenceGraph,
    samples: list[ImageBatch],
    keep_float: Set[str],
    *,
    correct_bias: bool,
    per_channel: bool,
) -> Any:
    """``quantized_model`` with ranges of activations per tensor, or per channel.

    ``per_channel``: before depthwise convolutions.
    """
    nncf, model = _quiet_nncf(), openvino_model(graph, quantised=True)
    kept = {f"{path}{suffix}" for path in keep_float for suffix in _NODES}
    names = [name for node in model.get_ordered_ops() if (name := node.get_friendly_name()) in kept]
    is_symmetric = all(op.activation in _SYMMETRIC for op in graph.ops)
    presets = nncf.QuantizationPreset
    activations = nncf.quantization.advanced_parameters.QuantizationParameters(
        per_channel=None if per_channel else False
    )
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            preset=presets.PERFORMANCE if is_symmetric else presets.MIXED,
            subset_size=len(samples),
            ignored_scope=nncf.IgnoredScope(names=names) if names else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE,  # 7 bits in all layers but depthwise ones
                disable_bias_correction=not correct_bias,
                activations_quantization_params=activations,
            ),
        )


def _compiles(model: Any) -> bool:
    try:
        compiled(model, 1)
    except NasError:
        return False
    return True


def _quiet_nncf() -> Any:
    """NNCF without its messages.

    It tells its makers what it quantises, unless an environment variable forbids it.
    """
    if not is_installed("nncf"):
        raise NasError("int8 for openvino: the package nncf is not installed; pip install 'nas[openvino]'.")
    os.environ.setdefault("NNCF_CI", "1")  # no telemetry
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf
