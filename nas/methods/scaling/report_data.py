"""Report data of a scaling study: from its trials to the files of the report."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from nas.arch.spec import ArchSpec
from nas.core.files import write_bytes_atomically, write_text_atomically
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.context import ScalingContext
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.family_files import FamilyMember, members_of
from nas.methods.scaling.plots.networks import Cost, cost_plot, rules_plot, surface_plot
from nas.methods.scaling.plots.tables import lines_plot, matrix_plot
from nas.methods.scaling.preflight import design_notes
from nas.methods.scaling.ranking.columns import ranking_to_csv
from nas.methods.scaling.ranking.noise import pooled_noise
from nas.methods.scaling.ranking.ranking import Ranking, rank_networks
from nas.methods.scaling.ranking.rounds import rank_means
from nas.methods.scaling.ranking.table_lines import TableLayout, table_layout, table_sentences
from nas.methods.scaling.report_page import ScalingReport, render_scaling_report
from nas.methods.scaling.terminal import TABLE_AXES, network_noun, request_text, scaling_kind
from nas.methods.scaling.trial_attributes import LABEL_ATTRIBUTE, accuracies_of, labels_by_number
from nas.reporting.plots.axes import Canvas
from nas.reporting.study_report import write_report
from nas.study.context import Facts
from nas.study.manifest import REPORT_FILE
from nas.study.trial_attributes import trial_records
from nas.study.trial_record import Outcome


def scaling_report(context: ScalingContext, study: optuna.Study) -> ScalingReport:
    """Assemble the report of ``study`` as of now."""
    plan, entries = context.plan, context.entries
    rows = trial_records(study)  # before the labels: a running study may get another trial at any moment
    ranking = study_ranking(entries, study)
    layout = table_layout(entries, ranking) if plan.is_table else None
    return ScalingReport(
        title=f"{plan.name}: {scaling_kind(plan)}",
        command=plan.command,
        facts=_facts(context, study),
        rows=tuple(rows),
        ranking=ranking,
        layout=layout,
        sentences=(*ranking.sentences(), *(table_sentences(layout, ranking) if layout else ())),
        notes=tuple(design_notes(plan, entries, context.proxy_of(entries.baseline.arch))),
        plots=_plots(plan, ranking, layout),
        members=tuple(_family(context, ranking)),
        labels=labels_by_number(study),
        noun=network_noun(plan),
        dataset=context.dataset,
    )


def study_ranking(entries: Design, study: optuna.Study) -> Ranking:
    """Ranking of the networks of ``study`` by the trials that it holds now."""
    return rank_networks(entries, accuracies_of(study), _closed(study))


def write_scaling_report(report: ScalingReport, folder: Path) -> Path:
    """Write tables, plots and report into ``folder``; the report's path.

    The files are ``networks.csv``, ``trials.csv``, the plots as SVG and PNG, and ``report.html``.
    """
    write_text_atomically(folder / "networks.csv", ranking_to_csv(report.ranking.all_networks))
    for name, (_, plot) in report.plots.items():
        write_text_atomically(folder / f"{name}.svg", plot.svg)
        write_bytes_atomically(folder / f"{name}.png", plot.png())
    return write_report(report, render_scaling_report(report), folder / REPORT_FILE)


def _facts(context: ScalingContext, study: optuna.Study) -> Facts:
    plan, baseline = context.plan, context.entries.baseline.arch
    return (
        ("baseline", f"{plan.baseline.name}, {baseline.arch_id}"),
        ("request", f"{request_text(plan)}, limits {plan.constraints}"),
        ("rounding", "; ".join(plan.rules.summary).removeprefix("rounding: ")),
        context.data_fact,
        ("proxy of the baseline", context.proxy_of(baseline).realised_note),
        context.training_fact,
        ("race", _race(plan)),
        *context.run_facts(study),
    )


def _race(plan: ScalingPlan) -> str:
    finalists = "" if plan.compare else f", {plan.race.finalists} finalists"
    return f"{'up to ' if finalists else ''}{plan.race.seeds} seeds{finalists}"


def _closed(study: optuna.Study) -> dict[str, tuple[Outcome, str]]:
    """How trainings without an accuracy ended, by network label."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.PRUNED, TrialState.FAIL))
    known = {outcome.value: outcome for outcome in (Outcome.STOPPED, Outcome.FAILED)}
    return {
        trial.user_attrs[LABEL_ATTRIBUTE]: (known[trial.user_attrs["outcome"]], trial.user_attrs.get("reason", ""))
        for trial in ended
        if trial.user_attrs.get("outcome") in known
    }


def _family(context: ScalingContext, ranking: Ranking) -> list[FamilyMember]:
    """Family by the best triple; empty unless the study is a grid."""
    if ranking.best is None:
        return []

    def latency_ms(arch: ArchSpec) -> float:
        return context.predictor.predict(arch).latency_ms

    triple = ranking.best.entry.scaled.compound
    return members_of(ranking.baseline.entry.arch, triple, context.plan.rules, latency_ms) if triple else []


def _plots(plan: ScalingPlan, ranking: Ranking, table: TableLayout | None) -> dict[str, tuple[str, Canvas]]:
    """Caption and plot by file name."""
    costs: dict[str, tuple[str, str, Cost]] = {
        "macs": ("multiply-adds", "MACs, M", lambda one: one.entry.candidate.measures["macs_m"]),
        "latency": ("latency", "predicted latency, ms", lambda one: one.entry.latency.latency_ms),
    }
    if table:
        over = {
            name: (f"Accuracy over {cost}", lines_plot(table, ranking, value, name=name, axis=axis))
            for name, (cost, axis, value) in costs.items()
        }
        return {**over, "table": (f"Accuracy by {TABLE_AXES[plan.compare[0]]}", matrix_plot(table, ranking))}
    over = {
        name: (f"Accuracy over {cost}", cost_plot(ranking, value, name=name, axis=axis))
        for name, (cost, axis, value) in costs.items()
    }
    if plan.compare:
        return {"rules": (f"Accuracy by rule at x{plan.growth:g} {plan.target}", rules_plot(ranking)), **over}
    return {**over, "surface": ("Accuracy by alpha, beta and gamma", surface_plot(ranking))}


def best_network_facts(study: optuna.Study) -> list[dict[str, Any]]:
    """Network of the highest mean accuracy as plain data, named as in the report.

    Of stepwise expansion a network of an earlier step may be the best.
    """
    accuracies = accuracies_of(study)
    result = rank_means(accuracies, pooled_noise(accuracies))
    if result is None:
        return []
    values = accuracies[result.best]
    trials = study.get_trials(deepcopy=False)
    attributes = next(trial.user_attrs for trial in trials if trial.user_attrs.get(LABEL_ATTRIBUTE) == result.best)
    return [
        {
            "name": result.best,
            "arch_id": attributes.get("arch_id"),
            "accuracy": fmean(values),
            "latency_ms": attributes.get("latency_ms"),
            "seeds": len(values),
        }
    ]
