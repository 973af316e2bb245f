"""Dashboard notes of a scaling study: the result, and each training's outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import optuna
from optuna.trial import FrozenTrial

from nas.arch.files import dump_spec
from nas.core.formatting import shown_path
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.context import ScalingContext
from nas.methods.scaling.ranking.ranking import RankedNetwork
from nas.methods.scaling.report_page import ScalingReport
from nas.methods.scaling.settings import STEPWISE
from nas.methods.scaling.terminal import best_caption, best_columns, table_networks
from nas.methods.scaling.trial_attributes import LABEL_ATTRIBUTE
from nas.reporting.columns import Column
from nas.reporting.dashboard.board import ARTIFACTS, DashboardBoard
from nas.reporting.dashboard.exhibit import TrialNotes, publish_study, trial_link
from nas.reporting.dashboard.notes import Pairs, link, markdown_rows
from nas.reporting.network_drawing.draw import draw
from nas.reporting.svg import standalone
from nas.study.manifest import REPORT_FILE

_GROWTHS: Final = {"macs_x": "MACs", "params_x": "parameters", "memory_x": "memory", "latency_x": "latency"}


def write_scaling_notes(
    context: ScalingContext, study: optuna.Study, report: ScalingReport, on_note: Callable[[], object] = lambda: None
) -> None:
    """Publish the dashboard's notes into ``study``, and its files beside it.

    The results themselves are in the plan's folder. ``on_note``: called before each note of a trial.
    """
    plan, ranking, known = context.plan, report.ranking, context.entries
    entries = known.by_label
    board = DashboardBoard.of(study, plan.runs_dir / ARTIFACTS)
    best = ranking.best.entry.label if ranking.best else ""
    trials = {label: [row.number for name, row in report.trainings if name == label] for label in entries}
    if known.end:  # stepwise expansion shares the trainings of its final network
        trials[STEPWISE] = trials[known.end.label]
    plots = _attach_plots(plan, board)
    links, attached = _attach_best(context, board, report)
    best_rows = markdown_rows(
        (*best_columns(plan, ranking), _trainings_column(trials)),
        table_networks(ranking),
        {"trainings": lambda one: ", ".join(trial_link(study, number) for number in trials[one.entry.label])},
    )
    publish_study(
        TrialNotes(
            board=board,
            predictor=context.predictor,
            decode=lambda trial: entries[trial.user_attrs[LABEL_ATTRIBUTE]].arch,
            facts=_facts,
            labels=dict.fromkeys(trials.get(best, ()), best),
            class_names=context.images.class_names,
            provenance=context.images.input_facts,
            on_note=on_note,
        ),
        report,
        noted=[row for label, row in report.trainings if label in entries],
        caption=best_caption(plan, ranking),
        best=best_rows,
        reading=_reading(plan, links),
        plot=("accuracy over multiply-adds", board.address("macs.svg")),
        files={*plots, *attached},
    )


def _reading(plan: ScalingPlan, links: Sequence[str]) -> list[str]:
    """Markdown paragraphs on how to read the dashboard's pages of a scaling study.

    ``links``: to the files of the best network.
    """
    return [
        "**Best Trial** and **History** show single trainings: the result above is the mean over seeds, with the "
        "noise between them.",
        "**Trials** (list): each trial is one training, of the network and seed in its note, followed by "
        "its drawing and its spec.",
        f"**Parameters**: {_parameters(plan)}, each beside the baseline's.",
        f"Everything else: `{shown_path(plan.folder / REPORT_FILE)}`. " + ", ".join(links),
    ]


def _parameters(plan: ScalingPlan) -> str:
    return "depth, width and resolution" if plan.compare else "alpha is depth, beta width, gamma resolution"


def _attach_plots(plan: ScalingPlan, board: DashboardBoard) -> list[str]:
    """Attach the plots; their file names."""
    plots = {path.name: path.read_text(encoding="utf-8") for path in sorted(plan.folder.glob("*.svg"))}
    for name, text in plots.items():
        board.attach(name, standalone(text).encode())
    return list(plots)


def _attach_best(context: ScalingContext, board: DashboardBoard, report: ScalingReport) -> tuple[list[str], list[str]]:
    """Attach drawing and spec of the best network; links to them, and file names."""
    best = report.ranking.best
    if not best:
        return [], []
    arch = replace(best.entry.arch, name="best")
    provenance = {"study": context.plan.name, **context.images.input_facts}
    links = [
        link("drawing of the best", board.attach("best.svg", standalone(draw(arch)).encode())),
        link(
            "its spec",
            board.attach("best.yaml", dump_spec(arch, provenance).encode()),
        ),
    ]
    return links, ["best.svg", "best.yaml"]


def _trainings_column(trials: Mapping[str, Sequence[int]]) -> Column[RankedNetwork]:
    """Column with the numbers of a network's trials."""
    return Column(name="trainings", heading="trainings", value=lambda one: trials[one.entry.label], align="left")


def _facts(trial: FrozenTrial) -> Pairs:
    """Network, seed and growth over the baseline of a training."""
    known = trial.user_attrs
    growth = ", ".join(f"x{known[key]:.2f} {name}" for key, name in _GROWTHS.items() if key in known)
    proxy = f"x{known['proxy_macs_x']:.2f} MACs, {known['proxy_resolution_px']} px" if "proxy_macs_x" in known else ""
    return [
        ("label", known[LABEL_ATTRIBUTE]),
        ("seed", str(known["seed"])),
        ("growth", growth),
        ("its proxy", proxy),
    ]
