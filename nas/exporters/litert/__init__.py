"""LiteRT (TensorFlow Lite): models, runtime, static int8 quantisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.exporters.litert.depthwise import kernel_pieces
    from nas.exporters.litert.graph import litert_model
    from nas.exporters.litert.session import litert_interpreter
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {"depthwise": ["kernel_pieces"], "graph": ["litert_model"], "session": ["litert_interpreter"]},
    )

__all__ = ["kernel_pieces", "litert_interpreter", "litert_model"]
