"""Resolution of ``latency=`` and ``runs_dir=``, and a network's total costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nas.arch.complexity import complexity
from nas.arch.heads import latency_scope
from nas.arch.spec import ArchSpec
from nas.cli import app
from nas.core.dataclass_io import from_mapping

if TYPE_CHECKING:
    from nas.latency.predictors.base import LatencyPredictor


def resolve_predictor(config: Mapping[str, Any]) -> LatencyPredictor:
    """Load this device's latency predictor, calibrating it if there is none.

    Progress goes to stderr, so that stdout holds the results alone.

    Raises: NasError for invalid settings and an unwritable folder, before the predictor is loaded.
    """
    from nas.latency.settings import LatencySettings

    settings, folder = from_mapping(LatencySettings, config["latency"], "latency"), app.runs_dir(config)
    if settings.backend != "macs":
        app.check_writable(folder)
    from rich.console import Console

    from nas.study.predictor import find_or_calibrate

    return find_or_calibrate(settings, folder, Console(stderr=True))


def network_totals(arch: ArchSpec, predictor: LatencyPredictor) -> dict[str, Any]:
    """Name, resolution, exact cost and predicted latency, as plain data."""
    cost, estimate = complexity(arch), predictor.predict(arch)
    return {
        "name": arch.name,
        "arch_id": arch.arch_id,
        "resolution_px": arch.resolution_px,
        **asdict(cost),
        "latency_ms": estimate.latency_ms,
        "latency_low_ms": estimate.low_ms,
        "latency_high_ms": estimate.high_ms,
        "device": str(predictor.device),
    }


def latency_remark(predictor: LatencyPredictor) -> str:
    """The device of predicted latencies, and the predictor's error, in words."""
    from nas.latency.predictors.base import error_text, forms_remark

    known = " with 90% intervals" if predictor.error else ""
    return f"latency{known} on {predictor.device}{forms_remark(predictor)}; {error_text(predictor)}"


def scope_remark(task: str) -> str:
    """Say what the latency of a network for ``task`` is of; empty for classifiers."""
    scope = latency_scope(task)
    return f"latency is of {scope}" if scope else ""


def latency_remarks(arch: ArchSpec, predictor: LatencyPredictor) -> tuple[str, ...]:
    """Say what a latency leaves out, and what of it is a guess; () if nothing."""
    from nas.latency.predictors.base import unmeasured_remark

    return tuple(filter(None, (scope_remark(arch.task), unmeasured_remark(predictor, arch))))


def short_count(value: int) -> str:
    """A count with a unit prefix, such as 239.2M; empty for 0."""
    if not value:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return str(value)
