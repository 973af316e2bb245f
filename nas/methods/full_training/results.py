"""Results of a finished training, stored as JSON; loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.core.statistics import binomial_error
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
class TrainedNetwork:
    """Result of a finished training.

    ``name``: of the run. ``last`` and ``best``: the weights after the last epoch, and after the one of the highest
    accuracy, which is biased upwards by choosing it. ``train_images``: per epoch. ``duration_s`` is wall time,
    ``cpu_s`` CPU time of all threads, both with validation; ``images_per_cpu_s`` counts train images per CPU-second of
    steps.
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
    last: ScoredWeights
    best: ScoredWeights
    duration_s: float
    cpu_s: float
    images_per_cpu_s: float

    def __post_init__(self) -> None:
        names: Any = self.class_names
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise NasError("class_names: must be a list of names.")
        object.__setattr__(self, "class_names", tuple(names))
        if max(max(one[:2]) for scored in (self.last, self.best) for one in scored.confusion) >= len(names):
            raise NasError(f"confusion: has more classes than the {len(names)} of class_names.")

    @property
    def majority(self) -> float:
        """Accuracy of always guessing the largest class of the validation images."""
        images = [count for _, count in self.last.class_counts(len(self.class_names))]
        return max(images) / sum(images)

    def write(self, path: Path) -> None:
        """Write it as JSON. Raises: NasError."""
        write_text_atomically(path, json.dumps({"format": _FORMAT, **asdict(self)}))


def best_epoch(results: Sequence[EpochResult]) -> int:
    """Return the epoch of the highest accuracy.

    Of equal ones, that of the lowest loss.
    """
    return max(results, key=lambda result: (result.accuracy, -result.val_loss)).epoch


def read_results(path: Path) -> TrainedNetwork:
    """Read what ``TrainedNetwork.write`` wrote. Raises: NasError."""
    try:
        return _results_of(parse_json(read_text(path, max_characters=MAX_JSON_CHARACTERS)))
    except (OSError, UnicodeDecodeError, NasError) as error:
        reason = str(error).rstrip(".")
        raise NasError(f"{path}: cannot be read ({reason}); delete it, and the same command makes it anew.") from None


def _results_of(found: Any) -> TrainedNetwork:
    if not isinstance(found, dict) or found.pop("format", None) != _FORMAT:
        raise NasError("it is not the results of a training of this version")
    for field in ("last", "best"):
        found[field] = from_mapping(ScoredWeights, found.get(field), field)
    return from_mapping(TrainedNetwork, found, "")


def _is_count(value: Any) -> bool:
    """Whether ``value`` is class, predicted class and number of images."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(type(number) is int and number >= 0 for number in value)
        and value[2] > 0
    )


def result_lines(result: TrainedNetwork, folder: Path) -> list[str]:
    """The result in a few lines for the terminal."""
    from nas.core.formatting import cpu_time, percent, shown_path

    last, best = result.last, result.best
    lines = [
        f"{result.arch_name} at {result.resolution_px} px, {result.params:,} parameters, {result.macs:,} MACs, "
        f"{result.epochs} epochs in {cpu_time(result.cpu_s)}",
        f"accuracy after the last epoch: {percent(last.accuracy, last.standard_error)}, of {last.images:,} validation "
        f"images (always guessing the largest class: {percent(result.majority)})",
    ]
    if best.epoch != last.epoch:
        lines.append(
            f"best of all epochs: {percent(best.accuracy, best.standard_error)} (epoch {best.epoch}; chosen by these "
            "images, so a little too high)"
        )
    lowest = lowest_classes(result)
    return [
        *lines,
        *([f"lowest classes: {lowest}"] if lowest else []),
        f"weights: {shown_path(folder / 'last.safetensors')}, {shown_path(folder / 'best.safetensors')}",
    ]


def lowest_classes(result: TrainedNetwork, most: int = 3) -> str:
    """The classes of the lowest accuracy after the last epoch, in words."""
    from nas.core.formatting import percent, plural

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
