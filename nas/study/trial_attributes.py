"""What a search writes into Optuna's trials and study, and reads back as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final, NamedTuple

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.core.statistics import binomial_error
from nas.estimators.base import Evaluation
from nas.study.candidates import Candidate
from nas.study.objective import ObjectiveSettings
from nas.study.recovery import INTERRUPTED_OUTCOME
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.optuna_private import trial_id
from nas.study.trial_record import COUNTED, FINAL_ROLES, FineTuning, Outcome, Role, TrialRecord

WORKER: Final = "worker"  # user attribute: who took the trial
PUBLISHED: Final = "published"  # user attribute: the name of a published network that is tried first
_BLOCKS: Final = "nas:blocks"  # system attribute: as one of the user's, dashboards make a page of 4,000 px of it
_CLASSES: Final = "nas:classes"  # system attribute: correct and all validation images by class, in label order
_CLASS_SCORES: Final = "nas:class_scores"  # system attribute: scores by class that are no shares, and their errors
_TASK: Final = "nas:task"  # system attribute of a trial whose network does not classify
LATENCY_SCALE: Final = "latency_scale"  # user attribute of the study, and of trials that were told with another than 1
_CHECKED: Final = "measured:"  # and the id of a network; trials cannot be written to once they are finished
_FINE_TUNED: Final = "fine_tuned:"  # and the id of a network: system attribute of the study
ROLE: Final = "role"  # user attribute: why the network of the trial is trained, see ``Role``
_SCORE: Final = "score_"  # and the name of a score: user attribute of a trial
_CLASSIFICATION: Final = "classification"
_METRIC: Final = "metric_"  # and the name of a further figure of a training: user attribute of a trial
_ESTIMATE: Final = ("estimated_accuracy", "estimate_error")
_ACCURACY: Final = ("accuracy", "standard_error", "majority_accuracy", "val_loss", *_ESTIMATE)
# Not "reference_ms", under which older versions recorded the latency of another network.
_PROBE: Final = "speed_probe_ms"
_SPREAD: Final = "measured_spread_ms"
_ERROR: Final = "measured_error_ms"
_MEASURED_MS: Final = "measured_ms"  # written last: with it, the others of ``_LATENCY`` are there
_PREDICTED: Final = ("predicted_ms", "latency_low_ms", "latency_high_ms", "latency_ms")
_LATENCY: Final = (
    "predicted_ms",
    "latency_low_ms",
    "latency_high_ms",
    _SPREAD,
    _ERROR,
    "latency_ms",
    _MEASURED_MS,
)


class MeasuredLatency(NamedTuple):
    """Latency of a network as it ran, with the distance of its quartiles, in ms.

    ``probe_ms``: median duration of the speed probe meanwhile, which tells the machine's speed. ``error_ms``: standard
    error of the latency. None where they are not known.
    """

    latency_ms: float
    spread_ms: float
    probe_ms: float | None = None
    error_ms: float | None = None

    def scaled(self, factor: float) -> MeasuredLatency:
        """The same measurement at another speed of the machine, ``factor`` times as long."""
        error_ms = None if self.error_ms is None else self.error_ms * factor
        return MeasuredLatency(self.latency_ms * factor, self.spread_ms * factor, self.probe_ms, error_ms)


def distributions(parameters: Mapping[str, tuple[Any, ...]]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Optuna's distributions of a space's parameters."""
    return {name: optuna.distributions.CategoricalDistribution(choices) for name, choices in parameters.items()}


def count_finished(study: optuna.Study) -> int:
    """The number of trials of ``study`` that count.

    Trained and scored ones, those stopped early and those that failed by themselves.
    """
    return sum(map(is_counted, study.get_trials(deepcopy=False)))


def count_searched(study: optuna.Study) -> int:
    """``count_finished`` without the trainings of finalists, which follow the search."""
    return sum(is_counted(trial) and not is_final(trial) for trial in study.get_trials(deepcopy=False))


def is_final(trial: FrozenTrial | Trial) -> bool:
    """Whether ``trial`` trains a network again that the search scored."""
    return trial.user_attrs.get(ROLE) in FINAL_ROLES


def is_counted(trial: FrozenTrial) -> bool:
    """Whether ``trial`` is one of ``count_finished``."""
    return trial.state.is_finished() and trial.user_attrs.get("outcome") in COUNTED


def record_candidate(
    trial: Trial, candidate: Candidate, *, has_interval: bool, latency: Mapping[str, float] | None = None
) -> None:
    """Write what is known before training into the trial.

    As scalars that dashboards show, block strings aside.

    A predictor that was never held against measurements has no interval worth showing. ``latency``: what
    ``earlier_measurement`` returns; it replaces what is predicted now. Latencies are stored as the calibration predicts
    them, and corrected when they are read: trials before and after a correction stay comparable.
    """
    facts: dict[str, str | float] = {
        "arch_id": candidate.arch.arch_id,
        **{name: round(value, 6) for name, value in candidate.measures.items()},
        "latency_ms": round(candidate.latency.latency_ms, 6),
    }
    if candidate.latency_scale != 1 or LATENCY_SCALE in trial.user_attrs:  # it may have been queued again
        facts[LATENCY_SCALE] = candidate.latency_scale
    if has_interval:
        facts["latency_low_ms"] = round(candidate.latency.low_ms, 6)
        facts["latency_high_ms"] = round(candidate.latency.high_ms, 6)
    blocks = "; ".join(" ".join(stage) for stage in candidate.arch.strings)
    trial.storage.set_trial_system_attr(trial_id(trial), _BLOCKS, blocks)
    if candidate.arch.task != _CLASSIFICATION:
        trial.storage.set_trial_system_attr(trial_id(trial), _TASK, candidate.arch.task)
    for name, value in {**facts, **(latency or {})}.items():
        trial.set_user_attr(name, value)


def accuracy_facts(evaluation: Evaluation) -> dict[str, float]:
    """Attributes of a finished evaluation: its accuracy, with what it compares with.

    Standard error and accuracy of always guessing the largest class, where the images of each class are known; of a
    network that was only scored its scores alone.
    """
    facts = {"cpu_s": round(evaluation.cpu_s, 2), **score_attributes(evaluation.scores)}
    if evaluation.loss is not None:
        facts["val_loss"] = round(evaluation.loss, 6)
    if evaluation.accuracy is None:
        return facts
    facts["accuracy"] = evaluation.accuracy
    if evaluation.standard_error is not None:
        facts["standard_error"] = round(evaluation.standard_error, 6)
    if evaluation.constant_accuracy is not None:
        facts["majority_accuracy"] = round(evaluation.constant_accuracy, 6)
    facts |= {_METRIC + name: round(value, 6) for name, value in evaluation.metrics.items()}
    images = sum(evaluation.class_images)
    if images:
        facts["standard_error"] = round(binomial_error(evaluation.accuracy, images), 6)
        facts["majority_accuracy"] = round(max(evaluation.class_images) / images, 6)
    return facts


def score_attributes(scores: Mapping[str, float]) -> dict[str, float]:
    """Attributes of a trial that hold the ``scores`` of its network."""
    return {_SCORE + name: float(value) for name, value in scores.items()}


def estimate_attributes(accuracy: float, error: float) -> dict[str, float]:
    """Attributes of a trial that hold its estimated accuracy and standard error."""
    return dict(zip(_ESTIMATE, (round(accuracy, 6), round(error, 6)), strict=True))


def copied_accuracy(trial: FrozenTrial) -> dict[str, float]:
    """Accuracy of a finished evaluation and what it compares with, for a duplicate."""
    return {name: trial.user_attrs[name] for name in _ACCURACY if name in trial.user_attrs}


def class_counts(evaluation: Evaluation) -> dict[str, Any]:
    """System attributes of a trial by class, where known.

    Correct and all images, or scores.
    """
    counts = [list(evaluation.class_correct), list(evaluation.class_images)]
    scores = [
        [None if figure is None else round(figure, 6) for figure in figures]
        for figures in (evaluation.class_scores, evaluation.class_errors)
    ]
    return ({_CLASSES: counts} if evaluation.class_images else {}) | (
        {_CLASS_SCORES: scores} if evaluation.class_scores else {}
    )


def record_measured(trial: Trial, measured: MeasuredLatency) -> None:
    """Replace the predicted latency by the measured one; both are stored."""
    trial.set_user_attr("predicted_ms", trial.user_attrs["latency_ms"])
    for name, value in ((_PROBE, measured.probe_ms), (_ERROR, measured.error_ms)):
        if value is not None:
            trial.set_user_attr(name, round(value, 6))
    trial.set_user_attr(_SPREAD, round(measured.spread_ms, 6))
    trial.set_user_attr("latency_ms", round(measured.latency_ms, 6))
    trial.set_user_attr(_MEASURED_MS, round(measured.latency_ms, 6))


def probed_measurements(study: optuna.Study) -> list[MeasuredLatency]:
    """Measurements of ``study`` at which the machine's speed was told, trials first."""
    trials = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    of_trials = [
        MeasuredLatency(attrs[_MEASURED_MS], attrs[_SPREAD], attrs[_PROBE], attrs.get(_ERROR))
        for attrs in trials
        if _PROBE in attrs and _MEASURED_MS in attrs
    ]
    of_networks = network_measurements(study).values()
    return [*of_trials, *(one for one in of_networks if one.probe_ms is not None)]


def earlier_measurement(study: optuna.Study, arch_id: str) -> dict[str, float]:
    """A network's latency from the first trial that measured it, or empty.

    The prediction is included.
    """
    for trial in study.get_trials(deepcopy=False):
        if trial.user_attrs.get("arch_id") == arch_id and _MEASURED_MS in trial.user_attrs:
            return {name: trial.user_attrs[name] for name in _LATENCY if name in trial.user_attrs}
    return {}


def count_measurements(study: optuna.Study) -> int:
    """The number of measured latencies in ``study``.

    Of trials, and of networks of finished trials.
    """
    measured_trials = sum(_MEASURED_MS in trial.user_attrs for trial in study.get_trials(deepcopy=False))
    return int(measured_trials + sum(name.startswith(_CHECKED) for name in system_attributes(study)))


def record_network_measurement(study: optuna.Study, arch_id: str, measured: MeasuredLatency) -> None:
    """Record the measured latency of a finished trial's network.

    ``trial_records`` puts it into the network's records.
    """
    figures = [value and round(value, 6) for value in measured]
    set_system_attribute(study, _CHECKED + arch_id, figures)


def network_measurements(study: optuna.Study) -> dict[str, MeasuredLatency]:
    """What ``record_network_measurement`` recorded last, by network id."""
    stored = system_attributes(study).items()
    return {name.removeprefix(_CHECKED): MeasuredLatency(*value) for name, value in stored if name.startswith(_CHECKED)}


def record_fine_tuning(study: optuna.Study, arch_id: str, fine_tuning: FineTuning) -> None:
    """Record the fine-tuning of a winner; ``trial_records`` puts it into its records."""
    set_system_attribute(study, _FINE_TUNED + arch_id, asdict(fine_tuning))


def latency_scale(study: optuna.Study) -> float:
    """Factor by which ``study`` corrects the latencies that its calibration predicts.

    1 where nothing is corrected.
    """
    return float(study.user_attrs.get(LATENCY_SCALE, 1.0))


def told_latency_ms(trial: FrozenTrial, objective: ObjectiveSettings) -> float:
    """Latency of ``trial`` in ms that its objective is told.

    On a front that of the calibration, because a common factor does not change a front and trials before and after a
    correction have to compare. Against a target the corrected one.
    """
    attrs = trial.user_attrs
    scale = 1.0 if objective.kind == "pareto" else attrs.get(LATENCY_SCALE, 1.0)
    return float(attrs["latency_ms"] * scale)


def is_abandoned(trial: FrozenTrial) -> bool:
    """Whether ``trial`` was abandoned before its network was known.

    It is part of no table, count or progress.
    """
    return bool(trial.user_attrs.get("outcome") == INTERRUPTED_OUTCOME)


def trial_record(trial: FrozenTrial, scale: float) -> TrialRecord:
    """A trial, queued or abandoned ones aside, as a row of the record.

    ``scale``: ``latency_scale`` of its study, by which predicted latencies are multiplied.
    """
    attrs = trial.user_attrs if scale == 1 else _scaled(trial.user_attrs, scale)
    keys = (
        *_ACCURACY, "latency_ms", "latency_low_ms", "latency_high_ms", "measured_ms", _SPREAD, _ERROR, "macs_m",
        "params_m", "peak_memory_mb", "cpu_s",
    )  # fmt: skip
    correct, images = trial.system_attrs.get(_CLASSES, ((), ()))
    class_scores, class_errors = trial.system_attrs.get(_CLASS_SCORES, ((), ()))
    return TrialRecord(
        number=trial.number,
        outcome=Outcome(attrs.get("outcome", Outcome.RUNNING)),
        arch_id=attrs.get("arch_id", ""),
        reason=attrs.get("reason", ""),
        blocks=trial.system_attrs.get(_BLOCKS, ""),
        role=Role(attrs[ROLE]) if ROLE in attrs else None,
        class_correct=tuple(correct),
        class_images=tuple(images),
        class_scores=tuple(class_scores),
        class_errors=tuple(class_errors),
        task=trial.system_attrs.get(_TASK, _CLASSIFICATION),
        metrics={name.removeprefix(_METRIC): value for name, value in attrs.items() if name.startswith(_METRIC)},
        scores={name.removeprefix(_SCORE): value for name, value in attrs.items() if name.startswith(_SCORE)},
        genotype=dict(trial.params),
        predicted_ms=attrs.get("predicted_ms", attrs.get("latency_ms")),
        **{key: attrs.get(key) for key in keys},
    )


def _scaled(attributes: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """``attributes`` of a trial with its predicted latencies multiplied by ``scale``."""
    predicted = [name for name in _PREDICTED if attributes.get(name) is not None]
    if _MEASURED_MS in attributes:  # then ``latency_ms`` is measured too
        predicted = [name for name in predicted if name != "latency_ms"]
    return {**attributes, **{name: round(attributes[name] * scale, 6) for name in predicted}}


def trial_records(study: optuna.Study, val_images: int | None = None) -> list[TrialRecord]:
    """All started trials, oldest first.

    Queued and abandoned ones are left out. ``val_images``: the number of validation images, for the standard errors of
    trials by versions that did not store them.
    """
    stored, checked = system_attributes(study), network_measurements(study)
    tuned = {name: FineTuning(**value) for name, value in stored.items() if name.startswith(_FINE_TUNED)}
    rows, scale = [], latency_scale(study)
    for trial in study.get_trials(deepcopy=False):
        if trial.state is not TrialState.WAITING and not is_abandoned(trial):
            row = _with_error(trial_record(trial, scale), val_images)
            row = replace(row, fine_tuning=tuned.get(_FINE_TUNED + row.arch_id)) if tuned else row
            latest = checked.get(row.arch_id)
            rows.append(with_measurement(row, latest) if latest else row)
    return rows


def _with_error(row: TrialRecord, val_images: int | None) -> TrialRecord:
    if row.accuracy is None or row.standard_error is not None or not val_images or row.task != _CLASSIFICATION:
        return row
    return replace(row, standard_error=round(binomial_error(row.accuracy, val_images), 6))


def with_measurement(row: TrialRecord, measured: MeasuredLatency) -> TrialRecord:
    """``row`` with another measurement of its network."""
    return replace(
        row,
        measured_ms=measured.latency_ms,
        measured_spread_ms=measured.spread_ms,
        measured_error_ms=measured.error_ms,
    )
