"""Dashboard notes of a search: winners, trials, and how to read the pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import optuna

from nas.arch.files import dump_spec
from nas.core.formatting import shown_path
from nas.reporting.dashboard.board import DashboardBoard
from nas.reporting.dashboard.exhibit import TrialNotes, publish_study, trial_link
from nas.reporting.dashboard.notes import escape_markdown, link, markdown_rows
from nas.reporting.search_columns import shown_winner_columns
from nas.reporting.search_report import SearchReport, Winner, winner_drawing
from nas.reporting.svg import standalone
from nas.study.candidates import Pricer
from nas.study.manifest import REPORT_FILE

_WINNER_COLUMNS: Final = (
    "name", "published", "trial", "group", "reward", "accuracy_with_error", "estimate_with_error",
    "inherited_with_error", "fine_tuned_with_error", "epochs", "predicted_ms", "latency_interval_ms", "measured_ms",
    "measured_spread_ms", "macs_m", "params_m", "cpu_s", "files",
)  # fmt: skip


def write_search_notes(
    study: optuna.Study,
    report: SearchReport,
    pricer: Pricer,
    folder: Path,
    artifacts: Path,
    provenance: Mapping[str, Any] | None = None,
    *,
    on_note: Callable[[], object] = lambda: None,
) -> None:
    """Publish the dashboard's notes into the study and its files into ``artifacts``.

    The results themselves are in ``folder``. ``provenance``: of the specs among the files. ``on_note``: called before
    each note of a trial.
    """
    board = DashboardBoard.of(study, artifacts)
    names = [winner.arch.name for winner in report.winners]
    plot = standalone((folder / "pareto.svg").read_text(encoding="utf-8")).encode()
    publish_study(
        TrialNotes(
            board=board,
            predictor=pricer.predictor,
            decode=lambda trial: pricer.decode(trial.params),
            labels=report.label_of,
            class_names=report.class_names,
            provenance=provenance or {},
            on_note=on_note,
        ),
        report,
        noted=report.rows,
        caption="Winners and baselines" if report.baselines else "Winners",
        best=_winner_table(report, board, folder, provenance or {}) if report.winners else (),
        reading=_reading(report, folder),
        plot=(f"{report.score.name} over latency", board.attach("pareto.svg", plot)),
        files={"pareto.svg", *(f"{name}{ending}" for name in names for ending in (".svg", ".yaml"))},
    )


def _winner_table(
    report: SearchReport, board: DashboardBoard, folder: Path, provenance: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """Markdown table of winners and baselines, with links to trials and files."""
    links = {winner.label: ", ".join(_links(winner, board, folder, provenance)) for winner in report.winners}
    return markdown_rows(
        shown_winner_columns(report.table, report.reward, *_WINNER_COLUMNS),
        report.table,
        {
            "name": lambda one: f"**{escape_markdown(one.label)}**",
            "trial": lambda one: "" if one.row.trial is None else trial_link(board.study, one.row.trial),
            "files": lambda one: links.get(one.label, ""),
        },
    )


def _links(winner: Winner, board: DashboardBoard, folder: Path, provenance: Mapping[str, Any]) -> list[str]:
    """Attach drawing and spec of a winner; Markdown links to them."""
    name = winner.arch.name
    return [
        link("drawing", board.attach(f"{name}.svg", standalone(winner_drawing(winner)).encode())),
        link("spec", board.attach(f"{name}.yaml", _spec_of(winner, folder, provenance))),
    ]


def _spec_of(winner: Winner, folder: Path, provenance: Mapping[str, Any]) -> bytes:
    """Spec file of a winner, or its spec dumped where no file exists.

    A running search has written none yet, or may be replacing it at this moment.
    """
    with suppress(FileNotFoundError):
        if winner.spec_file:
            return (folder / winner.spec_file).read_bytes()
    return dump_spec(winner.arch, provenance).encode()


def _reading(report: SearchReport, folder: Path) -> list[str]:
    """Markdown paragraphs on how to read the dashboard's pages of a search."""
    pareto = report.objective == "pareto"
    return [
        f"**Pareto Front**: each point is a network; maximise the {report.score.name} of its proxy, minimise its "
        "latency in ms."
        if pareto
        else "**History**: the reward of each network, to be maximised.",
        "**Best Trials** includes neither duplicates nor later measurements: the winners are those above.",
        "**Trials** (list): each trial's note states its outcome, followed by its drawing and its spec. "
        "State *Pruned* is a network beyond a limit or a stopped training; *Complete* may be a duplicate.",
        "**Parameters**: `s3.b0.kernel` is the kernel of the first block of stage 3; `k3.5.7` are MixConv groups of "
        "3x3, 5x5 and 7x7. In *Smart Selection* untick *Check All* and tick the few that *Hyperparameter Importance* "
        "names.",
        f"Everything else, with the drawings of the winners: `{shown_path(folder / REPORT_FILE)}`.",
    ]
