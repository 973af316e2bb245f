"""ONNX: the inference graph of a spec, and static int8 quantisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.export.onnx.graph import INPUT, to_onnx
    from nas.export.onnx.static_int8 import quantize_int8
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"graph": ["INPUT", "to_onnx"], "static_int8": ["quantize_int8"]})

__all__ = ["INPUT", "quantize_int8", "to_onnx"]
