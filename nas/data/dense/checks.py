"""Boxes against their images: scaled to px, clipped, without area, repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nas.data.dense.pixels import Size
from nas.data.dense.problems import LabelProblems
from nas.data.dense.records import BoxedImage
from nas.data.image_files import shown_name

_ROUNDING_PX: Final = 0.5  # up to which a box may reach beyond its image: labels are rounded
_SAME_SHAPE: Final = 0.02  # relative difference of aspect ratios up to which an image was only resized


def is_same_shape(first: Size, second: Size) -> bool:
    """Whether two sizes (width, height) differ by scale only."""
    ratio = (first[0] * second[1]) / (first[1] * second[0])
    rounding = 1 / min(*first, *second)
    return abs(ratio - 1) <= _SAME_SHAPE + rounding


class BoxChecks:
    """Checks of boxes, with repair.

    They count faults in ``problems``.

    ``rounded``: boxes that reached beyond their image by at most half a pixel, and were clipped.
    """

    def __init__(self, problems: LabelProblems) -> None:
        self._problems = problems
        self.rounded = 0

    def fits(self, one: BoxedImage, size: Size) -> bool:
        """Whether the labels of an image can be used with its ``size``.

        Boxes of an image that was resized are scaled.
        """
        if one.stated_size is None or one.stated_size == size:
            return True
        stated = one.stated_size
        self._problems.add(
            "size_differs",
            f"{shown_name(one.image)} ({size[0]}x{size[1]}, the label states {stated[0]}x{stated[1]})",
        )
        if not is_same_shape(stated, size):
            return False
        one.boxes = one.boxes * np.array([size[0] / stated[0], size[1] / stated[1]] * 2)
        return True

    def repair(self, one: BoxedImage, size: Size) -> None:
        """Check the boxes of an image of ``size``, and repair them.

        They become px, clipped, without faulty ones.
        """
        if not len(one.labels):
            return
        if one.is_relative:
            one.boxes, one.is_relative = one.boxes * np.array([*size, *size], dtype=np.float64), False
        limits = np.array([*size, *size], dtype=np.float64)
        no_area: NDArray[np.bool_] = np.any(one.boxes[:, 2:] <= one.boxes[:, :2], axis=1)
        self._count(one, no_area, "box_no_area")
        beyond = np.maximum(-one.boxes, one.boxes - limits).max(axis=1)
        clipped = one.boxes.clip(0, limits)
        remains = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        outside = ((beyond > _ROUNDING_PX) | ~remains) & ~no_area
        self._count(one, outside, "box_outside", f" of {size[0]}x{size[1]} px")
        self.rounded += int(((beyond > 0) & ~outside & ~no_area).sum())
        kept = ~no_area & remains
        repeated = kept & self._repeated(one)
        self._count(one, repeated, "box_repeated")
        kept &= ~repeated
        one.boxes, one.labels, one.ignored = clipped[kept], one.labels[kept], one.ignored[kept]

    def _repeated(self, one: BoxedImage) -> NDArray[np.bool_]:
        """Whether each box equals an earlier one of its class."""
        rows = np.column_stack([one.boxes, one.labels])
        _, first = np.unique(rows, axis=0, return_index=True)
        return ~np.isin(np.arange(len(rows)), first)

    def _count(self, one: BoxedImage, faulty: NDArray[np.bool_], kind: str, detail: str = "") -> None:
        count = int(faulty.sum())
        if count:
            row = int(faulty.argmax())
            # A COCO file holds the labels of all images.
            image = "" if one.label.stem == one.image.stem else f", {shown_name(one.image.name)}"
            self._problems.add(kind, f"{shown_name(one.label)}{image}, box {_text(one.boxes[row])}{detail}", count)


def _text(box: Sequence[float] | NDArray[np.float64]) -> str:
    """Corners of a box, as ``10,20.5,30,40``."""
    return ",".join(f"{value:.6g}" for value in box)
