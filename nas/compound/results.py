"""A grid after its last training: the answer, the family, tables, plots, report, and what is printed about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from nas import __version__
from nas.arch.files import write_bytes_atomically, write_text_atomically
from nas.arch.spec import ArchSpec
from nas.compound.growth import notes
from nas.compound.members import Member, members_of, write_members
from nas.compound.plots import cost_plot, rules_plot, surface_plot
from nas.compound.report import CompoundReport, render_report
from nas.compound.session import Session, prepare
from nas.compound.standing import Standings, standings, to_csv
from nas.compound.trials import LABEL, accuracies_of
from nas.latency.predictor import error_text
from nas.study.canvas import Canvas
from nas.study.rows import Outcome, counts
from nas.study.rows import to_csv as trials_to_csv
from nas.study.trials import to_rows
from nas.study.units import decimal, shown_path
from nas.study.work import Work

_VERSIONS: Final = ("torch", "timm", "optuna", "onnxruntime")
_SHOWN: Final = 12


def conclude(session: Session, study: optuna.Study, console: Console) -> Standings:
    """Write answer, family, tables, plots and report of all that the study holds, and print the answer."""
    folder, found = session.plan.folder, standings(session.entries, accuracies_of(study), _closed(study))
    members = _family(session, found)
    write_members(members, folder, _provenance(session, study))
    write_text_atomically(folder / "networks.csv", to_csv(found.everybody))
    write_text_atomically(folder / "trials.csv", trials_to_csv(to_rows(study)))
    plots = _plots(session, found)
    for name, (_, plot) in plots.items():
        write_text_atomically(folder / f"{name}.svg", plot.svg)
        write_bytes_atomically(folder / f"{name}.png", plot.png())
    report = _report(session, study, found, members, {caption: plot.svg for caption, plot in plots.values()})
    write_text_atomically(folder / "report.html", render_report(report))
    if session.is_complete(study):
        session.evaluator.forget_all()
    _print_answer(session, study, found, members, console)
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
    """The family of the best triple; a comparison of rules has none."""
    if found.best is None or session.plan.compare:
        return []

    def latency_ms(arch: ArchSpec) -> float:
        return session.predictor.predict(arch).latency_ms

    baseline = session.entries.baseline.arch
    return members_of(baseline, found.best.entry.compound, session.plan.rules, latency_ms)


def _plots(session: Session, found: Standings) -> dict[str, tuple[str, Canvas]]:
    """Caption and plot by the name of their files."""
    kind = "predicted latency, ms"
    plots = {
        "macs": (
            "Accuracy over multiply-adds",
            cost_plot(found, lambda one: one.entry.candidate.measures["macs_m"], name="macs", axis="MACs, M"),
        ),
        "latency": (
            "Accuracy over latency",
            cost_plot(found, lambda one: one.entry.latency.latency_ms, name="latency", axis=kind),
        ),
    }
    if session.plan.compare:
        plan = session.plan
        return {"rules": (f"Accuracy by rule at x{plan.growth:g} {plan.target}", rules_plot(found)), **plots}
    return {**plots, "surface": ("Accuracy by alpha, beta and gamma", surface_plot(found))}


def _report(
    session: Session, study: optuna.Study, found: Standings, members: Sequence[Member], plots: dict[str, str]
) -> CompoundReport:
    plan, data, entries = session.plan, session.data, session.entries
    proxy = session.evaluator.proxy(entries.baseline.arch)
    facts = (
        ("baseline", f"{plan.baseline.name}, {entries.baseline.arch.arch_id}"),
        ("target", f"{plan.target} x{plan.growth:g}, limits {plan.constraints}"),
        ("rounding", ", ".join(f"{name} {value}" for name, value in asdict(plan.rules).items())),
        ("data", f"{plan.data.name}: {len(data.train_labels)} train and {len(data.val_labels)} validation images, "
                 f"{data.classes} classes, {data.resolution_px} px"),
        ("proxy of the baseline", proxy.realised_note),
        ("training", f"epochs {plan.proxy.epochs}, {plan.proxy.optimizer}, batch {plan.proxy.batch_size}"),
        ("race", f"up to {plan.race.seeds} seeds, {plan.race.finalists} finalists, seed {plan.study.seed}"),
        ("device", str(session.predictor.device)),
        ("latency predictor", error_text(session.predictor)),
        *((name, version(name)) for name in _VERSIONS),
    )  # fmt: skip
    labels = {trial.number: trial.user_attrs[LABEL] for trial in study.get_trials(deepcopy=False)}
    kind = "comparison of scaling rules" if plan.compare else "compound grid"
    return CompoundReport(
        title=f"{plan.name}: {kind}",
        command=plan.command,
        facts=facts,
        standings=found,
        notes=tuple(notes(entries, proxy)),
        plots=plots,
        members=tuple(members),
        trainings=tuple((labels[row.number], row) for row in to_rows(study)),
        comparison=bool(plan.compare),
    )


def _provenance(session: Session, study: optuna.Study) -> dict[str, Any]:
    plan = session.plan
    versions = {"nas": __version__, **{name: version(name) for name in _VERSIONS}}
    return {"study": study.study_name, "data": plan.data.name, "command": plan.command, "versions": versions}


def _print_answer(
    session: Session, study: optuna.Study, found: Standings, members: Sequence[Member], console: Console
) -> None:
    plan = session.plan
    table = Table(title=f"{plan.name}: the best of {len(found.ranked)}", title_justify="left")
    columns = ("rule" if plan.compare else "triple", "accuracy, %", "seeds", "MACs x", "ms", "p", "verdict")
    for column in columns:
        left = column in (columns[0], "verdict")
        table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=column != "verdict")
    for one in (*found.ranked[:_SHOWN], found.baseline):
        growth, latency_ms = one.entry.grown.macs_growth, one.entry.latency.latency_ms
        figures = (f"{growth:.2f}", decimal(latency_ms), decimal(one.p_value, 3))
        table.add_row(one.entry.label, one.percent, str(len(one.accuracies)), *figures, one.verdict)
    console.print(table)
    for sentence in found.sentences():
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    if members:
        console.print(
            f"family phi 0 to {members[-1].phi} by {members[0].grown.compound}: {shown_path(plan.folder / 'family')}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    done = ", ".join(f"{count} {outcome}" for outcome, count in counts(to_rows(study)).items() if count)
    results, page = shown_path(plan.folder), shown_path(plan.folder / "report.html")
    for line in (f"{done or 'no trainings'}; results in {results}", f"open {page}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
