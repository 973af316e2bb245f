"""Table columns of an adaptation: its steps, its proposals, its layers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, Final

from nas.analysis.latency_agreement import LatencyPair
from nas.core.formatting import decimal, number_with_error
from nas.methods.netadapt.results.layers import LayerChange
from nas.methods.netadapt.results.steps import AdaptationStep, ProposalRecord
from nas.reporting.columns import Column, Row, csv_table, percent_number, select
from nas.reporting.search_columns import AGREEMENT_COLUMNS, RECORD_COLUMNS
from nas.study.trial_record import TrialRecord

MEASURE_UNITS: Final = {"latency_ms": "ms", "macs_m": "M", "params_m": "M", "peak_memory_mb": "MB"}
_LOSS: Final[dict[str, Any]] = {"unit": "nats", "text": partial(decimal, digits=3)}
_WHEN: Final = ("before", "after")
_INCREASE_NOTE: Final = "over the network of the step before, on the same images, with its standard error"


def _with_error(both: tuple[float | None, float | None]) -> str:
    return number_with_error(both[0], both[1], digits=3)


def _finer(column: Column[Row]) -> Column[Row]:
    """``column``, a latency with three decimals: steps differ by a few percent."""
    is_latency = column.unit == "ms" and column.name != "latency_interval_ms"
    return replace(column, text=partial(decimal, digits=3)) if is_latency else column


def step_columns() -> tuple[Column[AdaptationStep], ...]:
    """All columns of the table of steps."""

    def record_of(one: AdaptationStep) -> TrialRecord:
        return one.row

    figures = (
        "accuracy", "standard_error", "accuracy_with_error", "val_loss", "latency_ms", "latency_low_ms",
        "latency_high_ms", "measured_ms", "measured_error_ms", "macs_m", "params_m", "peak_memory_mb", "arch_id",
    )  # fmt: skip
    (number,) = select(RECORD_COLUMNS, "number")
    return (
        Column(name="step", heading="step", value=attrgetter("step")),
        Column(name="change", heading="changed", value=attrgetter("label"), align="left"),
        Column(name="short_change", heading="changed", value=attrgetter("short_label"), align="left"),
        Column(name="loss_before", heading="loss before", value=attrgetter("loss_before"), **_LOSS),
        Column(name="loss_after", heading="loss after", value=attrgetter("loss_after"), **_LOSS),
        Column(name="loss_error", heading="± error", value=attrgetter("loss_error"), **_LOSS),
        *(_finer(column).of(record_of) for column in select(RECORD_COLUMNS, *figures)),
        Column(
            name="share",
            heading="share",
            unit="%",
            note="of what the seed network has of what is to shrink",
            value=attrgetter("share"),
            text=percent_number,
        ),
        Column(name="proposals", heading="trials", value=lambda one: len(one.proposals)),
        Column(name="cpu_s", heading="CPU", unit="s", value=attrgetter("cpu_s"), text=partial(decimal, digits=1)),
        Column(name="trial", heading=number.heading, value=lambda one: one.row.number),
    )


def proposal_columns(measure: str) -> tuple[Column[ProposalRecord], ...]:
    """All columns of the table of proposals; ``measure``: what shrinks."""
    saving: dict[str, Any] = {"unit": MEASURE_UNITS[measure], "text": partial(decimal, digits=4)}
    return (
        Column(name="step", heading="step", value=attrgetter("step")),
        Column(name="phase", heading="phase", value=lambda one: str(one.phase), align="left"),
        Column(name="change", heading="network", value=attrgetter("label"), align="left"),
        Column(name="loss", heading="loss", value=attrgetter("loss"), **_LOSS),
        Column(name="increase", heading="increase", value=attrgetter("increase"), **_LOSS),
        Column(name="increase_error", heading="± error", value=attrgetter("error"), **_LOSS),
        Column(
            name="increase_with_error",
            heading="increase",
            unit="nats",
            note=_INCREASE_NOTE,
            value=attrgetter("increase", "error"),
            text=_with_error,
            wraps=False,
        ),
        Column(name="saving", heading="saving", note=f"of {measure}", value=attrgetter("saving"), **saving),
        *(
            _finer(column).of(lambda one: one.row)
            for column in select(RECORD_COLUMNS, "accuracy_with_error", "accuracy", "standard_error", "latency_ms")
        ),
        *(column.of(lambda one: one.row) for column in select(RECORD_COLUMNS, "macs_m", "outcome", "reason")),
        Column(name="kept", heading="kept", value=lambda one: "yes" if one.is_kept else "", align="left"),
        Column(name="trial", heading="trial", value=lambda one: one.row.number),
    )


def latency_columns() -> tuple[Column[LatencyPair], ...]:
    """Columns of the table of predicted and measured latency."""
    return tuple(map(_finer, AGREEMENT_COLUMNS))


def layer_columns() -> tuple[Column[LayerChange], ...]:
    """Columns of the table of layers, each size before and after."""

    def text(field: str) -> Any:
        return lambda one: one.text(field)

    return (
        Column(name="layer", heading="layer", value=attrgetter("name"), align="left"),
        Column(name="hidden", heading="hidden channels", value=text("hidden")),
        Column(name="channels", heading="output channels", value=text("channels")),
        Column(name="kernels", heading="kernels", value=text("kernels")),
        Column(name="side_px", heading="side", unit="px", value=text("side_px")),
    )


def steps_csv(steps: tuple[AdaptationStep, ...]) -> str:
    """Table of steps as CSV."""
    names = [one.name for one in step_columns() if one.name not in ("short_change", "accuracy_with_error")]
    return csv_table(select(step_columns(), *names), steps)


def proposals_csv(proposals: tuple[ProposalRecord, ...], measure: str) -> str:
    """Table of proposals as CSV, in the order of their trials."""
    columns, left_out = proposal_columns(measure), ("increase_with_error", "accuracy_with_error")
    names = [one.name for one in columns if one.name not in left_out]
    return csv_table(select(columns, *names), sorted(proposals, key=lambda one: one.row.number))


def layers_csv(changes: tuple[LayerChange, ...]) -> str:
    """Table of layers as CSV, a column for each size before and after."""
    (layer,) = select(layer_columns(), "layer")
    sizes = [_size_column(field, when) for field in ("hidden", "channels", "kernels", "side_px") for when in _WHEN]
    return csv_table([layer, *sizes], changes)


def _size_column(field: str, when: str) -> Column[LayerChange]:
    def value(one: LayerChange) -> Any:
        return getattr(getattr(one, when), field, None)

    return Column(name=f"{field}_{when}", heading=field, value=value)
