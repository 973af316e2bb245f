"""Results of a finished training, stored as JSON; loads no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from nas.arch.heads.task_scores import METRIC_NAMES, TASK_SCORES, TaskScore
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, unknown_choice
from nas.core.files import write_text_atomically
from nas.core.formatting import cpu_time, percent, plural, shown_path
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.core.statistics import binomial_error
from nas.core.validation import check_number
from nas.data.dense.settings import DENSE_TASKS
from nas.training.results import EpochResult

_FORMAT: Final = "nas.training.results/1"

ConfusionCounts = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredWeights:
    """Weights of one epoch, counted from 1, on the validation images.

    ``accuracy`` is top-1 in [0, 1], ``val_loss`` in nats. ``confusion``: (class, predicted class, images), where there
    are any, by label.
    """

    epoch: int
    accuracy: float
    val_loss: float
    confusion: ConfusionCounts

    def __post_init__(self) -> None:
        counts: Any = self.confusion
        if not isinstance(counts, list | tuple) or not counts or not all(map(_is_count, counts)):
            raise NasError("confusion: must be a list of class, predicted class and number of images, not empty.")
        object.__setattr__(self, "confusion", tuple(map(tuple, counts)))  # JSON has lists

    @property
    def images(self) -> int:
        """Number of validation images."""
        return sum(count for *_, count in self.confusion)

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the accuracy."""
        return binomial_error(self.accuracy, self.images)

    def class_counts(self, classes: int) -> list[tuple[int, int]]:
        """Images classified correctly, and all images, of each class."""
        counts = [[0, 0] for _ in range(classes)]
        for label, predicted, images in self.confusion:
            counts[label][0] += images * (label == predicted)
            counts[label][1] += images
        return [(correct, images) for correct, images in counts]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseScore:
    """Scores of the weights of one epoch of a detector or segmenter.

    Epochs are counted from 1; scores are of the validation images.

    ``accuracy``: the task's main score in [0, 1], with its ``standard_error`` (None for a single image); ``metrics``:
    further figures by name; ``class_scores`` and ``class_errors``: AP or IoU by class in label order, None for classes
    that the images do not show. ``confusion``: of a segmenter, (class, predicted class, pixels), where there are any.
    """

    epoch: int
    accuracy: float
    val_loss: float
    standard_error: float | None
    metrics: Mapping[str, float]
    class_scores: tuple[float | None, ...]
    class_errors: tuple[float | None, ...]
    confusion: ConfusionCounts = ()

    def __post_init__(self) -> None:
        check_number("accuracy", self.accuracy, low=0, high=1)
        check_number("standard_error", self.standard_error, low=0, optional=True)
        scores: Any
        for name in ("class_scores", "class_errors"):  # JSON has lists
            scores = getattr(self, name)
            if not isinstance(scores, list | tuple) or not all(one is None or _is_number(one) for one in scores):
                raise NasError(f"{name}: must be a list of numbers or null.")
            object.__setattr__(self, name, tuple(scores))
        for score in self.class_scores:
            check_number("class_scores", score, low=0, high=1, optional=True)
        if not isinstance(self.metrics, Mapping) or not all(map(_is_number, self.metrics.values())):
            raise NasError("metrics: must be numbers by name.")
        counts: Any = self.confusion
        if not isinstance(counts, list | tuple) or not all(map(_is_count, counts)):
            raise NasError("confusion: must be a list of class, predicted class and number of pixels.")
        object.__setattr__(self, "confusion", tuple(map(tuple, counts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFigures:
    """What the results of all trainings have.

    ``name``: of the run. ``train_images``: per epoch. ``duration_s`` is wall time, ``cpu_s`` CPU time of all threads,
    both with validation; ``images_per_cpu_s`` counts train images per CPU-second of steps.
    """

    name: str
    arch_name: str
    arch_id: str
    params: int
    macs: int
    resolution_px: int
    class_names: tuple[str, ...]
    train_images: int
    epochs: int
    duration_s: float
    cpu_s: float
    images_per_cpu_s: float

    def __post_init__(self) -> None:
        names: Any = self.class_names
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise NasError("class_names: must be a list of names.")
        object.__setattr__(self, "class_names", tuple(names))

    def write(self, path: Path) -> None:
        """Write it as JSON. Raises: NasError."""
        write_text_atomically(path, json.dumps({"format": _FORMAT, **asdict(self)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork(TrainingFigures):
    """Result of a finished training of a classifier.

    ``last`` and ``best``: the weights after the last epoch, and after the one of the highest accuracy, which is biased
    upwards by choosing it.
    """

    last: ScoredWeights
    best: ScoredWeights

    def __post_init__(self) -> None:
        TrainingFigures.__post_init__(self)  # super() does not work in a slotted dataclass
        labels = max(max(one[:2]) for scored in (self.last, self.best) for one in scored.confusion)
        if labels >= len(self.class_names):
            raise NasError(f"confusion: has more classes than the {len(self.class_names)} of class_names.")

    @property
    def majority(self) -> float:
        """Accuracy of always guessing the largest class of the validation images."""
        images = [count for _, count in self.last.class_counts(len(self.class_names))]
        return max(images) / sum(images)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedDenseNetwork(TrainingFigures):
    """Result of a finished training of a detector or segmenter.

    ``last`` and ``best`` as of ``TrainedNetwork``. ``constant``: the score of the best output that is the same for
    every image. ``val_images``: on which they are scored.
    """

    task: str
    last: DenseScore
    best: DenseScore
    constant: float
    val_images: int

    def __post_init__(self) -> None:
        TrainingFigures.__post_init__(self)
        if self.task not in DENSE_TASKS:
            raise unknown_choice("task", self.task, DENSE_TASKS)
        count = len(self.class_names)
        for scored in (self.last, self.best):
            if {len(scored.class_scores), len(scored.class_errors)} != {count}:
                raise NasError(f"class_scores: must be as many as the {count} of class_names.")
            if any(max(one[:2]) >= count for one in scored.confusion):
                raise NasError(f"confusion: has more classes than the {count} of class_names.")

    @property
    def score(self) -> TaskScore:
        """Names of the score."""
        return TASK_SCORES[self.task]


def best_epoch(results: Sequence[EpochResult]) -> int:
    """Return the epoch of the highest accuracy.

    Of equal ones, that of the lowest loss.
    """
    return max(results, key=lambda result: (result.accuracy, -result.val_loss)).epoch


def read_results(path: Path) -> TrainedNetwork | TrainedDenseNetwork:
    """Read what ``TrainingFigures.write`` wrote. Raises: NasError."""
    try:
        return _results_of(parse_json(read_text(path, max_characters=MAX_JSON_CHARACTERS)))
    except (OSError, UnicodeDecodeError, NasError) as error:
        reason = str(error).rstrip(".")
        raise NasError(f"{path}: cannot be read ({reason}); delete it, and the same command makes it anew.") from None


def _results_of(found: Any) -> TrainedNetwork | TrainedDenseNetwork:
    if not isinstance(found, dict) or found.pop("format", None) != _FORMAT:
        raise NasError("it is not the results of a training of this version")
    is_dense = "task" in found
    for name in ("last", "best"):
        found[name] = from_mapping(DenseScore if is_dense else ScoredWeights, found.get(name), name)
    return from_mapping(TrainedDenseNetwork, found, "") if is_dense else from_mapping(TrainedNetwork, found, "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    """Whether ``value`` is class, predicted class and number of images."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(type(number) is int and number >= 0 for number in value)
        and value[2] > 0
    )


def result_lines(result: TrainedNetwork | TrainedDenseNetwork, folder: Path) -> list[str]:
    """The result in a few lines for the terminal."""
    last, best = result.last, result.best
    if isinstance(result, TrainedDenseNetwork):
        scored = [
            f"{result.score.name} after the last epoch: {percent(last.accuracy, last.standard_error)}"
            f"{_metrics_text(result)}, of {result.val_images:,} validation images ({result.score.constant}: "
            f"{percent(result.constant)})"
        ]
        lowest = lowest_class_scores(result)
    else:
        scored = [
            f"accuracy after the last epoch: {percent(last.accuracy, last.standard_error)}, of "
            f"{result.last.images:,} validation images (always guessing the largest class: {percent(result.majority)})"
        ]
        lowest = lowest_classes(result)
    if best.epoch != last.epoch:
        scored.append(
            f"best of all epochs: {percent(best.accuracy, best.standard_error)} (epoch {best.epoch}; chosen by these "
            "images, so a little too high)"
        )
    return [
        f"{result.arch_name} at {result.resolution_px} px, {result.params:,} parameters, {result.macs:,} MACs, "
        f"{plural(result.epochs, 'epoch')} in {cpu_time(result.cpu_s)}",
        *scored,
        *([f"lowest classes: {lowest}"] if lowest else []),
        f"weights: {shown_path(folder / 'last.safetensors')}, {shown_path(folder / 'best.safetensors')}",
    ]


def metric_rows(result: TrainedDenseNetwork) -> list[tuple[str, float, float]]:
    """Further metrics in words, with values after the last and best epoch."""
    return [
        (METRIC_NAMES.get(name, name), value, result.best.metrics.get(name, math.nan))
        for name, value in result.last.metrics.items()
        if name in METRIC_NAMES
    ]


def _metrics_text(result: TrainedDenseNetwork) -> str:
    """The most telling further figures in words."""
    shown = (("map50", "map50_error"), ("pixel_accuracy", ""))
    return "".join(
        f", {METRIC_NAMES[name]} {percent(result.last.metrics[name], result.last.metrics.get(error))}"
        for name, error in shown
        if name in result.last.metrics
    )


def lowest_class_scores(result: TrainedDenseNetwork, most: int = 3) -> str:
    """The classes of the lowest AP or IoU after the last epoch, in words."""
    rows = [
        (score, error, name)
        for name, score, error in zip(
            result.class_names, result.last.class_scores, result.last.class_errors, strict=True
        )
        if score is not None
    ]
    shown = sorted(rows, key=lambda row: row[0])[:most] if len(rows) > 1 else []
    return "; ".join(f"{name} {percent(score, error)}" for score, error, name in shown)


def lowest_classes(result: TrainedNetwork, most: int = 3) -> str:
    """The classes of the lowest accuracy after the last epoch, in words."""
    rows = [
        (correct / images, images, name)
        for name, (correct, images) in zip(
            result.class_names, result.last.class_counts(len(result.class_names)), strict=True
        )
        if images
    ]
    shown: Sequence[Any] = sorted(rows)[:most] if len(rows) > 1 else ()
    return "; ".join(
        f"{name} {percent(share, binomial_error(share, images))} of {plural(images, 'image')}"
        for share, images, name in shown
    )
