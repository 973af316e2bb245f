"""Export of specs and trained modules: standalone Python, one folder per runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.export.metadata import input_facts, input_metadata
    from nas.export.standalone import load_weights, save_weights, standalone_source
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "metadata": ["input_facts", "input_metadata"],
            "standalone": ["load_weights", "save_weights", "standalone_source"],
        },
    )

__all__ = ["input_facts", "input_metadata", "load_weights", "save_weights", "standalone_source"]
