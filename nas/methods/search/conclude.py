"""Conclusion of a search: winners, table, report, and the terminal summary."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

import optuna
from rich.console import Console

from nas.core.console import announced, print_lines
from nas.core.errors import NasError
from nas.core.formatting import plural
from nas.methods.search.baselines.pairing import pair_with_winners
from nas.methods.search.baselines.training import baseline_networks, train_baselines
from nas.methods.search.config import SearchPlan
from nas.methods.search.context import SearchContext
from nas.methods.search.dashboard import write_search_notes
from nas.methods.search.fine_tuning import FINE_TUNED_FOLDER, fine_tune_winners
from nas.methods.search.report_data import search_report, write_search_report
from nas.methods.search.session import SearchSession
from nas.methods.search.trials.finalists import early_end_text
from nas.methods.search.winner_files import WinnerSource, write_winners
from nas.reporting.class_accuracy import lowest_class
from nas.reporting.columns import print_columns
from nas.reporting.dashboard.board import ARTIFACTS
from nas.reporting.search_columns import AGREEMENT_COLUMNS, shown_winner_columns
from nas.reporting.search_report import SearchReport, Winner
from nas.reporting.study_report import closing_lines
from nas.study.manifest import REPORT_FILE
from nas.study.objective import choose_winners
from nas.study.trial_attributes import latency_scale
from nas.study.trial_record import TrialRecord

_PAIRS_SHOWN: Final = 20
_WINNERS_SHOWN: Final = 3
_WINNER_COLUMNS: Final = (
    "name", "group", "reward", "accuracy_with_error", "estimate_with_error", "fine_tuned_with_error", "epochs",
    "predicted_ms", "measured_ms", "macs_m", "params_m", "cpu_s", "files",
)  # fmt: skip
_DISPENSABLE: Final = ("params_m", "macs_m", "predicted_ms", "files", "cpu_s")


def conclude_search(session: SearchSession, study: optuna.Study, console: Console) -> list[Winner]:
    """Write winners, table and report of ``study``, and print where they are."""
    plan = session.plan
    context = session.context
    is_measured = _measure_winners(choose_winners(context.records(study), plan.objective), session, study, console)
    rows = context.records(study)  # with the winners' measurements, and corrected by them
    if is_measured:
        winning = choose_winners(rows, plan.objective)
        fine_tune_winners(winning, session, study, console)
        train_baselines(session, study, console)
        pair_with_winners(winning, session, study, console)
        rows = context.records(study)
    chosen = choose_winners(rows, plan.objective)
    context = replace(context, pricer=replace(session.pricer, latency_scale=latency_scale(study)))
    source = WinnerSource(
        context=context,
        data=session.data,
        weights_dir=plan.folder / "weights",
        fine_tuned_dir=plan.folder / FINE_TUNED_FOLDER,
        provenance=_provenance(context, study),
    )
    winners = write_winners(chosen, plan.folder / "winners", source)
    _discard_files(session, study, {row.arch_id for row in chosen})
    report = search_report(context, study, rows, winners)
    write_search_report(report, plan.folder)
    facts, artifacts = context.images.input_facts, plan.runs_dir / ARTIFACTS
    write_search_notes(study, report, session.pricer, plan.folder, artifacts, facts)
    if text := early_end_text(study, plan.estimator, plan.study, plan.objective):
        print_lines(console, f"the search {text}")
    _print_results(plan, report, console)
    return winners


def _discard_files(session: SearchSession, study: optuna.Study, winner_ids: Collection[str]) -> None:
    """Delete weights of networks that cannot win any more, and checkpoints at the end.

    By estimate a trained network may lose to one that turns out worse when it is trained.
    """
    is_complete = session.is_complete(study)
    if is_complete or not session.plan.estimator.is_scoring:
        folder = session.plan.folder
        for path in (*(folder / "weights").glob("*.safetensors"), *(folder / FINE_TUNED_FOLDER).glob("*.*")):
            if path.stem not in winner_ids:
                path.unlink()
    if is_complete:
        session.evaluator.discard_checkpoints()


def _measure_winners(rows: list[TrialRecord], session: SearchSession, study: optuna.Study, console: Console) -> bool:
    """Measure the winners' latency, if it can be measured; False if interrupted.

    A machine too busy to measure must not cost the user the results, and neither must an interrupt.
    """
    if session.measure is None or not rows:
        return True
    try:
        besides = baseline_networks(session) if session.is_complete(study) else []
        more = f" and {plural(len(besides), 'baseline')}" if besides else ""
        with announced(console, f"measuring the latency of {plural(len(rows), 'winner')}{more}"):
            session.measure_networks(rows, study, lambda text: print_lines(console, text), besides=besides)
    except NasError as error:
        print_lines(console, f"latency of the winners was not measured: {error}")
    except KeyboardInterrupt:
        print_lines(console, "latency of the winners was not measured: interrupted; the same command measures it")
        return False
    return True


def _provenance(context: SearchContext, study: optuna.Study) -> dict[str, Any]:
    """Provenance of the winners' files, in the order in which they list it."""
    plan, shared = context.plan, context.provenance(study.study_name)
    first = {"space": plan.space.name, "study": shared.pop("study"), "data": shared.pop("data")}
    return {**first, "seed": plan.study.seed, **shared}


def _print_results(plan: SearchPlan, report: SearchReport, console: Console) -> None:
    if report.winners:
        columns = shown_winner_columns(report.table, report.reward, *_WINNER_COLUMNS)
        title = f"winners of {plan.name}{', and baselines' if report.baselines else ''}"
        print_columns(console, title, columns, report.table, dispensable=_DISPENSABLE)
    _print_agreement(report, console)
    print_lines(console, *map(report.score.named, _remarks(report.winners, report.class_names)))
    print_lines(console, *filter(None, (report.unfinished, report.verdict, report.decision, *report.warnings)))
    print_lines(console, *report.baseline_verdicts, *filter(None, (report.baseline_note,)))
    if report.model:
        print_lines(console, *filter(None, (report.score.named(report.model.effects_text), report.model.gain_text)))
    print_lines(console, *closing_lines(report.rows, plan.folder / REPORT_FILE))


def _remarks(winners: Sequence[Winner], class_names: Sequence[str]) -> list[str]:
    """Which winners are published networks; of the first ones, what else is known."""
    published = [f"{winner.label} is the published {winner.published}" for winner in winners if winner.published]
    lowest = [(winner.label, lowest_class(winner.row, class_names)) for winner in winners[:_WINNERS_SHOWN]]
    tuned = [(winner.label, winner.fine_tuning) for winner in winners[:_WINNERS_SHOWN]]
    return [
        *published,
        *(f"accuracy of {label}: {text}" for label, text in tuned if text),
        *(f"lowest class of {label}: {text}" for label, text in lowest if text),
    ]


def _print_agreement(report: SearchReport, console: Console) -> None:
    """Print predicted against measured latency, with remarks and warnings."""
    agreement = report.agreement
    if not agreement.pairs:
        return
    print_columns(
        console,
        "predicted against measured",
        AGREEMENT_COLUMNS,
        agreement.pairs[:_PAIRS_SHOWN],
        dispensable=("measured_spread_ms", "latency_interval_ms", "measured_error_ms"),
    )
    omitted = len(agreement.pairs) - _PAIRS_SHOWN
    lines = [f"{agreement}" + (f"; {omitted} more in the report" if omitted > 0 else "")]
    lines += [f"{winner.label}: {text}" for winner in report.winners for text in winner.remarks(report.limit_ms)]
    lines += [agreement.warning] if agreement.warning else []
    print_lines(console, *lines)
