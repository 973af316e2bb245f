"""Images with boxes: read, checked, split, decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nas.core.progress import ProgressCallback
from nas.data.dense.checks import BoxChecks
from nas.data.dense.dataset import DenseData, DenseSplit, LabelCounts, make_data
from nas.data.dense.loading import draw_splits, load_stores, unreadable
from nas.data.dense.pixels import ImageStore, read_sizes
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers.layouts import find_layout, read_boxes
from nas.data.dense.records import BoxedImage, shown_place
from nas.data.dense.settings import DenseDataSettings, dense_root

_BOX_AREAS: Final = (32**2, 96**2)  # px, from which COCO calls a box medium and large


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionSplit(DenseSplit):
    """Images of a split with their boxes.

    ``offsets`` (N + 1,): first row of each image in the arrays of boxes (M, 4), labels (M,) and ignored (M,).
    """

    offsets: NDArray[np.int64]
    all_boxes: NDArray[np.float32]
    all_labels: NDArray[np.int64]
    all_ignored: NDArray[np.bool_]

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

    def label_counts(self, classes: int) -> LabelCounts:
        """Count boxes by class, ignored ones too, and the images that show it."""
        boxes = np.diff(self.offsets)
        pairs = np.unique(np.column_stack([np.repeat(np.arange(len(self)), boxes), self.all_labels]), axis=0)
        return LabelCounts(
            amounts=np.bincount(self.all_labels, minlength=classes),
            images=np.bincount(pairs[:, 1], minlength=classes),
            empty=int((boxes == 0).sum()),
            counted=int((~self.all_ignored).sum()),
        )

    def label_bytes(self) -> Iterator[bytes]:
        """Yield boxes, classes, and which are ignored."""
        for part in (self.offsets, self.all_boxes, self.all_labels, self.all_ignored):
            yield np.ascontiguousarray(part).tobytes()

    def _labels_of(self, rows: Sequence[int]) -> dict[str, Any]:
        parts = [np.arange(part.start, part.stop) for part in map(self._part, rows)]
        boxes = np.concatenate([np.empty(0, dtype=np.int64), *parts])
        return {
            "offsets": np.cumsum([0, *map(len, parts)], dtype=np.int64),
            "all_boxes": self.all_boxes[boxes],
            "all_labels": self.all_labels[boxes],
            "all_ignored": self.all_ignored[boxes],
        }

    def _part(self, row: int) -> slice:
        row = range(len(self))[row]
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionData(DenseData[DetectionSplit]):
    """Data set of images with boxes."""


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
        rows, stores = load_stores(files, sizes, rows, settings, problems, on_progress)
    problems.check(root, settings)
    splits = [_split(kept, part, store, root) for part, store in zip((rows.train, rows.val), stores, strict=True)]
    notices = [*source.notices, *problems.repaired_lines]
    if settings.first_pixel is not None and layout != "voc":
        notices.append(f"data.first_pixel has no effect on {layout}: VOC files alone number their pixels")
    if checks.rounded:
        notices.append(f"boxes that reach beyond their image by at most half a pixel: {checks.rounded:,}, clipped")
    corners = splits[0].all_boxes
    areas = np.searchsorted(_BOX_AREAS, (corners[:, 2:] - corners[:, :2]).prod(axis=1), side="right")
    with problems.before_others(root, settings):
        return make_data(
            DetectionData,
            settings,
            layout,
            source,
            source.class_names,
            splits,
            found=rows.found,
            notices=notices,
            box_sizes=tuple(np.bincount(areas, minlength=len(_BOX_AREAS) + 1).tolist()),
            ignored=sum(int(split.all_ignored.sum()) for split in splits),
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
