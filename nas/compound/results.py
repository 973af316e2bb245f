"""A grid after its last training: the answer, the family, tables, plots, report, and what is printed about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

import optuna
from optuna.trial import TrialState
from rich.console import Console

from nas import __version__
from nas.arch.files import write_bytes_atomically, write_text_atomically
from nas.arch.spec import ArchSpec
from nas.compound.exhibits import show_compound
from nas.compound.growth import notes
from nas.compound.lines import Layout, layout, sentences
from nas.compound.members import Member, members_of, write_members
from nas.compound.plan import CompoundPlan
from nas.compound.plots import Cost, cost_plot, rules_plot, surface_plot
from nas.compound.report import CompoundReport, render_report
from nas.compound.session import Session, prepare
from nas.compound.standing import Standings, standings, to_csv
from nas.compound.table_plots import lines_plot, matrix_plot
from nas.compound.told import TABLE_AXES, asked, cells_table, closing, kind_of, noun_of, print_lines, ranks_table
from nas.compound.trials import LABEL, accuracies_of
from nas.latency.predictor import error_text
from nas.study.canvas import Canvas
from nas.study.rows import Outcome
from nas.study.rows import to_csv as trials_to_csv
from nas.study.trials import to_rows
from nas.study.work import Work

_VERSIONS: Final = ("torch", "timm", "optuna", "onnxruntime")


def conclude(session: Session, study: optuna.Study, console: Console) -> Standings:
    """Write answer, family, tables, plots and report of all that the study holds, and print the answer."""
    folder, entries = session.plan.folder, session.entries(study)
    found = standings(entries, accuracies_of(study), _closed(study))
    table = layout(entries, found) if session.plan.is_table else None
    said = [*found.sentences(), *(sentences(table, found) if table else ())]
    members = _family(session, found)
    write_members(members, folder, _provenance(session, study))
    write_text_atomically(folder / "networks.csv", to_csv(found.everybody))
    write_text_atomically(folder / "trials.csv", trials_to_csv(to_rows(study)))
    plots = _plots(session.plan, found, table)
    for name, (_, plot) in plots.items():
        write_text_atomically(folder / f"{name}.svg", plot.svg)
        write_bytes_atomically(folder / f"{name}.png", plot.png())
    drawn = {caption: plot.svg for caption, plot in plots.values()}
    report = _report(session, study, found, " ".join(said), members, drawn)
    write_text_atomically(folder / "report.html", render_report(report))
    show_compound(session, study, report)
    if session.is_complete(study):
        session.evaluator.forget_all()
    console.print(cells_table(session.plan, table) if table else ranks_table(session.plan, found))
    print_lines(console, [*said, *found.way, *closing(session.plan, members, to_rows(study))])
    return found


COMPOUND: Final = Work(prepare, conclude)


def _closed(study: optuna.Study) -> dict[str, tuple[Outcome, str]]:
    """How a network's training ended without an accuracy, by label."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.PRUNED, TrialState.FAIL))
    known = {outcome.value: outcome for outcome in (Outcome.STOPPED, Outcome.FAILED)}
    return {
        trial.user_attrs[LABEL]: (known[trial.user_attrs["outcome"]], trial.user_attrs.get("reason", ""))
        for trial in ended
        if trial.user_attrs.get("outcome") in known
    }


def _family(session: Session, found: Standings) -> list[Member]:
    """The family of the best triple; what is no grid has none."""
    if found.best is None:
        return []

    def latency_ms(arch: ArchSpec) -> float:
        return session.predictor.predict(arch).latency_ms

    triple = found.best.entry.grown.compound
    return members_of(found.baseline.entry.arch, triple, session.plan.rules, latency_ms) if triple else []


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


def _report(
    session: Session,
    study: optuna.Study,
    found: Standings,
    summary: str,
    members: Sequence[Member],
    plots: dict[str, str],
) -> CompoundReport:
    plan, data, entries = session.plan, session.data, session.entries(study)
    proxy = session.evaluator.proxy(entries.baseline.arch)
    facts = (
        ("baseline", f"{plan.baseline.name}, {entries.baseline.arch.arch_id}"),
        ("asked", f"{asked(plan)}, limits {plan.constraints}"),
        ("rounding", ", ".join(f"{name} {value}" for name, value in asdict(plan.rules).items())),
        ("data", f"{plan.data.name}: {len(data.train_labels)} train and {len(data.val_labels)} validation images, "
                 f"{data.classes} classes, {data.resolution_px} px"),
        ("proxy of the baseline", proxy.realised_note),
        ("training", f"epochs {plan.proxy.epochs}, {plan.proxy.optimizer}, batch {plan.proxy.batch_size}"),
        ("race", _race(plan)),
        ("device", str(session.predictor.device)),
        ("latency predictor", error_text(session.predictor)),
        *((name, version(name)) for name in _VERSIONS),
    )  # fmt: skip
    labels = {trial.number: trial.user_attrs[LABEL] for trial in study.get_trials(deepcopy=False)}
    return CompoundReport(
        title=f"{plan.name}: {kind_of(plan)}",
        command=plan.command,
        facts=facts,
        summary=summary,
        standings=found,
        notes=tuple(notes(plan, entries, proxy)),
        plots=plots,
        members=tuple(members),
        trainings=tuple((labels[row.number], row) for row in to_rows(study)),
        noun=noun_of(plan),
    )


def _race(plan: CompoundPlan) -> str:
    finalists = "" if plan.compare else f", {plan.race.finalists} finalists"
    return f"{'up to ' if finalists else ''}{plan.race.seeds} seeds{finalists}, seed {plan.study.seed}"


def _provenance(session: Session, study: optuna.Study) -> dict[str, Any]:
    plan = session.plan
    versions = {"nas": __version__, **{name: version(name) for name in _VERSIONS}}
    return {"study": study.study_name, "data": plan.data.name, "command": plan.command, "versions": versions}
