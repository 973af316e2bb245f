"""Files of a network in training: weights with their spec, a log of epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from torch import nn

from nas.arch.complexity import complexity
from nas.arch.files import dump_spec
from nas.arch.heads.task_scores import TASK_SCORES
from nas.arch.spec import ArchSpec
from nas.core.files import write_text_atomically
from nas.data.summary import ImageSummary
from nas.exporters.metadata import input_metadata
from nas.exporters.standalone import save_weights
from nas.methods.full_training.config import TrainingPlan
from nas.methods.full_training.run_folder import RunFolder
from nas.reporting.columns import csv_text
from nas.study.manifest import library_versions
from nas.training.results import EpochResult

LOG_COLUMNS: Final = (
    "epoch", "lr", "train_loss", "val_loss", "accuracy", "standard_error", "duration_s", "cpu_s",
)  # fmt: skip
_CLASS_PREFIX: Final = "class:"  # of the columns of a detector's or segmenter's classes in the log


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFiles:
    """Writer of a training's weights, specs and log.

    ``begun_with``: where the first weights came from, as plain data; empty for random ones. ``is_streamed``: images are
    decoded when they are needed.
    """

    plan: TrainingPlan
    network: ArchSpec
    images: ImageSummary
    begun_with: Mapping[str, Any] = field(default_factory=dict)
    is_streamed: bool = False

    @property
    def folder(self) -> RunFolder:
        """Where they are written."""
        return RunFolder(path=self.plan.folder)

    def write_weights(self, stem: str, model: nn.Module, result: EpochResult) -> None:
        """Write the weights of ``model`` and their spec. Raises: NasError."""
        provenance = self._provenance(result)
        save_weights(model, self.folder.weights(stem), input_metadata(self.network, provenance))
        write_text_atomically(self.folder.spec(stem), dump_spec(self.network, provenance))

    def write_log(self, results: Sequence[EpochResult], rates: Sequence[float]) -> None:
        """Write a row per epoch.

        ``rates``: learning rate at the end of each. Raises: NasError.
        """
        columns = self._log_columns(results[-1]) if results and self.plan.is_dense else LOG_COLUMNS
        records = [{**self._log_record(result), "lr": lr} for result, lr in zip(results, rates, strict=False)]
        rows = [{name: record.get(name) for name in columns} for record in records]
        write_text_atomically(self.folder.log, csv_text(columns, rows))

    def _log_columns(self, result: EpochResult) -> tuple[str, ...]:
        """Columns of the log: score by name, further metrics, each class."""
        metric = TASK_SCORES[self.plan.task].metric
        begin, end = LOG_COLUMNS[: LOG_COLUMNS.index("accuracy")], LOG_COLUMNS[LOG_COLUMNS.index("standard_error") :]
        classes = [f"{_CLASS_PREFIX}{name}" for name in self.images.class_names]
        return (*begin, metric, *end, *result.metrics, *classes)

    def _log_record(self, result: EpochResult) -> dict[str, Any]:
        """Figures of an epoch by column."""
        classes = zip(self.images.class_names, result.class_scores, strict=False)
        return {
            **asdict(result),
            **result.metrics,
            **{f"{_CLASS_PREFIX}{name}": score for name, score in classes},
            TASK_SCORES[self.plan.task].metric: result.accuracy,
            "standard_error": result.error_of(self.images.val),
        }

    def _provenance(self, result: EpochResult) -> dict[str, Any]:
        plan, error = self.plan, result.error_of(self.images.val)
        return {
            **self.images.input_facts,
            "run": plan.name,
            "epoch": result.epoch,
            "accuracy": round(result.accuracy, 6),
            "standard_error": None if error is None else round(error, 6),
            "val_loss": round(result.val_loss, 6),
            **(self._dense_facts(result) if plan.is_dense else {"class_correct": list(result.class_correct)}),
            **asdict(complexity(self.network)),
            "images": {"name": plan.data.name, "train": self.images.train, "validation": self.images.val},
            "preprocessing": self._preprocessing(),
            "recipe": _lists(asdict(plan.recipe)),
            "seed": plan.run.seed,
            "begun_with": dict(self.begun_with) or "random weights",
            **({"teacher": asdict(plan.distillation) | plan.teacher.facts} if plan.teacher else {}),
            "network_from": dict(plan.origin or {}),
            "command": plan.command,
            "versions": library_versions(),
        }

    def _dense_facts(self, result: EpochResult) -> dict[str, Any]:
        """Facts of a detector or segmenter: metrics, scores by class.

        ``score``: what ``accuracy`` is.
        """
        return {
            "task": self.plan.task,
            "score": TASK_SCORES[self.plan.task].metric,
            "metrics": {name: round(value, 6) for name, value in result.metrics.items()},
            "class_scores": [None if score is None else round(score, 6) for score in result.class_scores],
        }

    def _preprocessing(self) -> dict[str, Any]:
        """How a validation image becomes the network's input."""
        data, recipe = self.plan.data, self.plan.recipe
        is_bicubic = self.is_streamed and recipe.interpolation == "bicubic"
        return {
            "fit": data.fit,
            "background": list(data.background_colour),
            "interpolation": "bicubic" if is_bicubic else "bilinear",
            "crop_pct": recipe.crop_pct,
        }


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with their tuples as lists, which YAML writes without a tag."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
