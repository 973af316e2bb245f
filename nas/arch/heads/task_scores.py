"""Names of the score that networks are compared by, per task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nas.core.formatting import sentence_case

_CLASSIFICATION: Final = "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """The score of a task in words; in [0, 1], the larger the better.

    ``metric``: its key in Optuna and JSON. ``name`` and ``plural``: within a sentence; ``of_class``: the score of one
    class. ``definition``: what it is, empty where everybody knows. ``error``: what its standard error is.
    ``constant``: the constant predictor that it compares with, as the subject of a sentence. ``loss_unit``: of the
    validation loss, empty for a sum of several losses.
    """

    task: str
    metric: str
    name: str
    plural: str
    of_class: str
    error: str
    definition: str = ""
    constant: str = "always guessing the largest class"
    loss_unit: str = "nats"

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence."""
        return sentence_case(self.name)

    def named(self, text: str) -> str:
        """``text`` that speaks of accuracy, in terms of this score."""
        if self.task == _CLASSIFICATION:
            return text
        for word, name in (
            ("accuracies", self.plural),
            ("accuracy", self.name),
            ("Accuracies", sentence_case(self.plural)),
            ("Accuracy", self.title),
        ):
            text = text.replace(word, name)
        return text


TASK_SCORES: Final[Mapping[str, TaskScore]] = {
    score.task: score
    for score in (
        TaskScore(
            task="classification",
            metric="accuracy",
            name="accuracy",
            plural="accuracies",
            of_class="accuracy",
            error="binomial, of the validation images",
        ),
        TaskScore(
            task="detection",
            metric="map",
            name="AP",
            plural="values of AP",
            of_class="AP",
            error="by a jackknife over groups of validation images",
            definition="COCO's average precision, the mean over classes and over thresholds of 0.5 to 0.95 of the "
            "intersection over union",
            constant="one constant set of boxes",
            loss_unit="",
        ),
        TaskScore(
            task="segmentation",
            metric="miou",
            name="mIoU",
            plural="values of mIoU",
            of_class="IoU",
            error="by a jackknife over groups of validation images",
            definition="the intersection over union of prediction and truth, the mean over classes",
            constant="one class at every pixel",
        ),
    )
}


# Names of the scores by key, as ``TaskScore.metric``.
SCORE_NAMES: Final[Mapping[str, str]] = {score.metric: score.name for score in TASK_SCORES.values()}


def with_score_name(text: str, metric: str) -> str:
    """``text``, a value of ``metric``, with the score's name where it is no accuracy."""
    is_accuracy = metric == TASK_SCORES[_CLASSIFICATION].metric
    return text if is_accuracy or metric not in SCORE_NAMES else f"{text} {SCORE_NAMES[metric]}"


# Further figures of detectors and segmenters, in words.
METRIC_NAMES: Final[Mapping[str, str]] = {
    "map50": "AP at an overlap of 0.5",
    "map75": "AP at an overlap of 0.75",
    "map_small": "AP of small objects (below 32 x 32 px)",
    "map_medium": "AP of medium objects",
    "map_large": "AP of large objects (above 96 x 96 px)",
    "recall": "recall with 100 boxes per image",
    "pixel_accuracy": "share of correct pixels",
}
