"""Images with boxes: read, checked, split, decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nas.core.progress import ProgressCallback
from nas.data.dense.checks import BoxChecks
from nas.data.dense.description import DenseClass, DenseDescription
from nas.data.dense.loading import (
    check_labelled,
    draw_splits,
    load_notices,
    load_pixels,
    shown_sizes,
    store_of,
    unreadable,
)
from nas.data.dense.pixels import ImageStore, Pixels, Size, read_sizes, store_statistics
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers.layouts import find_layout, read_boxes
from nas.data.dense.records import BoxedImage, BoxSource, shown_place
from nas.data.dense.settings import DenseDataSettings, dense_root
from nas.data.image_files import shown_name

_BOX_AREAS: Final = (32**2, 96**2)  # px, from which COCO calls a box medium and large


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionSplit:
    """Images of a split with their boxes.

    ``names``: of the files, as shown to users. ``offsets`` (N + 1,): first row of each image in the arrays of boxes
    (M, 4), labels (M,) and ignored (M,).
    """

    store: ImageStore
    names: Sequence[str]
    offsets: NDArray[np.int64]
    all_boxes: NDArray[np.float32]
    all_labels: NDArray[np.int64]
    all_ignored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """File of an image, relative to the root, as shown to users."""
        return self.names[row]

    def size(self, row: int) -> Size:
        """Width and height of an image in px, upright."""
        return self.store.size(row)

    def image(self, row: int, least: Size | None = None) -> Pixels:
        """Image of a row, uint8 RGB (H, W, 3), upright; it may be read-only.

        ``least``: width and height in px that suffice; a JPEG that is not in memory may then come smaller.
        """
        return self.store.image(row, least)

    def boxes(self, row: int) -> NDArray[np.float32]:
        """Boxes of an image, float32 (n, 4) x1, y1, x2, y2 in px of ``size(row)``."""
        return self.all_boxes[self._part(row)]

    def labels(self, row: int) -> NDArray[np.int64]:
        """Classes of the boxes of an image, int64 (n,) from 0."""
        return self.all_labels[self._part(row)]

    def is_ignored(self, row: int) -> NDArray[np.bool_]:
        """Whether each box is neither to be found nor a mistake, bool (n,).

        COCO's crowds, VOC's difficult ones.
        """
        return self.all_ignored[self._part(row)]

    def _part(self, row: int) -> slice:
        row = range(len(self))[row]
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionData:
    """Data set of images with boxes.

    ``mean`` and ``std`` per channel of the train images, for pixels scaled to [0, 1]. ``settings``: how they become
    inputs. ``notices``: what the user should know of how the labels were read or repaired.
    """

    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train: DetectionSplit
    val: DetectionSplit
    settings: DenseDataSettings
    description: DenseDescription
    notices: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes, without background."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Channels per image."""
        return 3

    def identity(self) -> list[Any]:
        """Return what the images and labels depend on, as JSON data.

        Names, sizes, boxes, classes, settings.
        """
        digests = []
        for split in (self.train, self.val):
            digest = hashlib.sha256("\0".join(split.names).encode("utf-8", "surrogateescape"))
            for part in (split.offsets, split.all_boxes, split.all_labels, split.all_ignored):
                digest.update(np.ascontiguousarray(part).tobytes())
            digest.update(split.store.size_bytes())
            digests.append(digest.hexdigest())
        settings = self.settings.identity()
        del settings["root"]  # the data may be moved
        return [*digests, list(self.class_names), list(self.mean), list(self.std), settings]


def load_detection_data(settings: DenseDataSettings, *, on_progress: ProgressCallback | None = None) -> DetectionData:
    """Read, check, split and decode images with boxes.

    ``on_progress(done, total)``: images whose header was read, then those decoded.

    Raises: NasError for a layout or split that is not found; with one line for each kind of fault in labels and images,
    unless ``settings.repair``; and if nothing is left to train on.
    """
    root, problems = dense_root(settings), LabelProblems()
    layout = find_layout(settings)
    source = read_boxes(layout, root, settings, problems)
    images = [*source.train, *(source.val or [])]
    checks = BoxChecks(problems)
    kept, sizes, is_train = [], [], []
    found = read_sizes([one.image for one in images], unreadable(problems), on_progress)
    for row, (one, size) in enumerate(zip(images, found, strict=True)):
        if size is not None and checks.fits(one, size):
            checks.repair(one, size)
            kept.append(one)
            sizes.append(size)
            is_train.append(row < len(source.train))
    files = [one.image for one in kept]
    with problems.before_others(root, settings):
        rows = draw_splits(np.array(is_train, dtype=np.bool_), source.val is not None, settings)
        rows, decoded = load_pixels(files, sizes, rows, settings, problems, on_progress)
    problems.check(root, settings)
    train, val = (
        _split(kept, part, store_of(files, sizes, part, decoded, settings), root) for part in (rows.train, rows.val)
    )
    objects = [int((~part.all_ignored).sum()) for part in (train, val)]
    check_labelled(objects, "a box that counts", settings)
    mean, std = store_statistics(train.store, np.arange(len(train)), settings.seed)
    notices = [*source.notices, *problems.repaired_lines]
    if checks.rounded:
        notices.append(f"boxes that reach beyond their image by at most half a pixel: {checks.rounded:,}, clipped")
    return DetectionData(
        class_names=source.class_names,
        mean=mean,
        std=std,
        train=train,
        val=val,
        settings=settings,
        description=_described(settings, layout, source, rows.found, train, val),
        notices=(*notices, *load_notices(train.store, val.store, settings)),
    )


def _split(images: Sequence[BoxedImage], rows: NDArray[np.int64], store: ImageStore, root: Path) -> DetectionSplit:
    used = [images[row] for row in rows]
    counts = [len(one.labels) for one in used]
    return DetectionSplit(
        store=store,
        names=[shown_place(one.image, root) for one in used],
        offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
        all_boxes=np.concatenate([np.empty((0, 4)), *(one.boxes for one in used)]).astype(np.float32),
        all_labels=np.concatenate([np.empty(0, dtype=np.int64), *(one.labels for one in used)]),
        all_ignored=np.concatenate([np.empty(0, dtype=np.bool_), *(one.ignored for one in used)]),
    )


def _described(
    settings: DenseDataSettings,
    layout: str,
    source: BoxSource,
    found: int,
    train: DetectionSplit,
    val: DetectionSplit,
) -> DenseDescription:
    classes = len(source.class_names)
    boxes = [np.bincount(part.all_labels, minlength=classes).tolist() for part in (train, val)]
    images = [_images_by_class(part, classes) for part in (train, val)]
    sides = train.all_boxes[:, 2:] - train.all_boxes[:, :2]
    areas = np.searchsorted(_BOX_AREAS, sides.prod(axis=1), side="right")
    sizes = [part.size(row) for part in (train, val) for row in range(len(part))]
    return DenseDescription(
        task="detection",
        layout=layout,
        path=shown_name(dense_root(settings).absolute()),
        train_place=source.train_text,
        val_place=source.val_text,
        found=found,
        train=len(train),
        val=len(val),
        train_empty=int((np.diff(train.offsets) == 0).sum()),
        val_empty=int((np.diff(val.offsets) == 0).sum()),
        classes=tuple(
            DenseClass(
                name=shown_name(name),
                train=boxes[0][row],
                val=boxes[1][row],
                train_images=images[0][row],
                val_images=images[1][row],
            )
            for row, name in enumerate(source.class_names)
        ),
        box_sizes=tuple(np.bincount(areas, minlength=len(_BOX_AREAS) + 1).tolist()),
        ignored=int(train.all_ignored.sum() + val.all_ignored.sum()),
        sizes=shown_sizes(sizes),
        left_out=source.left_out,
    )


def _images_by_class(split: DetectionSplit, classes: int) -> list[int]:
    """Number of images that show each class."""
    image_of = np.repeat(np.arange(len(split)), np.diff(split.offsets))
    pairs = np.unique(np.column_stack([image_of, split.all_labels]), axis=0)
    counts: list[int] = np.bincount(pairs[:, 1], minlength=classes).tolist()
    return counts
