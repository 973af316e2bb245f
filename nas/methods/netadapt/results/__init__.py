"""Results of an adaptation: its steps, its layers before and after, tables, plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.netadapt.results.steps import AdaptationStep, adaptation_steps
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "steps": ["adaptation_steps", "AdaptationStep"],
        },
    )

__all__ = [
    "AdaptationStep",
    "adaptation_steps",
]
