"""Plots of one training: losses and accuracy over epochs, and a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nas.reporting.plots.axes import BASELINE_COLOR, FRONT_COLOR, GREY_COLOR, canvas

_INCHES: Final = (5.2, 3.4)  # two of them side by side on a page
_MATRIX_INCHES: Final = (6.4, 5.6)
_MOST_NAMED: Final = 30  # classes; beyond, cells are too small to read
_NAME_LENGTH: Final = 16


class EpochFigures(NamedTuple):
    """Figures of one epoch, counted from 1; accuracies in [0, 1], losses in nats.

    ``standard_error``: of the accuracy, None where it is not known.
    """

    epoch: int
    train_loss: float
    val_loss: float
    accuracy: float
    standard_error: float | None


def losses_svg(epochs: Sequence[EpochFigures], unit: str = "nats") -> str:
    """SVG of training and validation loss over epochs.

    ``unit``: of both, empty for none.
    """
    with canvas("losses", "Training and validation loss over epochs", _INCHES) as drawn:
        axes = _over_epochs(drawn.axes, f"loss, {unit}" if unit else "loss")
        across = [one.epoch for one in epochs]
        style: dict[str, Any] = {"linewidth": 1.6, "marker": "o" if len(epochs) <= 30 else None, "markersize": 3}
        axes.plot(across, [one.train_loss for one in epochs], color=GREY_COLOR, label="training", **style)
        axes.plot(across, [one.val_loss for one in epochs], color=FRONT_COLOR, label="validation", **style)
    return drawn.svg


def accuracy_svg(
    epochs: Sequence[EpochFigures], best: int, *, name: str = "accuracy", constant: float | None = None
) -> str:
    """SVG of validation accuracy, or another score called ``name``, in % over epochs.

    With one standard error to both sides where it is known. ``best``: the epoch that is marked. ``constant``: score of
    a constant predictor, drawn as a line.
    """
    with canvas("accuracy", f"Validation {name} over epochs", _INCHES) as drawn:
        axes = _over_epochs(drawn.axes, f"validation {name}, %")
        across, accuracy = [one.epoch for one in epochs], [100 * one.accuracy for one in epochs]
        errors = [100 * one.standard_error for one in epochs if one.standard_error is not None]
        if len(errors) == len(epochs):
            low, high = ([y + sign * error for y, error in zip(accuracy, errors, strict=True)] for sign in (-1, 1))
            axes.fill_between(across, low, high, color=FRONT_COLOR, alpha=0.2, linewidth=0, label="± standard error")
        axes.plot(across, accuracy, color=FRONT_COLOR, linewidth=1.6)
        axes.plot(best, accuracy[across.index(best)], "o", color=BASELINE_COLOR, markersize=5, label="best")
        if constant is not None:
            axes.axhline(100 * constant, color=GREY_COLOR, linewidth=1.2, linestyle="--", label="constant")
    return drawn.svg


def confusion_svg(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """SVG of a confusion matrix: share of each class, in rows, by predicted class.

    ``counts``: images, (classes, classes). Empty for more classes than can be read.
    """
    classes = len(names)
    if classes > _MOST_NAMED:
        return ""
    shares = [[100 * count / max(sum(row), 1) for count in row] for row in counts]
    shown = [name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…" for name in names]
    with canvas("confusion", "Confusion matrix: share of each class by predicted class", _MATRIX_INCHES) as drawn:
        axes = drawn.axes
        axes.grid(visible=False)
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=100, edgecolors=GREY_COLOR, linewidth=0.3)
        places = [index + 0.5 for index in range(classes)]
        size = 10 if classes <= 12 else 7
        axes.set_xticks(places, shown, rotation=90 if classes > 5 else 0, fontsize=size)
        axes.set_yticks(places, shown, fontsize=size)
        axes.set(xlabel="predicted class", ylabel="class", xlim=(0, classes), ylim=(classes, 0), aspect="equal")
        for row, values in enumerate(shares):
            for column, share in enumerate(values):
                if counts[row][column]:
                    ink = "white" if share > 60 else "black"
                    text = f"{share:.0f}" if share >= 1 else "<1"
                    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=size - 1)
    return drawn.svg


def _over_epochs(axes: Any, label: str) -> Any:
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return axes
