"""Batches of images that are decoded and augmented when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.training.streaming.batches import StreamedSource
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"batches": ["StreamedSource"]})

__all__ = ["StreamedSource"]
