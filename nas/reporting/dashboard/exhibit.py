"""Dashboard content of a study: notes, drawings and specs of its networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial

from nas.arch.files import dump_spec
from nas.arch.spec import ArchSpec
from nas.core.formatting import plural
from nas.latency.predictors.base import LatencyPredictor
from nas.reporting.class_accuracy import lowest_class
from nas.reporting.dashboard.board import DashboardBoard
from nas.reporting.dashboard.notes import Pairs, StudyNote, TrialNote, link
from nas.reporting.search_report import Winner, winner_drawing
from nas.reporting.study_report import StudyReport
from nas.reporting.svg import standalone
from nas.study.storage.optuna_private import study_id
from nas.study.trial_attributes import PUBLISHED, trial_records
from nas.study.trial_record import Outcome, TrialRecord, outcome_counts_text

NEWEST: Final = 300
NEWEST_FAILED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialNotes:
    """Notes, drawings and specs of trials, written to ``board``.

    ``decode``: returns the network of a trial. ``facts``: returns the leading (name, value) pairs of a trial's note.
    ``labels``: labels of winners by trial number. ``class_names``: in label order, if known. ``provenance``: of the
    specs. ``on_note``: called before each note; what it raises ends the writing. ``accuracy_name``: what the accuracy
    of a trial is of. ``is_drawn``: whether drawing and spec of a trial's network are attached.
    """

    board: DashboardBoard
    predictor: LatencyPredictor
    decode: Callable[[FrozenTrial], ArchSpec]
    facts: Callable[[FrozenTrial], Pairs] = lambda _: ()
    labels: dict[int, str]
    class_names: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    on_note: Callable[[], object] = lambda: None
    accuracy_name: str = "proxy accuracy"
    is_drawn: Callable[[TrialRecord], bool] = lambda row: bool(row.arch_id)

    def publish(self, records: Sequence[TrialRecord]) -> str:
        """Write the notes of trials in ``records`` that are missing or outdated.

        ``records`` holds the trials in the report; trials that started later are ignored.

        Returns a sentence on the omitted trials; empty if none is omitted.
        """
        study, rows = self.board.study, {row.number: row for row in records}
        trials = {trial.number: trial for trial in study.get_trials(deepcopy=False) if trial.number in rows}
        chosen = noted_trials(records, {*self.labels, *_published(trials.values())})
        metric = (study.metric_names or ["value"])[0]
        for number in chosen:
            self.on_note()
            self._publish_note(trials[number], rows[number], metric)
        if len(chosen) == len(rows):
            return ""
        return (
            f"{len(chosen):,} of {plural(len(rows), 'trial')} have a note and a drawing (winners, published networks, "
            f"the newest {NEWEST}, and the newest {NEWEST_FAILED} that failed); trials.csv contains all"
        )

    def _publish_note(self, trial: FrozenTrial, row: TrialRecord, metric: str) -> None:
        start, end = trial.datetime_start, trial.datetime_complete
        note = TrialNote(
            row=row,
            label=self.labels.get(row.number, ""),
            published=trial.user_attrs.get(PUBLISHED, ""),
            duration=end - start if start and end else None,
            metric=metric,
            curve=trial.intermediate_values,
            facts=[*self.facts(trial), ("lowest class", lowest_class(row, self.class_names))],
            drawing=self._draw(trial, row) if self.is_drawn(row) else "",
            accuracy_name=self.accuracy_name,
        )
        self.board.write_note(note.markdown, trial)

    def _draw(self, trial: FrozenTrial, row: TrialRecord) -> str:
        """Attach a trial's drawing and spec if missing; return the drawing's URL path."""
        drawing_name, spec_name = f"trial_{row.number}.svg", f"trial_{row.number}.yaml"
        if not (self.board.has(drawing_name, trial) and self.board.has(spec_name, trial)):
            arch = replace(self.decode(trial), name=f"trial_{row.number}")
            study = self.board.study.study_name
            where = {"study": study, **self.provenance, "trial": row.number, "arch_id": row.arch_id}
            self.board.attach(spec_name, dump_spec(arch, where).encode(), trial)
            self.board.attach(drawing_name, trial_drawing(arch, row, self.predictor), trial)
        return self.board.address(drawing_name, trial)


def publish_study(
    notes: TrialNotes,
    report: StudyReport,
    *,
    noted: Sequence[TrialRecord],
    caption: str,
    best: Sequence[Sequence[str]],
    reading: Sequence[str],
    plot: tuple[str, str],
    files: Collection[str],
) -> None:
    """Publish the notes of a study and its ``noted`` trials to the dashboard.

    ``caption`` and ``best``: caption and cells of the table of winners. ``reading``, ``plot``: as in ``StudyNote``.
    ``files``: names of the study's attachments; other attachments are removed. The up-to-date mark is written last.
    """
    board = notes.board
    board.mark("")  # until all is written: an update that is ended early must be made again
    left_out = notes.publish(noted)
    note = StudyNote(
        title=report.title,
        summary=report.summary,
        command=report.command,
        warnings=report.warnings,
        facts=[*report.facts, *([("notes", left_out)] if left_out else [])],
        caption=caption,
        best=best,
        reading=reading,
        plot=plot,
    )
    board.write_note(note.markdown)
    board.set_facts(note.short_facts)
    board.remove_except(files)
    board.mark(study_state(report.rows))


def noted_trials(rows: Sequence[TrialRecord], always: Collection[int]) -> list[int]:
    """Numbers of the trials that get a note, ascending.

    Those of ``always``, the newest, and the newest that failed.
    """
    failed = [row.number for row in rows if row.outcome is Outcome.FAILED]
    newest = [row.number for row in rows[-NEWEST:]]
    return sorted({*always, *newest, *failed[-NEWEST_FAILED:]})


def trial_drawing(arch: ArchSpec, row: TrialRecord, predictor: LatencyPredictor) -> bytes:
    """SVG file of a trial's network, UTF-8 encoded."""
    times = dict(predictor.layer_ms(arch))
    return standalone(winner_drawing(Winner(label=arch.name, arch=arch, row=row, latency_by_path=times))).encode()


def trial_link(study: optuna.Study, number: int) -> str:
    """Markdown link to a trial in the dashboard."""
    return link(f"trial {number}", f"/dashboard/studies/{study_id(study)}/trials?numbers={number}")


def is_up_to_date(study: optuna.Study, artifacts: Path) -> bool:
    """Whether the dashboard notes cover all ended trials of ``study``."""
    return DashboardBoard.of(study, artifacts).is_marked(study_state(trial_records(study)))


def study_state(rows: Sequence[TrialRecord]) -> str:
    """State of a study's progress, which changes with every ended trial."""
    return outcome_counts_text([row for row in rows if row.outcome is not Outcome.RUNNING])


def _published(trials: Collection[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials if PUBLISHED in trial.user_attrs and trial.state.is_finished()]
