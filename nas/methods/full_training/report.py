"""``report.html`` of a training: curves, classes, confusions, network, recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from nas.arch.spec import ArchSpec
from nas.core.errors import quoted
from nas.core.files import write_text_atomically
from nas.core.formatting import cpu_time, percent_with_error, sentence_case
from nas.core.statistics import binomial_error
from nas.data.dense import DenseDescription
from nas.data.description import DatasetDescription
from nas.methods.full_training.config import TrainingPlan
from nas.methods.full_training.results import TrainedDenseNetwork, TrainedNetwork, result_lines
from nas.methods.full_training.run_folder import RunFolder
from nas.reporting.columns import Column
from nas.reporting.html_page import template
from nas.reporting.network_drawing.draw import draw
from nas.reporting.plots.training import EpochFigures, accuracy_svg, confusion_svg, losses_svg
from nas.study.manifest import library_versions
from nas.training.results import EpochResult

if TYPE_CHECKING:
    from jinja2 import Template

_MOST_PAIRS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """Accuracy on one class after the last and the best epoch.

    In [0, 1]; None without images.
    """

    name: str
    images: int
    last: float | None
    best: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """Images of one class that are taken for another, after the last epoch."""

    name: str
    predicted: str
    images: int
    of: int

    @property
    def share(self) -> float:
        """Share of the images of the class."""
        return self.images / self.of


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPage:
    """What the reports of all trainings have; of ``page.html`` too."""

    plan: TrainingPlan
    network: ArchSpec
    result: TrainedNetwork | TrainedDenseNetwork
    epochs: tuple[EpochFigures, ...]
    dataset: DatasetDescription | DenseDescription | None
    command: str = ""  # a finished training is not resumed

    @property
    def title(self) -> str:
        """Heading of the page."""
        return f"Training {self.result.name}"

    @property
    def summary(self) -> str:
        """The result in a paragraph."""
        return ". ".join(sentence_case(line) for line in result_lines(self.result, self.plan.folder)[:-1]) + "."

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Where the result comes from, as (name, value)."""
        versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
        result = self.result
        return (
            ("Network", f"{result.arch_name}, {result.arch_id}"),
            ("Weights to begin with", self.plan.weights or "random"),
            *((("Teacher", self._teacher),) if self.plan.teacher else ()),
            ("Seed", str(self.plan.run.seed)),
            ("Time", f"{cpu_time(result.cpu_s)}, {result.duration_s:,.0f} s of wall time, with validation"),
            ("Speed", f"{result.images_per_cpu_s:,.1f} train images per CPU-second of training steps"),
            ("Command", self.plan.command),
            ("Versions", versions),
        )

    @property
    def _teacher(self) -> str:
        teacher, how = self.plan.teacher, self.plan.distillation
        weights = f" ({teacher.weights})" if teacher and teacher.weights != teacher.name else ""
        return f"{teacher.name if teacher else ''}{weights}, temperature {how.temperature:g}, share {how.share:g}"

    @property
    def confusion(self) -> list[list[int]]:
        """Validation images, or pixels, by class and predicted class.

        After the last epoch.
        """
        counts = [[0] * len(self.result.class_names) for _ in self.result.class_names]
        for label, predicted, count in self.result.last.confusion:
            counts[label][predicted] = count
        return counts

    @property
    def recipe(self) -> list[tuple[str, str]]:
        """Settings of the recipe, as (name, value)."""
        return [(name, quoted(value).strip("'")) for name, value in asdict(self.plan.recipe).items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport(TrainingPage):
    """Content of the report of a classifier's training."""

    result: TrainedNetwork

    @property
    def classes(self) -> list[ClassFigures]:
        """Accuracy by class, in label order."""
        names = self.result.class_names
        last, best = (scored.class_counts(len(names)) for scored in (self.result.last, self.result.best))
        return [
            ClassFigures(name=name, images=images, last=_share(correct, images), best=_share(best_correct, images))
            for name, (correct, images), (best_correct, _) in zip(names, last, best, strict=True)
        ]

    @property
    def confused_pairs(self) -> list[ConfusedPair]:
        """The most frequent mistakes."""
        names, totals = self.result.class_names, [row.images for row in self.classes]
        wrong = sorted((one for one in self.result.last.confusion if one[0] != one[1]), key=lambda one: -one[2])
        return [
            ConfusedPair(name=names[label], predicted=names[predicted], images=images, of=totals[label])
            for label, predicted, images in wrong[:_MOST_PAIRS]
        ]


def write_training_report(
    plan: TrainingPlan,
    network: ArchSpec,
    dataset: DatasetDescription | DenseDescription | None,
    epochs: Sequence[EpochResult],
    result: TrainedNetwork,
) -> None:
    """Write the page into the run's folder. Raises: NasError."""
    data = TrainingReport(
        plan=plan,
        network=network,
        result=result,
        dataset=dataset,
        epochs=epoch_figures(epochs, result.last.images),
    )
    write_text_atomically(RunFolder(path=plan.folder).report, render_training_report(data))


def epoch_figures(epochs: Sequence[EpochResult], images: int) -> tuple[EpochFigures, ...]:
    """The figures of the learning curves; ``images``: number of validation images."""
    return tuple(
        EpochFigures(one.epoch, one.train_loss, one.val_loss, one.accuracy, one.error_of(images)) for one in epochs
    )


def render_training_report(data: TrainingReport) -> str:
    """Render the page as self-contained HTML that fetches nothing."""
    return _template().render(
        data=data,
        summary=data.summary,
        losses=losses_svg(data.epochs),
        accuracy=accuracy_svg(data.epochs, data.result.best.epoch),
        confusion=confusion_svg(data.confusion, data.result.class_names),
        drawing=draw(data.network),
        class_columns=_CLASS_COLUMNS,
        pair_columns=_PAIR_COLUMNS,
    )


def _share(correct: int, images: int) -> float | None:
    return correct / images if images else None


def _with_error(share: float | None, images: int) -> str:
    return percent_with_error(share, None if share is None else binomial_error(share, images))


_CLASS_COLUMNS: Final[tuple[Column[ClassFigures], ...]] = (
    Column(name="class", heading="class", value=lambda row: row.name, align="left"),
    Column(name="images", heading="images", value=lambda row: row.images),
    Column(name="last", heading="last epoch", unit="%", value=lambda row: _with_error(row.last, row.images)),
    Column(name="best", heading="best epoch", unit="%", value=lambda row: _with_error(row.best, row.images)),
)
_PAIR_COLUMNS: Final[tuple[Column[ConfusedPair], ...]] = (
    Column(name="class", heading="class", value=lambda pair: pair.name, align="left"),
    Column(name="predicted", heading="taken for", value=lambda pair: pair.predicted, align="left"),
    Column(name="images", heading="images", value=lambda pair: pair.images),
    Column(name="share", heading="of the class", unit="%", value=lambda pair: _with_error(pair.share, pair.of)),
)


@cache
def _template() -> Template:
    return template("nas.methods.full_training", "training.html", {})
