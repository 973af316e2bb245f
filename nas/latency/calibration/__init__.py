"""Fit of a latency predictor to a device: this machine, or one measured elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.latency.calibration.collect import unknown_kernels
    from nas.latency.calibration.external import fit_measurements
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"collect": ["unknown_kernels"], "external": ["fit_measurements"]})

__all__ = ["fit_measurements", "unknown_kernels"]
