"""ONNX: the inference graph of a spec, its runtime, and static int8 quantisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.exporters.onnx.graph import INPUT, OUTPUT, onnx_model, to_onnx
    from nas.exporters.onnx.session import onnx_session
    from nas.exporters.onnx.static_int8 import quantize_int8
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "graph": ["INPUT", "OUTPUT", "onnx_model", "to_onnx"],
            "session": ["onnx_session"],
            "static_int8": ["quantize_int8"],
        },
    )

__all__ = ["INPUT", "OUTPUT", "onnx_model", "onnx_session", "quantize_int8", "to_onnx"]
