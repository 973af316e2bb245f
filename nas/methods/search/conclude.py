"""A search after its last trial: winners, table, report and what is printed about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import optuna
from rich.console import Console
from rich.table import Table

from nas.core.console import print_lines
from nas.core.errors import NasError
from nas.core.formatting import decimal, interval, shown_path
from nas.methods.search.config import SearchPlan
from nas.methods.search.context import SearchContext, search_context
from nas.methods.search.dashboard import write_search_notes
from nas.methods.search.report_data import search_report, write_search_report
from nas.methods.search.session import SearchSession
from nas.methods.search.winner_files import WinnerSource, existing_winners, write_winners
from nas.reporting.dashboard.board import ARTIFACTS
from nas.reporting.search_report import SearchReport, Winner
from nas.study.manifest import REPORT_FILE, StudyManifest
from nas.study.measurement import measure_rows
from nas.study.objective import choose_winners
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import TrialRecord, count_outcomes

_PAIRS_SHOWN: Final = 20


def conclude_search(session: SearchSession, study: optuna.Study, console: Console) -> list[Winner]:
    """Write winners, table and report of all that the study holds, and print where they are."""
    plan, rows = session.plan, trial_records(study)
    context = session.context
    source = WinnerSource(
        context=context,
        data=session.data,
        weights_dir=plan.folder / "weights",
        provenance=_provenance(session, study),
    )
    chosen = _measured(choose_winners(rows, plan.objective), session, study, console)
    rows = trial_records(study)  # again, with what the winners measured
    winners = write_winners(chosen, plan.folder / "winners", source)
    kept = {row.arch_id for row in chosen}
    for path in (plan.folder / "weights").glob("*.safetensors"):
        if path.stem not in kept:
            path.unlink()
    if session.is_complete(study):
        session.evaluator.discard_checkpoints()
    report = search_report(context, study, rows, winners)
    write_search_report(report, plan.folder)
    write_search_notes(study, report, session.pricer, plan.folder, plan.runs_dir / ARTIFACTS)
    _print_results(plan, report, console)
    return winners


def render_search(plan: SearchPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
    """Write table, plot and report of ``study`` as it is now, at work or not; the report's path.

    Nothing is trained, measured or written into the study, and no images are loaded. Raises: NasError.
    """
    return write_search_report(_report_again(search_context(plan, manifest), study), plan.folder)


def refresh_search_notes(plan: SearchPlan, manifest: StudyManifest, study: optuna.Study) -> None:
    """As ``render_search``, and bring what a dashboard shows of ``study`` up to date."""
    context = search_context(plan, manifest)
    report = _report_again(context, study)
    write_search_report(report, plan.folder)
    write_search_notes(study, report, context.pricer, plan.folder, plan.runs_dir / ARTIFACTS)


def _report_again(context: SearchContext, study: optuna.Study) -> SearchReport:
    plan, rows = context.plan, trial_records(study)
    winners = existing_winners(choose_winners(rows, plan.objective), plan.folder / "winners", context)
    return search_report(context, study, rows, winners)


def _measured(
    rows: list[TrialRecord], session: SearchSession, study: optuna.Study, console: Console
) -> list[TrialRecord]:
    """The winners' rows with their measured latency; results are worth having on a machine too busy to measure."""
    try:
        with console.status("measuring the winners"):
            return measure_rows(rows, study, session.pricer, session.measure)
    except NasError as error:
        print_lines(console, f"the winners were not measured: {error}")
        return rows


def _provenance(session: SearchSession, study: optuna.Study) -> dict[str, Any]:
    plan = session.plan
    return {
        "space": plan.space.name,
        "study": study.study_name,
        "data": plan.data.name,
        "seed": plan.study.seed,
        "command": plan.command,
        "versions": session.context.versions,
    }


def _print_results(plan: SearchPlan, report: SearchReport, console: Console) -> None:
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
    done = ", ".join(f"{count} {outcome}" for outcome, count in count_outcomes(report.rows).items() if count)
    print_lines(
        console,
        f"{done or 'no trials'}; results in {shown_path(plan.folder)}",
        f"open {shown_path(plan.folder / REPORT_FILE)}",
    )


def _print_agreement(report: SearchReport, console: Console) -> None:
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
    print_lines(console, *said)
