"""Conversion of timm modules to an ``ArchSpec``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.model.timm_import.network import from_timm, timm_arch
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"network": ["from_timm", "timm_arch"]})

__all__ = ["from_timm", "timm_arch"]
