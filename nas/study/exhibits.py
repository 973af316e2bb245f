"""What a dashboard shows of a study: notes on it and on its trials, drawings and specs of their networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import optuna
from optuna.trial import FrozenTrial

from nas.arch.files import dumps
from nas.arch.spec import ArchSpec
from nas.latency.predictor import LatencyPredictor
from nas.study.artifacts import Board
from nas.study.begun import REPORT_FILE
from nas.study.candidates import Pricer
from nas.study.digest import summary
from nas.study.notes import Pairs, StudyNote, TrialNote, link, measured, plain, predicted
from nas.study.report import ReportData, Winner, drawing
from nas.study.rows import Outcome, TrialRow, counts
from nas.study.svg import standalone
from nas.study.trials import PUBLISHED, to_rows
from nas.study.units import decimal, percent, plural, shown_path

NEWEST: Final = 300
NEWEST_FAILED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """What is to be shown of the trials of the study of ``board``.

    ``decode``: the network of a trial. ``facts``: what this kind of study says of one first. ``labels``: of winners, by
    the trial's number.
    """

    board: Board
    predictor: LatencyPredictor
    decode: Callable[[FrozenTrial], ArchSpec]
    facts: Callable[[FrozenTrial], Pairs] = lambda _: ()
    labels: dict[int, str]

    def show(self, told: Sequence[TrialRow]) -> str:
        """Put up what is missing or out of date of ``told``, the trials in the report; others may have begun since.

        Says in words which of them are left out, nothing if none is.
        """
        study, rows = self.board.study, {row.number: row for row in told}
        trials = {trial.number: trial for trial in study.get_trials(deepcopy=False) if trial.number in rows}
        chosen = shown(told, {*self.labels, *_baselines(trials.values())})
        metric = (study.metric_names or ["value"])[0]
        for number in chosen:
            self._show(trials[number], rows[number], metric)
        if len(chosen) == len(rows):
            return ""
        return (
            f"{len(chosen):,} of {plural(len(rows), 'trial')} have a note and a drawing: winners, baselines, the "
            f"newest {NEWEST} and the newest {NEWEST_FAILED} that failed; all are in trials.csv"
        )

    def _show(self, trial: FrozenTrial, row: TrialRow, metric: str) -> None:
        began, ended = trial.datetime_start, trial.datetime_complete
        note = TrialNote(
            row=row,
            label=self.labels.get(row.number, ""),
            baseline=trial.user_attrs.get(PUBLISHED, ""),
            duration=ended - began if began and ended else None,
            metric=metric,
            curve=trial.intermediate_values,
            facts=self.facts(trial),
            drawing=self._draw(trial, row) if row.arch_id else "",
        )
        self.board.pin(note.markdown, trial)

    def _draw(self, trial: FrozenTrial, row: TrialRow) -> str:
        """Attach drawing and spec of a trial's network if they are not there; the drawing's address."""
        drawing_name, spec_name = f"trial_{row.number}.svg", f"trial_{row.number}.yaml"
        if not (self.board.has(drawing_name, trial) and self.board.has(spec_name, trial)):
            arch = replace(self.decode(trial), name=f"trial_{row.number}")
            where = {"study": self.board.study.study_name, "trial": row.number, "arch_id": row.arch_id}
            self.board.attach(spec_name, dumps(arch, where).encode(), trial)
            self.board.attach(drawing_name, picture(arch, row, self.predictor), trial)
        return self.board.address(drawing_name, trial)


def shown(rows: Sequence[TrialRow], always: Collection[int]) -> list[int]:
    """Numbers of the trials that get a note: those of ``always``, the newest, and the newest that failed."""
    failed = [row.number for row in rows if row.outcome is Outcome.FAILED]
    newest = [row.number for row in rows[-NEWEST:]]
    return sorted({*always, *newest, *failed[-NEWEST_FAILED:]})


def picture(arch: ArchSpec, row: TrialRow, predictor: LatencyPredictor) -> bytes:
    """The drawing of a trial's network, as a file of its own."""
    times = dict(predictor.layer_ms(arch))
    return standalone(drawing(Winner(label=arch.name, arch=arch, row=row, latency_by_path=times))).encode()


def trial_link(study: optuna.Study, number: int) -> str:
    """A link to a trial in the dashboard."""
    return link(f"trial {number}", f"/dashboard/studies/{study._study_id}/trials?numbers={number}")


def show_search(study: optuna.Study, report: ReportData, pricer: Pricer, folder: Path, artifacts: Path) -> None:
    """Put what a dashboard shows of a search into its study and into ``artifacts``; its results stand in ``folder``."""
    board = Board.of(study, artifacts)
    exhibit = Exhibit(
        board=board,
        predictor=pricer.predictor,
        decode=lambda trial: pricer.decode(trial.params),
        labels=report.label_of,
    )
    left_out = exhibit.show(report.rows)
    rows = [_winner_cells(winner, report, board, folder) for winner in report.winners]
    plot = standalone((folder / "pareto.svg").read_text(encoding="utf-8")).encode()
    note = StudyNote(
        title=report.title,
        summary=summary(report.rows, report.reward),
        command=report.command,
        facts=[*report.facts, *([("notes", left_out)] if left_out else [])],
        caption="Winners",
        best=[_winner_head(report), *rows] if rows else (),
        reading=_reading(report, folder),
        plot=("accuracy over latency", board.attach("pareto.svg", plot)),
    )
    board.pin(note.markdown)
    board.tell(note.gist)
    names = [winner.arch.name for winner in report.winners]
    board.keep({"pareto.svg", *(f"{name}{ending}" for name in names for ending in (".svg", ".yaml"))})
    board.mark(state_of(report.rows))


def is_shown(study: optuna.Study, artifacts: Path) -> bool:
    """Whether a dashboard shows all trials of ``study`` that have ended."""
    return Board.of(study, artifacts).is_marked(state_of(to_rows(study)))


def state_of(rows: Sequence[TrialRow]) -> str:
    """How far a study is: it changes with every trial that ends."""
    ended = counts([row for row in rows if row.outcome is not Outcome.RUNNING])
    return ", ".join(f"{count} {outcome}" for outcome, count in ended.items() if count)


def _baselines(trials: Collection[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials if PUBLISHED in trial.user_attrs and trial.state.is_finished()]


def _winner_head(report: ReportData) -> tuple[str, ...]:
    reward = ("reward",) if report.reward else ()
    return ("", "trial", *reward, "proxy accuracy", "predicted latency", "measured", "M MACs", "M params", "files")


def _winner_cells(winner: Winner, report: ReportData, board: Board, folder: Path) -> tuple[str, ...]:
    row, name = winner.row, winner.arch.name
    files = [
        link("drawing", board.attach(f"{name}.svg", standalone(drawing(winner)).encode())),
        link("spec", board.attach(f"{name}.yaml", _spec_of(winner, folder))),
    ]
    return (
        f"**{plain(winner.label)}**",
        trial_link(board.study, row.number),
        *([decimal(report.reward.get(row.number), 4)] if report.reward else []),
        percent(row.accuracy),
        predicted(row),
        measured(row),
        decimal(row.macs_m, 1),
        decimal(row.params_m),
        ", ".join(files),
    )


def _spec_of(winner: Winner, folder: Path) -> bytes:
    """The spec file of a winner; a search at work has written none yet, or is replacing it at this moment."""
    with suppress(FileNotFoundError):
        if winner.spec_file:
            return (folder / winner.spec_file).read_bytes()
    return dumps(winner.arch).encode()


def _reading(report: ReportData, folder: Path) -> list[str]:
    """How to read the dashboard's pages of a search."""
    pareto = report.objective == "pareto"
    return [
        "**Pareto Front**: each point is a network; accuracy of its proxy is to be high, latency in ms low."
        if pareto
        else "**History**: the reward of each network is to be high.",
        "**Best Trials** knows nothing of networks that came up twice, nor of later measurements: the winners are "
        "those above.",
        "**Trials** (list): each trial's note says what became of it, and below it stand its drawing and its spec. "
        "State *Pruned* is a network beyond a limit, or a training that was stopped; *Complete* may be a duplicate.",
        "**Parameters**: `s3.b0.kernel` is the kernel of the first block of stage 3; `k3.5.7` are MixConv groups of "
        "3x3, 5x5 and 7x7. In *Smart Selection* untick *Check All* and tick the few that *Hyperparameter Importance* "
        "names.",
        f"Everything else, with the drawings of the winners: `{shown_path(folder / REPORT_FILE)}`.",
    ]
