"""Static int8 quantisation for CPUs by ONNX Runtime, with Q/DQ nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from nas.exporters.onnx.graph import INPUT


def quantize_int8(
    model: onnx.ModelProto, batches: Iterable[npt.NDArray[np.float32]], float_nodes: Sequence[str] = ()
) -> onnx.ModelProto:
    """Quantise a float32 ``model`` to int8, calibrated on ``batches``.

    ``batches``: float32 arrays (N, in_channels, H, W) of the model's input shape. ``float_nodes``: names of nodes that
    stay float32. Weights are signed with one scale per output channel, in 7 bits, from -64 to 64: x86 processors
    without VNNI add two products of 8 bits in 16, which overflows with larger weights, and a file does not know where
    it will run. Activations are unsigned with min-max ranges. With signed activations, the library's default, ONNX
    Runtime 1.31 leaves a third of the convolutions of published networks in float32 on x86, several times as slow; with
    unsigned ones, every operator that has an int8 kernel runs in int8, including squeeze-excite and swish. HardSigmoid
    has no int8 kernel, so hard swish and the gates of MobileNetV3 are computed in float32 on every device.

    ``model`` itself is not modified.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    # Norms are folded and shapes fixed already, so the recommended pre-processing has nothing else to do.
    add_pre_process_metadata(copy)
    with TemporaryDirectory(prefix="nas-int8-") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            copy,
            path,
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # of weights, not of activations
            nodes_to_exclude=list(float_nodes),
        )
        return onnx.load(path)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Adapter from an iterable of batches to the quantiser's reader interface."""

    def __init__(self, batches: Iterable[npt.NDArray[np.float32]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by input name, float32 (N, in_channels, H, W), or None."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
