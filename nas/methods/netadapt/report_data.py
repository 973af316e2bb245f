"""Report data of an adaptation: from its trials to the files of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import optuna

from nas.analysis.latency_agreement import latency_pair
from nas.analysis.significance import chance_level
from nas.core.files import write_bytes_atomically, write_text_atomically
from nas.core.formatting import plural
from nas.methods.netadapt.context import NetAdaptContext
from nas.methods.netadapt.results.columns import MEASURE_UNITS, layers_csv, proposals_csv, steps_csv
from nas.methods.netadapt.results.comparison import accuracy_change
from nas.methods.netadapt.results.layers import LayerChange, layer_changes
from nas.methods.netadapt.results.plots import RecordCost, layers_plot, staircase_plot
from nas.methods.netadapt.results.report_page import NetAdaptReport, render_netadapt_report
from nas.methods.netadapt.results.steps import AdaptationStep, adaptation_steps, kept_rows, open_proposals
from nas.reporting.plots.axes import Canvas
from nas.reporting.study_report import write_report
from nas.study.context import Facts
from nas.study.manifest import REPORT_FILE
from nas.study.trial_attributes import count_finished, trial_records

ADAPTED_FILE: Final = "adapted"  # the stem of the names of the spec and the weights
_COSTS: Final[dict[str, tuple[str, str]]] = {  # plot name: cost in words
    "latency_ms": ("latency", "predicted latency"),
    "macs_m": ("macs", "multiply-adds"),
    "params_m": ("params", "parameters"),
    "peak_memory_mb": ("memory", "peak memory of activations"),
}


def netadapt_report(context: NetAdaptContext, study: optuna.Study) -> NetAdaptReport:
    """Assemble the report of ``study`` as of now."""
    plan, measure, criterion = context.plan, context.plan.target.measure, context.plan.netadapt.criterion
    rows = context.records(study)  # before the trials: a running study may get another one at any moment
    steps = adaptation_steps(study, rows, measure, criterion)
    last = steps[-1] if steps else None
    adapted = context.files.arch(last.step) if last else None
    changes = layer_changes(context.seed, adapted) if adapted and len(steps) > 1 else ()
    return NetAdaptReport(
        title=f"{plan.name}: NetAdapt",
        command=plan.command,
        facts=_facts(context, study),
        rows=tuple(rows),
        progress_text=_progress_text(context, study, steps),
        dataset=context.dataset,
        seed=context.seed,
        adapted=adapted,
        layer_ms=dict(context.predictor.layer_ms(adapted)) if adapted else {},
        measure=measure,
        seed_cost=context.cost(context.seed),
        target=context.target,
        adapted_cost=context.cost(adapted) if adapted else None,
        steps=steps,
        open_proposals=open_proposals(study, rows, measure, criterion),
        change=accuracy_change(study, steps[0].row, steps[-1].row) if len(steps) > 1 else None,
        chance=chance_level(rows),
        latency=tuple(pair for one in _ends(steps) if (pair := latency_pair(one.row, network_name(one.step)))),
        layers=changes,
        plots=_plots(context, steps, changes),
        class_names=context.images.class_names,
        files={caption: path.name for caption, path in adapted_paths(plan.folder).items()},
    )


def write_netadapt_report(report: NetAdaptReport, folder: Path) -> Path:
    """Write tables, plots and report into ``folder``; the report's path.

    The files are ``steps.csv``, ``proposals.csv``, ``layers.csv``, ``trials.csv``, the plots as SVG and PNG, and
    ``report.html``.
    """
    write_text_atomically(folder / "steps.csv", steps_csv(report.steps))
    write_text_atomically(folder / "proposals.csv", proposals_csv(report.all_proposals, report.measure))
    write_text_atomically(folder / "layers.csv", layers_csv(report.layers))
    for name, (_, plot) in report.plots.items():
        write_text_atomically(folder / f"{name}.svg", plot.svg)
        write_bytes_atomically(folder / f"{name}.png", plot.png())
    return write_report(report, render_netadapt_report(report), folder / REPORT_FILE)


def adapted_facts(study: optuna.Study, val_images: int | None = None) -> list[dict[str, Any]]:
    """Network of the last step as plain data; empty before the seed network is there.

    ``val_images``: the number of validation images, where trials do not say it.
    """
    rows = kept_rows(study, trial_records(study, val_images))
    if not rows:
        return []
    last = rows[-1]
    return [
        {
            "name": network_name(len(rows) - 1),
            "arch_id": last.arch_id,
            "accuracy": last.accuracy,
            "standard_error": last.standard_error,
            "majority_accuracy": last.majority_accuracy,
            "latency_ms": last.latency_ms,
            "measured_ms": last.measured_ms,
            "steps": len(rows) - 1,
            "seed_accuracy": rows[0].accuracy,
            "seed_latency_ms": rows[0].latency_ms,
        }
    ]


def network_name(step: int) -> str:
    """Name of the network of the last ``step`` taken."""
    return ADAPTED_FILE if step else "seed network"


def adapted_paths(folder: Path) -> dict[str, Path]:
    """Files of the adapted network that exist in ``folder``: ``spec`` and ``weights``."""
    found = {"spec": folder / f"{ADAPTED_FILE}.yaml", "weights": folder / f"{ADAPTED_FILE}.safetensors"}
    return {caption: path for caption, path in found.items() if path.is_file()}


def _ends(steps: tuple[AdaptationStep, ...]) -> tuple[AdaptationStep, ...]:
    """First and last step; one of them alone if there is no other."""
    return steps if len(steps) < 2 else (steps[0], steps[-1])


def _progress_text(context: NetAdaptContext, study: optuna.Study, steps: tuple[AdaptationStep, ...]) -> str:
    if context.is_over(study):
        return ""
    ended = f"{plural(count_finished(study), 'trial')} ended"
    return f"{plural(len(steps) - 1, 'step')} taken, {ended}" if len(steps) > 1 else ended


def _facts(context: NetAdaptContext, study: optuna.Study) -> Facts:
    plan, seed = context.plan, context.seed
    rules, measure = plan.netadapt, plan.target.measure
    unit = MEASURE_UNITS[measure]
    together = "; a step joins its best proposals until it cuts as much" if rules.step > rules.delta else ""
    return (
        ("seed network", f"{seed.name}, {seed.arch_id}, {seed.resolution_px} px"),
        ("its weights", plan.weights or f"trained first, {plural(plan.proxy.epochs, 'epoch')}, {plan.proxy.optimizer}"),
        ("target", f"{plan.target}: {measure} at most {context.target:.4g} {unit}"),
        ("proposal", f"cuts at least {100 * rules.delta:g}% of the seed network's {measure}"),
        ("step", f"cuts at least {100 * rules.step:g}%{together}"),
        ("what shrinks", ", ".join(rules.kinds)),
        ("order of proposals", _CRITERIA[rules.criterion]),
        ("fine-tuning", _fine_tuning(context)),
        context.data_fact,
        *((context.class_fact,) if context.images.class_names else ()),
        *context.run_facts(study),
    )


_CRITERIA: Final = {
    "ratio": "increase of the loss per reduction (MobileNetV3, section 4.2, with the loss in the place of accuracy)",
    "loss": "loss (NetAdapt)",
}


def _fine_tuning(context: NetAdaptContext) -> str:
    rules, batch = context.plan.netadapt, context.plan.proxy.batch_size
    return (
        f"{plural(rules.fine_tuned, 'network')} a step, each on batches {rules.batches:,} x {batch} images at lr "
        f"{rules.lr:g}; loss of proposals on up to {rules.loss_images:,} other train images"
    )


def _plots(
    context: NetAdaptContext, steps: tuple[AdaptationStep, ...], changes: tuple[LayerChange, ...]
) -> dict[str, tuple[str, Canvas]]:
    """Caption and plot by file name."""
    plots = {}
    for measure in dict.fromkeys(("latency_ms", "macs_m", context.plan.target.measure)):
        name, words = _COSTS[measure]
        plots[name] = (
            f"Accuracy over {words}, step by step",
            staircase_plot(
                steps,
                _cost_of(measure),
                name=name,
                axis=f"{words}, {MEASURE_UNITS[measure]}",
                target=context.target if measure == context.plan.target.measure else None,
                measured=measure == "latency_ms",
            ),
        )
    for field, words in (("hidden", "hidden channels"), ("channels", "output channels")):
        if changes:
            caption = f"{words.capitalize()} of the blocks before and after"
            plots[field] = (caption, layers_plot(changes, field, name=field, axis=words))
    return plots


def _cost_of(measure: str) -> RecordCost:
    return lambda row: getattr(row, measure) or 0.0
