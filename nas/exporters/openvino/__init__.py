"""OpenVINO: inference graphs as IR, their runtime, and int8 quantisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.exporters.openvino.int8 import open_int8, quantized_model, write_int8
    from nas.exporters.openvino.model import openvino_model
    from nas.exporters.openvino.session import open_graph, open_model, write_model
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "int8": ["open_int8", "quantized_model", "write_int8"],
            "model": ["openvino_model"],
            "session": ["open_graph", "open_model", "write_model"],
        },
    )

__all__ = ["open_graph", "open_int8", "open_model", "openvino_model", "quantized_model", "write_int8", "write_model"]
