"""Columns of a scaling study's tables: ranked networks, growth, and trainings."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from operator import itemgetter
from typing import Any, Final

from nas.core.formatting import decimal, number_with_error, percent_with_error
from nas.methods.scaling.design.entries import DesignEntry
from nas.methods.scaling.ranking.ranking import RankedNetwork
from nas.reporting.columns import Column, csv_table, percent_number, select
from nas.reporting.search_columns import RECORD_COLUMNS
from nas.study.trial_record import TrialRecord

_TENTHS: Final = partial(decimal, digits=1)
_THOUSANDTHS: Final = partial(decimal, digits=3)
TRIPLE: Final = "triple"


def _growth_column(name: str, heading: str, **options: Any) -> Column[DesignEntry]:
    return Column(name=name, heading=heading, value=lambda entry: entry.growths[name], **({"text": decimal} | options))


GROWTH_COLUMNS: Final[tuple[Column[DesignEntry], ...]] = (
    _growth_column("macs_x", "MACs ×"),
    _growth_column("params_x", "params ×"),
    _growth_column("memory_x", "memory ×"),
    _growth_column("latency_x", "latency ×"),
    _growth_column("proxy_depth_x", "proxy depth ×"),
    _growth_column("proxy_width_x", "proxy width ×"),
    _growth_column("proxy_resolution_px", "proxy px", text=str),
    _growth_column("proxy_macs_x", "proxy MACs ×"),
)


def _measure_column(name: str, heading: str, **options: Any) -> Column[DesignEntry]:
    return Column(name=name, heading=heading, value=lambda entry: entry.candidate.measures[name], **options)


def _parameter_column(name: str) -> Column[DesignEntry]:
    return Column(name=name, heading=name, value=lambda entry: entry.parameters[name])


def _entry_columns(noun: str, parameters: Iterable[str]) -> tuple[Column[DesignEntry], ...]:
    """Columns known before training; ``parameters``: those of the network's trials."""
    note = "alpha/beta/gamma" if noun == TRIPLE else ""
    return (
        Column(name="network", heading=noun, note=note, value=lambda entry: entry.label, align="left", wraps=False),
        *map(_parameter_column, parameters),
        Column(name="same", heading="same", value=lambda entry: " ".join(entry.same), align="left"),
        Column(name="arch_id", heading="network", value=lambda entry: entry.arch.arch_id, align="left"),
        _measure_column("latency_ms", "ms", text=decimal, wraps=False),
        _measure_column("macs_m", "MACs", unit="M", text=_TENTHS),
        _measure_column("params_m", "params", unit="M", text=decimal),
        _measure_column("peak_memory_mb", "memory", unit="MB", text=decimal),
        *GROWTH_COLUMNS,
    )


_RESULT_COLUMNS: Final[tuple[Column[RankedNetwork], ...]] = (
    Column(name="accuracy", heading="accuracy", unit="%", value=lambda one: one.mean, text=percent_number),
    Column(
        name="accuracy_with_error",
        heading="accuracy",
        unit="%",
        value=lambda one: (one.mean, one.error),
        text=lambda both: percent_with_error(*both),
        wraps=False,
    ),
    Column(name="standard_error", heading="± error", value=lambda one: one.error, text=percent_number),
    Column(name="val_loss", heading="val loss", unit="nats", value=lambda one: one.val_loss, text=_THOUSANDTHS),
    Column(name="val_loss_error", heading="± error", unit="nats", value=lambda one: one.loss_error, text=_THOUSANDTHS),
    Column(
        name="val_loss_with_error",
        heading="val loss",
        unit="nats",
        note="validation loss",
        value=lambda one: (one.val_loss, one.loss_error),
        text=lambda both: number_with_error(both[0], both[1], 3),
        wraps=False,
    ),
    Column(name="seeds", heading="seeds", value=lambda one: len(one.accuracies), wraps=False),
    Column(name="p_value", heading="p", value=lambda one: one.p_value, text=_THOUSANDTHS, wraps=False),
    Column(name="verdict", heading="verdict", value=lambda one: one.verdict, align="left"),
)


def ranking_columns(noun: str, parameters: Iterable[str] = ()) -> tuple[Column[RankedNetwork], ...]:
    """All columns of ranked networks; ``noun``: what each of them represents."""
    entries = (column.of(_entry_of) for column in _entry_columns(noun, parameters))
    return (*entries, *_RESULT_COLUMNS)


def _entry_of(one: RankedNetwork) -> DesignEntry:
    return one.entry


def ranking_to_csv(table: Iterable[RankedNetwork]) -> str:
    """Text of ``networks.csv``: one line per network.

    It has accuracy, validation loss, verdict, cost and realised growth.
    """
    rows = list(table)
    parameters = tuple(rows[0].entry.parameters)
    names = (
        "network", *parameters, "same", "arch_id", "accuracy", "standard_error", "val_loss", "val_loss_error", "seeds",
        "p_value", "verdict",
        "latency_ms", "macs_m", "params_m", "peak_memory_mb", *(column.name for column in GROWTH_COLUMNS),
    )  # fmt: skip
    return csv_table(select(ranking_columns("network", parameters), *names), rows)


Training = tuple[str, TrialRecord]  # label of the network, and the trial


def training_columns() -> tuple[Column[Training], ...]:
    """Columns of the table of all trainings."""
    number, accuracy, cpu, outcome = (
        column.of(_record_of) for column in select(RECORD_COLUMNS, "number", "accuracy", "cpu_s", "outcome")
    )
    network: Column[Training] = Column(name="network", heading="network", value=itemgetter(0), align="left")
    seed: Column[Training] = Column(name="seed", heading="seed", value=lambda one: one[1].genotype.get("seed", 0))
    return (number, network, seed, accuracy, cpu, outcome)


def _record_of(training: Training) -> TrialRecord:
    return training[1]
