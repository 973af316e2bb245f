"""Upper limits on what a network may cost, and how far a network is beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nas.core.validation import check_number

_MEASURES: Final = ("latency_ms", "macs_m", "params_m", "peak_memory_mb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Upper limits on the cost of a network at its own resolution.

    None is no limit. MB are 10^6 bytes.
    """

    latency_ms: float | None = None
    macs_m: float | None = None
    params_m: float | None = None
    peak_memory_mb: float | None = None

    def __post_init__(self) -> None:
        for name in _MEASURES:
            check_number(f"constraint.{name}", getattr(self, name), low=0, open_low=True, optional=True)

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set."""
        return {name: value for name in _MEASURES if (value := getattr(self, name)) is not None}

    def violations(self, measures: Mapping[str, float]) -> dict[str, float]:
        """For each limit, value / limit - 1.

        At most 0 where the limit is met, which is Optuna's convention.
        """
        return {name: measures[name] / limit - 1 for name, limit in self.limits.items()}

    def explain(self, measures: Mapping[str, float]) -> str:
        """The limits that ``measures`` break, in words; empty if they meet them all."""
        broken = [name for name, excess in self.violations(measures).items() if excess > 0]
        return "; ".join(f"{name} {measures[name]:.4g} > {self.limits[name]:g}" for name in broken)

    def __str__(self) -> str:
        return ", ".join(f"{name} <= {limit:g}" for name, limit in self.limits.items()) or "none"
