"""Report data of a search: from the study's trials to the files of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import optuna

from nas.analysis.history import busy_hours, front_progress, learning_curves
from nas.analysis.proxy_validation import longer_trainings, validation_command
from nas.arch.files import load_spec_file
from nas.arch.heads import latency_scope
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.formatting import plural
from nas.estimators.settings import EstimatorSettings
from nas.latency.store import calibration_command
from nas.methods.search.baselines.records import baseline_records
from nas.methods.search.config import SearchPlan
from nas.methods.search.context import SearchContext
from nas.methods.search.guided.model_summary import summarize_model
from nas.methods.search.latency_check import correction_text
from nas.methods.search.measurement_notes import measurement_remarks
from nas.methods.search.trials.finalists import early_end_text, most_trials
from nas.methods.search.trials.prior_evaluations import stored_counts
from nas.methods.search.trials.warm_start import best_records
from nas.reporting.baseline_verdict import baseline_verdicts
from nas.reporting.columns import plain_record
from nas.reporting.search_columns import LabelledRecord, select_winner_columns, winner_label
from nas.reporting.search_decision import winner_groups
from nas.reporting.search_report import SearchReport, Winner, render_search_report, search_plot
from nas.reporting.study_report import write_report
from nas.study.candidates import space_size_text
from nas.study.context import Facts
from nas.study.manifest import REPORT_FILE
from nas.study.objective import ObjectiveSettings, choose_winners
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import study_identity
from nas.study.trial_attributes import PUBLISHED, count_finished, latency_scale, trial_records
from nas.study.trial_record import Outcome, TrialRecord, ranked_networks

_FACTS: Final = (
    "group", "accuracy", "standard_error", "estimated_accuracy", "estimate_error", "val_loss", "majority_accuracy",
    "inherited_accuracy", "inherited_error", "fine_tuned_accuracy", "fine_tuned_error", "latency_ms", "measured_ms",
)  # fmt: skip
_BASELINE_FACTS: Final = (
    "epochs", "accuracy", "standard_error", "val_loss", "majority_accuracy", "latency_ms", "measured_ms",
    "measured_error_ms", "macs_m", "params_m", "peak_memory_mb", "cpu_s",
)  # fmt: skip
_PROXY: Final = "trained proxy"
_FILES: Final[Mapping[str, str]] = {
    "spec (block strings)": ".yaml",
    "spec (coefficients)": ".efficientnet.yaml",
    "Python, timm alone": ".py",
    _PROXY: ".proxy.yaml",
    "proxy weights": ".proxy.safetensors",
    "fine-tuned proxy weights": ".finetuned.safetensors",
}


def existing_winners(rows: Sequence[TrialRecord], folder: Path, context: SearchContext) -> list[Winner]:
    """Winners from ``rows``, each with those of its files that exist in ``folder``.

    While a search is running there are no files. Raises: NasError if a row's genotype no longer decodes to its network.
    """
    stems = _winner_stems(folder)
    return [
        _winner_of(winner_label(place), row, stems.get(row.arch_id), folder, context) for place, row in enumerate(rows)
    ]


def search_report(
    context: SearchContext, study: optuna.Study, rows: Sequence[TrialRecord], winners: Sequence[Winner]
) -> SearchReport:
    """Assemble the report of ``study`` from its trials ``rows`` and its ``winners``."""
    plan, trials = context.plan, study.get_trials(deepcopy=False)
    trained = [row for row in rows if row.outcome is Outcome.TRAINED]
    ranked = ranked_networks(rows)
    reward = {row.number: plan.objective.reward_of(row) for row in ranked} if _is_rewarded(context) else None
    longer = longer_trainings(study, rows)
    is_validated = any(one.kendall_tau is not None for one in longer)
    groups = winner_groups(winners, rows)
    published = {trial.number: trial.user_attrs[PUBLISHED] for trial in trials if PUBLISHED in trial.user_attrs}
    retrained = {row.arch_id for row in best_records(rows, plan.objective)}
    retrained |= {row.arch_id for row in trained if row.number in published}
    return SearchReport(
        title=f"Search {plan.name}",
        command=plan.command,
        facts=_facts(context, study, winners),
        rows=tuple(rows),
        progress_text=_progress_text(plan, study),
        winners=tuple(replace(winner, group=groups.get(winner.label, "")) for winner in winners),
        baselines=tuple(baseline_records(study)),
        published=published,
        objective=plan.objective.kind,
        limit_ms=plan.constraints.latency_ms,
        reward=reward,
        refined=plan.latency.refine,
        latency_scale=latency_scale(study),
        recalibration=calibration_command(context.predictor.device, plan.runs_dir),
        measurement_remarks=measurement_remarks(study, context.predictor, plan.latency),
        progress=front_progress(rows, busy_hours(trials), reward),
        class_names=context.images.class_names,
        curves=learning_curves(study, plan.objective),
        model=summarize_model(
            rows,
            replace(context.pricer, latency_scale=latency_scale(study)),
            plan.objective,
            seed=plan.study.seed,
            has_prices=not plan.latency.refine,
        ),
        longer_trainings=longer,
        estimator=plan.estimator.name if plan.estimator.is_scoring else "",
        task=plan.objective.task,
        validation_command=""
        if is_validated
        else validation_command(plan.command, plan.name, plan.proxy.epochs, max(len(retrained), 1)),
        dataset=context.dataset,
    )


def write_search_report(report: SearchReport, folder: Path) -> Path:
    """Write ``trials.csv``, ``pareto.svg`` and ``report.html``; the report's path."""
    drawn = search_plot(report)
    write_text_atomically(folder / "pareto.svg", drawn)
    return write_report(report, render_search_report(report, drawn), folder / REPORT_FILE)


def _progress_text(plan: SearchPlan, study: optuna.Study) -> str:
    finished, wanted = count_finished(study), most_trials(study, plan.estimator, plan.study)
    return f"{finished:,} of {plural(wanted, 'trial')}" if finished < wanted else ""


def _is_rewarded(context: SearchContext) -> bool:
    return context.plan.objective.kind == "mnasnet"


def _facts(context: SearchContext, study: optuna.Study, winners: Sequence[Winner]) -> Facts:
    plan = context.plan
    sampler, pruner = plan.sampler, plan.pruner
    stopping = "none" if pruner.name == "none" else f"{pruner.name}, from epoch {pruner.min_epochs} on"
    facts = (
        ("space", f"{plan.space.name}, {space_size_text(plan.space)} points"),
        context.data_fact,
        context.image_size_fact,
        context.class_fact,
        ("task", "" if plan.objective.task == "classification" else plan.objective.task),
        ("head", ", ".join(f"{name} {value}" for name, value in plan.head.given.items())),
        ("objective", _objective(plan.objective)),
        ("limits", str(plan.constraints)),
        ("latency is of", latency_scope(plan.task)),
        ("proxy", winners[0].proxy_note if winners else "none trained"),
        context.training_fact,
        ("estimator", _estimator(plan.estimator)),
        ("sampler", f"{sampler.name}, {sampler.startup} first draws"),
        ("earlier evaluations", stored_counts(study)),
        ("stopping early", stopping),
        ("trials wanted", f"{plan.study.n_trials}"),
        ("baselines", ", ".join(plan.study.baselines)),
        ("search", early_end_text(study, plan.estimator, plan.study, plan.objective)),
        ("latency correction", correction_text(study)),
        *context.run_facts(study),
    )
    return tuple((name, value) for name, value in facts if value)


def _estimator(settings: EstimatorSettings) -> str:
    if not settings.is_scoring:
        return ""
    checks = settings.most_final_trainings - settings.finalists
    short = [f"training of {plural(settings.short_epochs, 'epoch')}"] if settings.short_epochs else []
    scores = ", ".join([*short, *settings.zero_cost])
    return (
        f"{settings.name}{f' ({scores})' if scores else ''}, calibrated by {settings.anchors} anchors; "
        f"{plural(settings.finalists, 'finalist')} and {plural(checks, 'random network')} trained after the search"
    )


def _objective(settings: ObjectiveSettings) -> str:
    if settings.kind == "pareto":
        return f"{settings.task_score.name} up, latency down"
    exponents = [f"{name} {value:g}" for name in ("alpha", "beta") if (value := getattr(settings, name)) is not None]
    return ", ".join([f"MnasNet's reward around {settings.target_ms:g} ms, {settings.form}", *exponents])


def baseline_facts(study: optuna.Study) -> list[dict[str, Any]]:
    """Baselines of ``study`` as plain data, by the names of the winners' figures."""
    columns = select_winner_columns(None, "name", "published", "arch_id", *_BASELINE_FACTS)
    return [plain_record(columns, baseline) for baseline in baseline_records(study)]


def baseline_conclusions(study: optuna.Study, val_images: int | None) -> tuple[str, ...]:
    """How the winners of ``study`` compare with each of its baselines, in words."""
    baselines = baseline_records(study)
    if not baselines:
        return ()
    rows, winners = _labelled_winners(study, val_images)
    return baseline_verdicts(baselines, winners, rows)


def _labelled_winners(study: optuna.Study, val_images: int | None) -> tuple[list[TrialRecord], list[LabelledRecord]]:
    """All trials of ``study``, and its winners by its own objective."""
    identity = study_identity(system_attributes(study))
    settings = {key.removeprefix("objective."): value for key, value in identity.items() if "objective." in key}
    objective = from_mapping(ObjectiveSettings, settings, "objective")
    rows = trial_records(study, val_images)
    chosen = enumerate(choose_winners(rows, objective))
    return rows, [LabelledRecord(label=winner_label(place), row=row) for place, row in chosen]


def winner_facts(study: optuna.Study, val_images: int | None) -> list[dict[str, Any]]:
    """Winners of ``study`` as plain data, in the order of the report."""
    columns = select_winner_columns(None, "name", "trial", "arch_id", *_FACTS)
    rows, winners = _labelled_winners(study, val_images)
    groups = winner_groups(winners, rows)
    return [plain_record(columns, replace(winner, group=groups.get(winner.label, ""))) for winner in winners]


def _winner_stems(folder: Path) -> dict[str, str]:
    """Stems of the winner files in ``folder``, by network id."""
    specs = (path for path in sorted(folder.glob("winner_*.yaml")) if path.stem.count(".") == 0)
    return {load_spec_file(path).provenance["arch_id"]: path.stem for path in specs}


def _winner_of(label: str, row: TrialRecord, stem: str | None, folder: Path, context: SearchContext) -> Winner:
    """Winner from its row and from its files, whose names begin with ``stem``."""
    arch = replace(context.pricer.decode(row.genotype), name=stem or f"trial_{row.number}")
    if arch.arch_id != row.arch_id:
        raise NasError(
            f"trial {row.number}: space {context.plan.space.name!r} decodes its choices to another network now; "
            "its code has changed since; check out the version that made the study."
        )
    paths = {caption: folder / f"{stem}{ending}" for caption, ending in _FILES.items()} if stem else {}
    files = {caption: f"{folder.name}/{path.name}" for caption, path in paths.items() if path.is_file()}
    provenance = load_spec_file(paths[_PROXY]).provenance if _PROXY in files else {}
    proxy = context.proxy_of(arch)
    return Winner(
        label=label,
        arch=arch,
        row=row,
        latency_by_path=dict(context.predictor.layer_ms(arch)),
        proxy_note=proxy.realised_note,
        files=files,
        proxy=proxy.spec,
        sample_logits=tuple(provenance.get("logits_of_ramp", ())),
        published=context.pricer.published_name(row.genotype),
        epochs=None if row.accuracy is None else context.plan.proxy.epochs,
    )
