"""Export of specs and trained modules: standalone Python, one folder per runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.export.standalone import load_weights, save_weights, standalone_source
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"standalone": ["load_weights", "save_weights", "standalone_source"]})

__all__ = ["load_weights", "save_weights", "standalone_source"]
