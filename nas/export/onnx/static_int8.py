"""An int8 graph from a float32 one, as it is deployed on CPUs: ONNX Runtime's static quantisation with Q/DQ nodes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from nas.export.onnx.graph import INPUT


def quantize_int8(model: onnx.ModelProto, batches: Iterable[npt.NDArray[np.float32]]) -> onnx.ModelProto:
    """``model`` in int8, with the ranges that its activations take on ``batches`` [batch, in_channels, px, px].

    Weights are signed, one scale per output channel; activations unsigned, smallest to largest value. With signed
    activations, the library's default, ONNX Runtime 1.31 leaves a third of the convolutions of published networks in
    float32 on x86, and several times as slow; with unsigned ones, whatever has an int8 kernel runs in int8, the
    squeeze-excite and swish included. HardSigmoid has none, so that hard swish and the gates of MobileNetV3 go
    through float32 and back, on every device alike.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    # Norms are folded and shapes are fixed already: all that the recommended preparation does to a graph of ours.
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
        )
        return onnx.load(path)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Inputs one after the other, as the quantiser asks for them."""

    def __init__(self, batches: Iterable[npt.NDArray[np.float32]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
