"""NetAdapt: a trained network is shrunk step by step to a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.netadapt.config import NetAdaptPlan
    from nas.methods.netadapt.context import netadapt_context
    from nas.methods.netadapt.report_data import adapted_paths, network_name
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "report_data": ["network_name", "adapted_paths"],
            "context": ["netadapt_context"],
            "config": ["NetAdaptPlan"],
        },
    )

__all__ = [
    "NetAdaptPlan",
    "adapted_paths",
    "netadapt_context",
    "network_name",
]
