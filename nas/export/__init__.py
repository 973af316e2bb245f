"""From a spec or a trained module to files for others: standalone Python, and one folder per runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.export.standalone import load_weights, save_weights, standalone_source
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"standalone": ["load_weights", "save_weights", "standalone_source"]})

__all__ = ["load_weights", "save_weights", "standalone_source"]
