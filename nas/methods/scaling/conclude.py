"""A grid after its last training: the answer, the family, tables, plots, report, and what is printed about them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import optuna
from optuna.trial import TrialState
from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.core.console import say
from nas.core.files import write_bytes_atomically, write_text_atomically
from nas.methods.scaling.config import CompoundPlan
from nas.methods.scaling.context import Background, background_of
from nas.methods.scaling.dashboard import show_compound
from nas.methods.scaling.family_files import Member, members_of, write_members
from nas.methods.scaling.is_done import is_done
from nas.methods.scaling.plots import Cost, cost_plot, rules_plot, surface_plot
from nas.methods.scaling.preflight import notes
from nas.methods.scaling.ranking.ranking import Standings, standings, to_csv
from nas.methods.scaling.ranking.table_lines import Layout, layout, sentences
from nas.methods.scaling.report_data import CompoundReport, render_report
from nas.methods.scaling.session import Session, prepare
from nas.methods.scaling.table_plots import lines_plot, matrix_plot
from nas.methods.scaling.terminal import TABLE_AXES, asked, cells_table, closing, kind_of, noun_of, ranks_table
from nas.methods.scaling.trial_attributes import LABEL, accuracies_of
from nas.reporting.plots.axes import Canvas
from nas.reporting.run_facts import run_facts
from nas.study.kind import Work
from nas.study.manifest import REPORT_FILE, StudyManifest
from nas.study.trial_attributes import to_rows
from nas.study.trial_record import Outcome
from nas.study.trial_record import to_csv as trials_to_csv


def conclude(session: Session, study: optuna.Study, console: Console) -> Standings:
    """Write answer, family, tables, plots and report of all that the study holds, and print the answer."""
    background = session.background(study)
    answer = _answer(background, study)
    write_members(answer.members, session.plan.folder, _provenance(background, study))
    report = _write_tables(background, study, answer)
    show_compound(background, study, report)
    if session.is_complete(study):
        session.evaluator.forget_all()
    plan, found = session.plan, answer.found
    console.print(cells_table(plan, answer.table) if answer.table else ranks_table(plan, found))
    say(console, *answer.said, *found.way, *closing(plan, answer.members, to_rows(study)))
    return found


def tell_again(plan: CompoundPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
    """Write tables, plots and report of ``study`` as it is now, at work or not; the report's path.

    Nothing is trained or written into the study, no images are loaded, and a family is left to the end of the race.
    Raises: NasError.
    """
    background = background_of(plan, manifest, study)
    _write_tables(background, study, _answer(background, study))
    return plan.folder / REPORT_FILE


def show_again(plan: CompoundPlan, manifest: StudyManifest, study: optuna.Study) -> None:
    """As ``tell_again``, and bring what a dashboard shows of ``study`` up to date."""
    background = background_of(plan, manifest, study)
    show_compound(background, study, _write_tables(background, study, _answer(background, study)))


COMPOUND: Final = Work(prepare, conclude, is_done)


class _Answer(NamedTuple):
    """What a study found: where its networks stand, their table if it is of one, all of it in words, the family."""

    found: Standings
    table: Layout | None
    said: list[str]
    members: list[Member]


def _answer(background: Background, study: optuna.Study) -> _Answer:
    entries = background.entries
    found = standings(entries, accuracies_of(study), _closed(study))
    table = layout(entries, found) if background.plan.is_table else None
    said = [*found.sentences(), *(sentences(table, found) if table else ())]
    return _Answer(found, table, said, _family(background, found))


def _write_tables(background: Background, study: optuna.Study, answer: _Answer) -> CompoundReport:
    """Write all that is made of a study's trials but the family; what the report says."""
    folder = background.plan.folder
    write_text_atomically(folder / "networks.csv", to_csv(answer.found.everybody))
    write_text_atomically(folder / "trials.csv", trials_to_csv(to_rows(study)))
    plots = _plots(background.plan, answer.found, answer.table)
    for name, (_, plot) in plots.items():
        write_text_atomically(folder / f"{name}.svg", plot.svg)
        write_bytes_atomically(folder / f"{name}.png", plot.png())
    report = _report(background, study, answer, {caption: plot.svg for caption, plot in plots.values()})
    write_text_atomically(folder / REPORT_FILE, render_report(report))
    return report


def _closed(study: optuna.Study) -> dict[str, tuple[Outcome, str]]:
    """How a network's training ended without an accuracy, by label."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.PRUNED, TrialState.FAIL))
    known = {outcome.value: outcome for outcome in (Outcome.STOPPED, Outcome.FAILED)}
    return {
        trial.user_attrs[LABEL]: (known[trial.user_attrs["outcome"]], trial.user_attrs.get("reason", ""))
        for trial in ended
        if trial.user_attrs.get("outcome") in known
    }


def _family(background: Background, found: Standings) -> list[Member]:
    """The family of the best triple; what is no grid has none."""
    if found.best is None:
        return []

    def latency_ms(arch: ArchSpec) -> float:
        return background.predictor.predict(arch).latency_ms

    triple = found.best.entry.grown.compound
    return members_of(found.baseline.entry.arch, triple, background.plan.rules, latency_ms) if triple else []


def _plots(plan: CompoundPlan, found: Standings, table: Layout | None) -> dict[str, tuple[str, Canvas]]:
    """Caption and plot by the name of their files."""
    costs: dict[str, tuple[str, str, Cost]] = {
        "macs": ("multiply-adds", "MACs, M", lambda one: one.entry.candidate.measures["macs_m"]),
        "latency": ("latency", "predicted latency, ms", lambda one: one.entry.latency.latency_ms),
    }
    if table:
        over = {
            name: (f"Accuracy over {cost}", lines_plot(table, found, value, name=name, axis=axis))
            for name, (cost, axis, value) in costs.items()
        }
        return {**over, "table": (f"Accuracy by {TABLE_AXES[plan.compare[0]]}", matrix_plot(table, found))}
    over = {
        name: (f"Accuracy over {cost}", cost_plot(found, value, name=name, axis=axis))
        for name, (cost, axis, value) in costs.items()
    }
    if plan.compare:
        return {"rules": (f"Accuracy by rule at x{plan.growth:g} {plan.target}", rules_plot(found)), **over}
    return {**over, "surface": ("Accuracy by alpha, beta and gamma", surface_plot(found))}


def _report(background: Background, study: optuna.Study, answer: _Answer, plots: dict[str, str]) -> CompoundReport:
    plan, entries = background.plan, background.entries
    proxy = background.proxy_of(entries.baseline.arch)
    facts = (
        ("baseline", f"{plan.baseline.name}, {entries.baseline.arch.arch_id}"),
        ("asked", f"{asked(plan)}, limits {plan.constraints}"),
        ("rounding", ", ".join(f"{name} {value}" for name, value in asdict(plan.rules).items())),
        ("data", f"{plan.data.name}: {background.images}"),
        ("proxy of the baseline", proxy.realised_note),
        ("training", f"epochs {plan.proxy.epochs}, {plan.proxy.optimizer}, batch {plan.proxy.batch_size}"),
        ("race", _race(plan)),
        *run_facts(plan, background.predictor, background.versions, study),
    )
    rows = to_rows(study)  # before the labels: a study at work may have one more the next moment
    labels = {trial.number: trial.user_attrs[LABEL] for trial in study.get_trials(deepcopy=False)}
    return CompoundReport(
        title=f"{plan.name}: {kind_of(plan)}",
        command=plan.command,
        facts=facts,
        summary=" ".join(answer.said),
        standings=answer.found,
        notes=tuple(notes(plan, entries, proxy)),
        plots=plots,
        members=tuple(answer.members),
        trainings=tuple((labels[row.number], row) for row in rows),
        noun=noun_of(plan),
    )


def _race(plan: CompoundPlan) -> str:
    finalists = "" if plan.compare else f", {plan.race.finalists} finalists"
    return f"{'up to ' if finalists else ''}{plan.race.seeds} seeds{finalists}"


def _provenance(background: Background, study: optuna.Study) -> dict[str, Any]:
    plan, versions = background.plan, dict(background.versions)
    return {"study": study.study_name, "data": plan.data.name, "command": plan.command, "versions": versions}
