"""``report.html`` of the training of a detector or segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from nas.arch.spec import ArchSpec
from nas.core.files import write_text_atomically
from nas.core.formatting import percent, percent_with_error
from nas.data.dense import DenseDescription
from nas.data.description import DatasetDescription
from nas.methods.full_training.config import TrainingPlan
from nas.methods.full_training.pictures import PredictionPicture, class_colour
from nas.methods.full_training.report import TrainingPage, epoch_figures
from nas.methods.full_training.results import TrainedDenseNetwork, metric_rows
from nas.methods.full_training.run_folder import RunFolder
from nas.reporting.columns import Column
from nas.reporting.html_page import template
from nas.reporting.network_drawing.draw import draw
from nas.reporting.plots.training import accuracy_svg, confusion_svg, losses_svg
from nas.training.results import EpochResult

if TYPE_CHECKING:
    from jinja2 import Template

ClassScore = tuple[float | None, float | None]  # with its standard error


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseClassFigures:
    """AP or IoU of one class after the last and the best epoch, with standard errors.

    In [0, 1]; None where no validation image shows the class. ``amount``: boxes, or share of the validation pixels.
    """

    name: str
    amount: str
    last: ClassScore
    best: ClassScore


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseTrainingReport(TrainingPage):
    """Content of the report of a detector's or segmenter's training."""

    result: TrainedDenseNetwork
    pictures: Sequence[PredictionPicture]

    @property
    def is_detection(self) -> bool:
        """Whether labels are boxes."""
        return self.result.task == "detection"

    @property
    def classes(self) -> list[DenseClassFigures]:
        """Scores by class, in label order."""
        last, best, images = self.result.last, self.result.best, self.dataset
        amounts = (
            [images.amount(one.val) for one in images.classes]
            if isinstance(images, DenseDescription)
            else [""] * len(self.result.class_names)
        )
        return [
            DenseClassFigures(
                name=name,
                amount=amounts[label],
                last=(last.class_scores[label], last.class_errors[label]),
                best=(best.class_scores[label], best.class_errors[label]),
            )
            for label, name in enumerate(self.result.class_names)
        ]

    @property
    def metrics(self) -> list[tuple[str, str, str]]:
        """Further figures: name, after the last epoch, after the best."""
        return [(name, percent(last), percent(best)) for name, last, best in metric_rows(self.result)]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Name and colour of each class, as in the pictures."""
        return [
            (name, "#{:02x}{:02x}{:02x}".format(*class_colour(label)))
            for label, name in enumerate(self.result.class_names)
        ]


def write_dense_training_report(
    plan: TrainingPlan,
    network: ArchSpec,
    dataset: DatasetDescription | DenseDescription | None,
    epochs: Sequence[EpochResult],
    result: TrainedDenseNetwork,
    pictures: Sequence[PredictionPicture],
) -> None:
    """Write the page into the run's folder. Raises: NasError."""
    data = DenseTrainingReport(
        plan=plan,
        network=network,
        result=result,
        dataset=dataset,
        epochs=epoch_figures(epochs, result.val_images),
        pictures=pictures,
    )
    write_text_atomically(RunFolder(path=plan.folder).report, render_dense_training_report(data))


def render_dense_training_report(data: DenseTrainingReport) -> str:
    """Render the page as self-contained HTML that fetches nothing."""
    result = data.result
    return _template().render(
        data=data,
        summary=data.summary,
        losses=losses_svg(data.epochs, result.score.loss_unit),
        accuracy=accuracy_svg(data.epochs, result.best.epoch, name=result.score.name, constant=result.constant),
        confusion="" if data.is_detection else confusion_svg(data.confusion, result.class_names),
        drawing=draw(data.network),
        class_columns=_CLASS_COLUMNS,
    )


def _with_error(score: ClassScore) -> str:
    return percent_with_error(*score)


_CLASS_COLUMNS: Final[tuple[Column[DenseClassFigures], ...]] = (
    Column(name="class", heading="class", value=lambda row: row.name, align="left"),
    Column(name="amount", heading="validation", value=lambda row: row.amount),
    Column(name="last", heading="last epoch", unit="%", value=lambda row: _with_error(row.last)),
    Column(name="best", heading="best epoch", unit="%", value=lambda row: _with_error(row.best)),
)


@cache
def _template() -> Template:
    return template("nas.methods.full_training", "dense_training.html", {})
