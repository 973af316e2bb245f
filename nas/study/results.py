"""A search after its last trial: winners, table, report and what is printed about them."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import optuna
from rich.console import Console
from rich.table import Table

from nas import __version__
from nas.arch.errors import NasError
from nas.arch.files import write_text_atomically
from nas.latency.predictor import error_text
from nas.study.artifacts import ARTIFACTS
from nas.study.exhibits import show_search
from nas.study.measuring import measure_rows
from nas.study.plan import SearchPlan
from nas.study.report import ReportData, Winner, plot, render_report
from nas.study.rows import Outcome, TrialRow, counts, to_csv
from nas.study.session import Session, points, prepare
from nas.study.trials import PUBLISHED, to_rows
from nas.study.units import decimal, interval, shown_path
from nas.study.winners import Source, choose, write_winners
from nas.study.work import Work

_PAIRS_SHOWN: Final = 20
_VERSIONS: Final = ("torch", "timm", "optuna", "onnxruntime")


def conclude(session: Session, study: optuna.Study, console: Console) -> list[Winner]:
    """Write winners, table and report of all that the study holds, and print where they are."""
    plan, rows = session.plan, to_rows(study)
    source = Source(
        pricer=session.pricer,
        evaluator=session.evaluator,
        predictor=session.predictor,
        weights_dir=plan.folder / "weights",
        provenance=_provenance(session, study),
    )
    chosen = _measured(choose(rows, plan.objective), session, study, console)
    rows = to_rows(study)  # again, with what the winners measured
    winners = write_winners(chosen, plan.folder / "winners", source)
    kept = {row.arch_id for row in chosen}
    for path in (plan.folder / "weights").glob("*.safetensors"):
        if path.stem not in kept:
            path.unlink()
    if session.is_complete(study):
        session.evaluator.forget_all()
    write_text_atomically(plan.folder / "trials.csv", to_csv(rows))
    report = _report(session, study, rows, winners)
    drawn = plot(report)
    write_text_atomically(plan.folder / "pareto.svg", drawn)
    write_text_atomically(plan.folder / "report.html", render_report(report, drawn))
    show_search(study, report, session.pricer, plan.folder, plan.runs_dir / ARTIFACTS)
    _print_results(plan, report, console)
    return winners


def _measured(rows: list[TrialRow], session: Session, study: optuna.Study, console: Console) -> list[TrialRow]:
    """The winners' rows with their measured latency; results are worth having on a machine too busy to measure."""
    try:
        with console.status("measuring the winners"):
            return measure_rows(rows, study, session.pricer, session.measure)
    except NasError as error:
        console.print(f"the winners were not measured: {error}", highlight=False, markup=False, soft_wrap=True)
        return rows


def _provenance(session: Session, study: optuna.Study) -> dict[str, Any]:
    plan = session.plan
    return {
        "space": plan.space.name,
        "study": study.study_name,
        "data": plan.data.name,
        "seed": plan.study.seed,
        "command": plan.command,
        "versions": {
            "nas": __version__,
            **{name: version(name) for name in _VERSIONS},
            "python": platform.python_version(),
        },
    }


def _report(session: Session, study: optuna.Study, rows: list[TrialRow], winners: list[Winner]) -> ReportData:
    plan, data = session.plan, session.data
    baselines = {
        trial.number: trial.user_attrs[PUBLISHED]
        for trial in study.get_trials(deepcopy=False)
        if PUBLISHED in trial.user_attrs
    }
    facts = (
        ("space", f"{plan.space.name}, {points(plan.space)} points"),
        ("data", f"{plan.data.name}: {len(data.train_labels)} train and {len(data.val_labels)} validation images, "
                 f"{data.classes} classes, {data.resolution_px} px"),
        ("proxy", winners[0].proxy_note if winners else "none trained"),
        ("training", f"epochs {plan.proxy.epochs}, {plan.proxy.optimizer}, batch {plan.proxy.batch_size}"),
        ("device", str(session.predictor.device)),
        ("latency predictor", error_text(session.predictor)),
        ("limits", str(plan.constraints)),
        ("sampler", f"{plan.sampler.name}, seed {plan.study.seed}"),
        ("stopping early", plan.pruner.name),
        *((name, version(name)) for name in _VERSIONS),
    )  # fmt: skip
    reward = None
    if plan.objective.kind == "mnasnet":
        trained = [row for row in rows if row.outcome is Outcome.TRAINED]
        reward = {row.number: plan.objective.reward_of(row) for row in trained}
    return ReportData(
        title=f"Search {plan.name}",
        command=plan.command,
        facts=facts,
        rows=tuple(rows),
        winners=tuple(winners),
        baselines=baselines,
        objective=plan.objective.kind,
        limit_ms=plan.constraints.latency_ms,
        reward=reward,
        refined=plan.latency.refine,
    )


def _print_results(plan: SearchPlan, report: ReportData, console: Console) -> None:
    table = Table(title=f"winners of {plan.name}", title_justify="left")
    rewarded = plan.objective.kind == "mnasnet"
    reward = ("reward",) if rewarded else ()
    for column in ("", *reward, "accuracy", "predicted ms", "measured", "M MACs", "M params", "file"):
        table.add_column(column, justify="left" if column in ("", "file") else "right", overflow="fold")
    for winner in report.winners:
        row = winner.row
        table.add_row(
            winner.label,
            *([f"{plan.objective.reward_of(row):.4f}"] if rewarded else []),
            f"{100 * (row.accuracy or 0):.1f}%",
            decimal(row.predicted_ms),
            decimal(row.measured_ms),
            f"{row.macs_m:.1f}",
            f"{row.params_m:.2f}",
            Path(winner.spec_file or "").stem,
        )
    if report.winners:
        console.print(table)
    _print_agreement(report, console)
    done = ", ".join(f"{count} {outcome}" for outcome, count in counts(report.rows).items() if count)
    console.print(
        f"{done or 'no trials'}; results in {shown_path(plan.folder)}", highlight=False, markup=False, soft_wrap=True
    )
    console.print(f"open {shown_path(plan.folder / 'report.html')}", highlight=False, markup=False, soft_wrap=True)


def _print_agreement(report: ReportData, console: Console) -> None:
    """How the predictions compare with what was measured, and what a user should know of it."""
    agreement = report.agreement
    if not agreement.pairs:
        return
    table = Table(title="predicted against measured", title_justify="left")
    for column in ("", "predicted ms", "90% interval", "measured ms", "spread", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for pair in agreement.pairs[:_PAIRS_SHOWN]:
        table.add_row(
            pair.name,
            decimal(pair.predicted_ms),
            interval(pair.low_ms, pair.high_ms),
            decimal(pair.measured_ms),
            decimal(pair.spread_ms),
            decimal(pair.ratio, 3),
        )
    console.print(table)
    hidden = len(agreement.pairs) - _PAIRS_SHOWN
    said = [f"{agreement}" + (f"; {hidden} more of them in the report" if hidden > 0 else "")]
    said += [f"{winner.label}: {text}" for winner in report.winners for text in winner.remarks(report.limit_ms)]
    said += [agreement.warning] if agreement.warning else []
    for line in said:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


SEARCH: Final = Work(prepare, conclude)
