"""Images with their labels as the readers of all layouts give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.image_files import shown_name

Boxes = NDArray[np.float64]  # (n, 4) x1, y1, x2, y2: corners, the image is 0 to width and 0 to height


@dataclass(slots=True, kw_only=True)
class BoxedImage:
    """An image file with boxes.

    ``label``: the file of its labels. ``boxes`` (n, 4) in px, or in shares of width and height if ``is_relative``.
    ``labels`` (n,) class indices. ``ignored`` (n,): neither to be found nor counted as a mistake (COCO's crowds, VOC's
    difficult ones). ``stated_size``: width and height in px by the label file, if it states them.
    """

    image: Path
    label: Path
    boxes: Boxes
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    is_relative: bool = False
    stated_size: tuple[int, int] | None = None


@dataclass(slots=True, kw_only=True)
class BoxSource:
    """What a reader found.

    ``val`` is None if it is to be split off. ``train_text`` and ``val_text``: where the splits are, relative to the
    root. ``left_out``: numbers of files that are not part of the splits, by reason. ``notices``: lines that tell how
    the labels were read.
    """

    class_names: tuple[str, ...]
    train: list[BoxedImage]
    val: list[BoxedImage] | None
    train_text: str
    val_text: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class MaskSource:
    """What a reader of masks found.

    ``images`` and ``masks``: files, or arrays (N, H, W, 3) and (N, H, W) of each split in turn; the first
    ``train_count`` are of the train split. ``has_val``: whether the others validate, else validation is split off.
    ``names``: of the images as shown to users. ``class_names``: names of the values 0, 1, ... if the data states them,
    from ``names_place``. ``digest``: of what the arrays were read from.
    """

    images: Sequence[Path | NDArray[np.uint8]]
    masks: Sequence[Path | NDArray[np.uint8]]
    names: Sequence[str]
    train_count: int
    has_val: bool
    train_text: str
    val_text: str = ""
    class_names: tuple[str, ...] | None = None
    names_place: str = ""
    digest: str = ""
    left_out: dict[str, int] = field(default_factory=dict)


def shown_place(path: Path, root: Path) -> str:
    """``path`` as shown to users: relative to ``root`` if it is in it."""
    return shown_name(path.relative_to(root) if path.is_relative_to(root) else path)


def box_arrays(
    rows: Sequence[tuple[Sequence[float], int, bool]],
) -> tuple[Boxes, NDArray[np.int64], NDArray[np.bool_]]:
    """Arrays of boxes (n, 4), labels (n,) and ignored (n,) from rows of these."""
    boxes: Any = np.array([row[0] for row in rows], dtype=np.float64).reshape(-1, 4)
    return boxes, np.array([row[1] for row in rows], dtype=np.int64), np.array([row[2] for row in rows], dtype=np.bool_)
