"""Dashboard notes of an adaptation: the result, and each trial's outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

import optuna
from optuna.trial import FrozenTrial

from nas.arch.files import dump_spec
from nas.core.formatting import number_with_error, shown_path
from nas.methods.netadapt.context import NetAdaptContext
from nas.methods.netadapt.report_data import ADAPTED_FILE
from nas.methods.netadapt.results.columns import MEASURE_UNITS, step_columns
from nas.methods.netadapt.results.report_page import NetAdaptReport, drawing_of
from nas.methods.netadapt.results.steps import ProposalRecord
from nas.reporting.columns import select
from nas.reporting.dashboard.board import ARTIFACTS, DashboardBoard
from nas.reporting.dashboard.exhibit import TrialNotes, publish_study, trial_link
from nas.reporting.dashboard.notes import Pairs, link, markdown_rows
from nas.reporting.svg import standalone
from nas.study.manifest import REPORT_FILE

_SHOWN: Final = (
    "step", "short_change", "accuracy_with_error", "loss_after", "share", "latency_ms", "macs_m", "trial",
)  # fmt: skip


def write_netadapt_notes(
    context: NetAdaptContext, study: optuna.Study, report: NetAdaptReport, on_note: Callable[[], object] = lambda: None
) -> None:
    """Publish the dashboard's notes into ``study``, and its files beside it.

    The results themselves are in the plan's folder. ``on_note``: called before each note of a trial.
    """
    board = DashboardBoard.of(study, context.plan.runs_dir / ARTIFACTS)
    plots = {f"{name}.svg": standalone(plot.svg).encode() for name, (_, plot) in report.plots.items()}
    addresses = {name: board.attach(name, content) for name, content in plots.items()}
    links, attached = _attach_adapted(context, board, report)
    records = {one.row.number: one for one in report.all_proposals}
    publish_study(
        TrialNotes(
            board=board,
            predictor=context.predictor,
            decode=context.network_of,
            facts=lambda trial: _facts(trial, records, report.measure),
            labels={report.steps[-1].row.number: ADAPTED_FILE} if len(report.steps) > 1 else {},
            class_names=context.images.class_names,
            provenance=context.images.input_facts,
            on_note=on_note,
            accuracy_name="accuracy",
            is_drawn=lambda row: row.accuracy is not None,  # hundreds of proposals differ by one layer
        ),
        report,
        noted=[row for row in report.rows if row.number in records or not report.steps],
        caption="Steps",
        best=_step_table(study, report),
        reading=_reading(context, report, links),
        plot=("accuracy over latency", addresses["latency.svg"]),
        files={*plots, *attached},
    )


def _step_table(study: optuna.Study, report: NetAdaptReport) -> list[tuple[str, ...]]:
    """Markdown table of the steps, head first, with links; empty without steps."""
    if not report.steps:
        return []
    trial = {"trial": lambda one: trial_link(study, one.row.number)}
    return markdown_rows(select(step_columns(), *_SHOWN), report.steps, trial)


def _attach_adapted(
    context: NetAdaptContext, board: DashboardBoard, report: NetAdaptReport
) -> tuple[list[str], list[str]]:
    """Attach drawing and spec of the adapted network; links to them, and file names."""
    if report.adapted is None or len(report.steps) < 2:
        return [], []
    arch = replace(report.adapted, name=ADAPTED_FILE)
    spec = dump_spec(arch, {"study": context.plan.name, **context.images.input_facts}).encode()
    with suppress(FileNotFoundError):  # none is written yet
        spec = (context.plan.folder / f"{ADAPTED_FILE}.yaml").read_bytes()
    names = [f"{ADAPTED_FILE}.svg", f"{ADAPTED_FILE}.yaml"]
    contents = [standalone(drawing_of(report)).encode(), spec]
    addresses = [board.attach(name, content) for name, content in zip(names, contents, strict=True)]
    words = ("drawing of the adapted network", "its spec")
    return [link(text, address) for text, address in zip(words, addresses, strict=True)], names


def _reading(context: NetAdaptContext, report: NetAdaptReport, links: list[str]) -> list[str]:
    """Markdown paragraphs on how to read the dashboard's pages of an adaptation."""
    everything = f"Everything else: `{shown_path(context.plan.folder / REPORT_FILE)}`."
    return [
        "**History** shows the accuracy of the seed network and of fine-tuned networks alone: proposals have a loss.",
        "**Trials** (list): each trial's note says to which step it belongs and what it changes; those of "
        "trained networks have drawing and spec. *Parameters* are the step, and what the trial is for: seed, loss or "
        "fine-tuning.",
        f"{everything} {', '.join(links)}".strip(),
    ]


def _facts(trial: FrozenTrial, records: Mapping[int, ProposalRecord], measure: str) -> Pairs:
    """Step, changes and loss of a trial."""
    one = records.get(trial.number)
    if one is None:
        return []
    loss = "" if one.loss is None else f"{one.loss:.4f} nats"
    if one.increase is not None:
        loss += f", an increase of {number_with_error(one.increase, one.error, 4)}"
    saving = "" if one.saving is None else f"{one.saving:.4g} {MEASURE_UNITS[measure]} of {measure}"
    return [
        ("step", f"{one.step}, {one.phase}"),
        ("changes", one.label),
        ("loss on train images", loss),
        ("saving", saving),
        ("kept", "yes" if one.is_kept else ""),
    ]
