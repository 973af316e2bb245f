"""Report data of a scaling study: from its trials to the files of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from nas.analysis.significance import ChanceLevel, chance_level
from nas.arch.spec import ArchSpec
from nas.core.files import write_bytes_atomically, write_text_atomically
from nas.core.formatting import plural
from nas.methods.scaling.ask_tell import reopened_race
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.context import ScalingContext
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.family_files import FamilyMember, members_of
from nas.methods.scaling.plots.networks import Cost, cost_plot, rules_plot, surface_plot
from nas.methods.scaling.plots.tables import lines_plot, matrix_plot
from nas.methods.scaling.preflight import design_notes
from nas.methods.scaling.ranking.columns import ranking_to_csv
from nas.methods.scaling.ranking.conclusion import RaceConclusion, RaceEnd, race_conclusion
from nas.methods.scaling.ranking.noise import pooled_noise
from nas.methods.scaling.ranking.ranking import Ranking, error_of_mean, rank_networks
from nas.methods.scaling.ranking.rounds import Accuracies, comparison_scores, next_round, race_tests, rank_means
from nas.methods.scaling.ranking.separation import separation_sentences
from nas.methods.scaling.ranking.table_lines import TableLayout, table_layout, table_sentences
from nas.methods.scaling.report_page import ScalingReport, render_scaling_report
from nas.methods.scaling.settings import STEPWISE, RaceSettings
from nas.methods.scaling.terminal import TABLE_AXES, network_noun, request_text, scaling_kind
from nas.methods.scaling.trial_attributes import (
    LABEL_ATTRIBUTE,
    accuracies_of,
    are_rounds_trained,
    labels_by_number,
    planned_rounds,
    race_rule,
    scores_of,
    val_losses_of,
)
from nas.reporting.class_accuracy import ClassRow, class_rows
from nas.reporting.plots.axes import Canvas
from nas.reporting.study_report import write_report
from nas.study.context import Facts
from nas.study.manifest import REPORT_FILE
from nas.study.trial_attributes import count_finished, trial_records
from nas.study.trial_record import Outcome, TrialRecord


def scaling_report(context: ScalingContext, study: optuna.Study) -> ScalingReport:
    """Assemble the report of ``study`` as of now."""
    plan, entries = context.plan, context.entries
    rows = context.records(study)  # before the labels: a running study may get another trial at any moment
    ranking = study_ranking(entries, study, chance_level(rows))
    layout = table_layout(entries, ranking) if plan.is_table else None
    of_table = table_sentences(layout, ranking) if layout else ()
    return ScalingReport(
        title=f"{plan.name}: {scaling_kind(plan)}",
        command=plan.command,
        facts=_facts(context, study),
        rows=tuple(rows),
        ranking=ranking,
        layout=layout,
        progress_text=_progress_text(context, study),
        by_class=tuple(_by_class(context, ranking, rows, study)),
        sentences=(*ranking.sentences(), *_conclusion(context, study, ranking, rows), *of_table),
        notes=tuple(design_notes(plan, entries, context.proxy_of(entries.baseline.arch))),
        plots=_plots(plan, ranking, layout),
        members=tuple(_family(context, ranking)),
        labels=labels_by_number(study),
        noun=network_noun(plan),
        dataset=context.dataset,
    )


def study_ranking(entries: Design, study: optuna.Study, chance: ChanceLevel | None = None) -> Ranking:
    """Ranking of the networks of ``study`` by the trials that it holds now.

    ``chance``: accuracy of always guessing the largest class.
    """
    accuracies, losses, rule = accuracies_of(study), val_losses_of(study), race_rule(study)
    tests = race_tests(comparison_scores(accuracies, losses, rule), planned_rounds(study), rule)
    return rank_networks(entries, accuracies, _closed(study), chance, val_losses=losses, tests=tests, rule=rule)


def grid_conclusion(study: optuna.Study, race: RaceSettings) -> RaceConclusion:
    """Conclusion of the race of a grid by the trials that ``study`` holds now."""
    is_trained = are_rounds_trained(study)  # first: trainings may end at any moment
    scores, rounds, rule = scores_of(study), planned_rounds(study), race_rule(study)
    labels = [label for label, _ in rounds[0]] if rounds else []
    is_over = is_trained and not next_round(labels, scores, rounds, race, all_seeds=False, rule=rule)
    found = race_conclusion(scores, rounds, race, rule, is_over=is_over)
    is_at_chance = is_over and _is_at_chance(accuracies_of(study), chance_level(trial_records(study)))
    return replace(found, end=RaceEnd.AT_CHANCE, best=None, rivals=()) if is_at_chance else found


def _is_at_chance(accuracies: Accuracies, chance: ChanceLevel | None) -> bool:
    """Whether no network is significantly better than the ``chance`` level."""
    highest = max(map(fmean, accuracies.values()), default=0.0)
    return chance is not None and not chance.is_exceeded(highest, len(accuracies))


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
        context.image_size_fact,
        *((context.class_fact,) if context.images.class_names else ()),
        ("proxy of the baseline", context.proxy_of(baseline).realised_note),
        context.training_fact,
        ("race", _race(plan)),
        ("accuracy and loss", _averaged(plan, study)),
        *context.run_facts(study),
    )


def _averaged(plan: ScalingPlan, study: optuna.Study) -> str:
    """Seeds and epochs that accuracy and validation loss of a network are a mean of."""
    last, epochs = race_rule(study).last_epochs, plan.proxy.epochs
    if last == 1:
        return f"mean over seeds, after the last of {plural(epochs, 'epoch')}"
    return f"mean over seeds and the last {last} of {epochs} epochs; trainings are listed with the last epoch alone"


def _conclusion(
    context: ScalingContext, study: optuna.Study, ranking: Ranking, rows: Sequence[TrialRecord]
) -> list[str]:
    """Whether the best network is known, and what it would take, in words."""
    if context.plan.compare:
        return separation_sentences(ranking, rows)
    if ranking.best is None:
        return []
    times = [row.cpu_s for row in rows if row.cpu_s]
    return grid_conclusion(study, context.plan.race).sentences(fmean(times) if times else None)


def _progress_text(context: ScalingContext, study: optuna.Study) -> str:
    race = reopened_race(context, study)
    return "" if race.is_over else f"{count_finished(study):,} of up to {plural(race.most_trainings, 'training')}"


def _by_class(
    context: ScalingContext, ranking: Ranking, rows: Sequence[TrialRecord], study: optuna.Study
) -> list[ClassRow]:
    """Accuracy by class of the best network and the baseline, over their seeds."""
    best = ranking.best
    if best is None:
        return []
    end, labels = context.entries.end, labels_by_number(study)
    own = end.label if end and best.entry.label == STEPWISE else best.entry.label  # it shares the trainings
    wanted = {best.entry.label: own, ranking.baseline.entry.label: ranking.baseline.entry.label}
    trained = [row for row in rows if row.outcome is Outcome.TRAINED]
    trainings = {name: [row for row in trained if labels[row.number] == label] for name, label in wanted.items()}
    return class_rows(context.images.class_names, trainings)


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


def best_network_facts(study: optuna.Study, val_images: int | None = None) -> list[dict[str, Any]]:
    """Network of the highest mean accuracy as plain data, named as in the report.

    Empty if none is significantly better than always guessing the largest class. Of stepwise expansion a network of an
    earlier step may be the best. ``val_images``: the number of validation images, where trials do not say it.
    """
    accuracies = accuracies_of(study)
    noise, chance = pooled_noise(accuracies), chance_level(trial_records(study))
    scores = scores_of(study)
    tests = race_tests(scores, planned_rounds(study), race_rule(study))
    result = rank_means(scores, pooled_noise(scores), tests)
    if result is None or _is_at_chance(accuracies, chance):
        return []
    values = accuracies[result.best]
    images = chance.images if chance else val_images
    trials = study.get_trials(deepcopy=False)
    attributes = next(trial.user_attrs for trial in trials if trial.user_attrs.get(LABEL_ATTRIBUTE) == result.best)
    return [
        {
            "name": result.best,
            "arch_id": attributes.get("arch_id"),
            "accuracy": fmean(values),
            "standard_error": error_of_mean(noise, values, images),
            "majority_accuracy": chance.accuracy if chance else None,
            "latency_ms": attributes.get("latency_ms"),
            "seeds": len(values),
        }
    ]
