"""A grid after its last training: the answer, the family, tables, plots, report, and what is printed about them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import TrialState
from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.core.console import print_lines
from nas.core.files import write_bytes_atomically, write_text_atomically
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.context import ScalingContext, scaling_context
from nas.methods.scaling.dashboard import write_scaling_notes
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.family_files import FamilyMember, members_of, write_members
from nas.methods.scaling.plots import Cost, cost_plot, rules_plot, surface_plot
from nas.methods.scaling.preflight import design_notes
from nas.methods.scaling.ranking.ranking import Ranking, rank_networks, ranking_to_csv
from nas.methods.scaling.ranking.table_lines import TableLayout, table_layout, table_sentences
from nas.methods.scaling.report_data import ScalingReport, render_scaling_report
from nas.methods.scaling.session import ScalingSession
from nas.methods.scaling.table_plots import lines_plot, matrix_plot
from nas.methods.scaling.terminal import (
    TABLE_AXES,
    cells_table,
    closing_lines,
    network_noun,
    ranks_table,
    request_text,
    scaling_kind,
)
from nas.methods.scaling.trial_attributes import LABEL_ATTRIBUTE, accuracies_of
from nas.reporting.plots.axes import Canvas
from nas.reporting.run_facts import run_facts
from nas.study.manifest import REPORT_FILE, StudyManifest
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import Outcome, records_to_csv


def conclude_scaling(session: ScalingSession, study: optuna.Study, console: Console) -> Ranking:
    """Write answer, family, tables, plots and report of all that the study holds, and print the answer."""
    context = session.context(study)
    answer = _answer(context, study)
    write_members(answer.members, session.plan.folder, _provenance(context, study))
    report = _write_tables(context, study, answer)
    write_scaling_notes(context, study, report)
    if session.is_complete(study):
        session.evaluator.forget_all()
    plan, found = session.plan, answer.found
    console.print(cells_table(plan, answer.table) if answer.table else ranks_table(plan, found))
    print_lines(console, *answer.said, *found.way, *closing_lines(plan, answer.members, trial_records(study)))
    return found


def render_scaling(plan: ScalingPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
    """Write tables, plots and report of ``study`` as it is now, at work or not; the report's path.

    Nothing is trained or written into the study, no images are loaded, and a family is left to the end of the race.
    Raises: NasError.
    """
    context = scaling_context(plan, manifest, study)
    _write_tables(context, study, _answer(context, study))
    return plan.folder / REPORT_FILE


def refresh_scaling_notes(plan: ScalingPlan, manifest: StudyManifest, study: optuna.Study) -> None:
    """As ``render_scaling``, and bring what a dashboard shows of ``study`` up to date."""
    context = scaling_context(plan, manifest, study)
    write_scaling_notes(context, study, _write_tables(context, study, _answer(context, study)))


def study_ranking(entries: Design, study: optuna.Study) -> Ranking:
    """How the networks of ``study`` rank by what it holds now."""
    return rank_networks(entries, accuracies_of(study), _closed(study))


class _Answer(NamedTuple):
    """What a study found: where its networks stand, their table if it is of one, all of it in words, the family."""

    found: Ranking
    table: TableLayout | None
    said: list[str]
    members: list[FamilyMember]


def _answer(context: ScalingContext, study: optuna.Study) -> _Answer:
    entries = context.entries
    found = study_ranking(entries, study)
    table = table_layout(entries, found) if context.plan.is_table else None
    said = [*found.sentences(), *(table_sentences(table, found) if table else ())]
    return _Answer(found, table, said, _family(context, found))


def _write_tables(context: ScalingContext, study: optuna.Study, answer: _Answer) -> ScalingReport:
    """Write all that is made of a study's trials but the family; what the report says."""
    folder = context.plan.folder
    write_text_atomically(folder / "networks.csv", ranking_to_csv(answer.found.everybody))
    write_text_atomically(folder / "trials.csv", records_to_csv(trial_records(study)))
    plots = _plots(context.plan, answer.found, answer.table)
    for name, (_, plot) in plots.items():
        write_text_atomically(folder / f"{name}.svg", plot.svg)
        write_bytes_atomically(folder / f"{name}.png", plot.png())
    report = _report(context, study, answer, {caption: plot.svg for caption, plot in plots.values()})
    write_text_atomically(folder / REPORT_FILE, render_scaling_report(report))
    return report


def _closed(study: optuna.Study) -> dict[str, tuple[Outcome, str]]:
    """How a network's training ended without an accuracy, by label."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.PRUNED, TrialState.FAIL))
    known = {outcome.value: outcome for outcome in (Outcome.STOPPED, Outcome.FAILED)}
    return {
        trial.user_attrs[LABEL_ATTRIBUTE]: (known[trial.user_attrs["outcome"]], trial.user_attrs.get("reason", ""))
        for trial in ended
        if trial.user_attrs.get("outcome") in known
    }


def _family(context: ScalingContext, found: Ranking) -> list[FamilyMember]:
    """The family of the best triple; what is no grid has none."""
    if found.best is None:
        return []

    def latency_ms(arch: ArchSpec) -> float:
        return context.predictor.predict(arch).latency_ms

    triple = found.best.entry.grown.compound
    return members_of(found.baseline.entry.arch, triple, context.plan.rules, latency_ms) if triple else []


def _plots(plan: ScalingPlan, found: Ranking, table: TableLayout | None) -> dict[str, tuple[str, Canvas]]:
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


def _report(context: ScalingContext, study: optuna.Study, answer: _Answer, plots: dict[str, str]) -> ScalingReport:
    plan, entries = context.plan, context.entries
    proxy = context.proxy_of(entries.baseline.arch)
    facts = (
        ("baseline", f"{plan.baseline.name}, {entries.baseline.arch.arch_id}"),
        ("asked", f"{request_text(plan)}, limits {plan.constraints}"),
        ("rounding", ", ".join(f"{name} {value}" for name, value in asdict(plan.rules).items())),
        ("data", f"{plan.data.name}: {context.images}"),
        ("proxy of the baseline", proxy.realised_note),
        ("training", f"epochs {plan.proxy.epochs}, {plan.proxy.optimizer}, batch {plan.proxy.batch_size}"),
        ("race", _race(plan)),
        *run_facts(plan, context.predictor, context.versions, study),
    )
    rows = trial_records(study)  # before the labels: a study at work may have one more the next moment
    labels = {trial.number: trial.user_attrs[LABEL_ATTRIBUTE] for trial in study.get_trials(deepcopy=False)}
    return ScalingReport(
        title=f"{plan.name}: {scaling_kind(plan)}",
        command=plan.command,
        facts=facts,
        summary=" ".join(answer.said),
        standings=answer.found,
        notes=tuple(design_notes(plan, entries, proxy)),
        plots=plots,
        members=tuple(answer.members),
        trainings=tuple((labels[row.number], row) for row in rows),
        noun=network_noun(plan),
    )


def _race(plan: ScalingPlan) -> str:
    finalists = "" if plan.compare else f", {plan.race.finalists} finalists"
    return f"{'up to ' if finalists else ''}{plan.race.seeds} seeds{finalists}"


def _provenance(context: ScalingContext, study: optuna.Study) -> dict[str, Any]:
    plan, versions = context.plan, dict(context.versions)
    return {"study": study.study_name, "data": plan.data.name, "command": plan.command, "versions": versions}
