"""ncnn: the inference graph of a spec as its two files, and its runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.exporters.ncnn.graph import NcnnModel, ncnn_model
    from nas.exporters.ncnn.session import open_graph, open_model, write_model
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {"graph": ["NcnnModel", "ncnn_model"], "session": ["open_graph", "open_model", "write_model"]},
    )

__all__ = ["NcnnModel", "ncnn_model", "open_graph", "open_model", "write_model"]
