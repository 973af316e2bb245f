"""Images with masks: read, checked, split, decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.core.progress import ProgressCallback
from nas.data.dense.classes import MaskClasses, mask_classes
from nas.data.dense.dataset import DenseData, DenseSplit, LabelCounts, make_data
from nas.data.dense.loading import draw_splits, load_stores, unreadable
from nas.data.dense.masks import Mask, MaskStore, RawMask, fits_image, read_masks
from nas.data.dense.pixels import ImageStore, Pixels, Size, read_sizes
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers.layouts import find_layout, read_mask_source
from nas.data.dense.records import MaskSource
from nas.data.dense.settings import DenseDataSettings, dense_root
from nas.data.image_files import PathTable, shown_name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentationSplit(DenseSplit):
    """Images of a split with their masks.

    ``pixels`` (N, K + 1): number of pixels of each class, then of void. ``digests``: hash of each mask as stored.
    """

    masks: MaskStore
    pixels: NDArray[np.int64]
    digests: Sequence[bytes]

    def mask(self, row: int) -> Mask:
        """Class of each pixel of an image, uint8 (H, W) at ``size(row)``.

        0 to K-1, or ``VOID``; it may be read-only.
        """
        return self.masks.mask(row)

    def label_counts(self, classes: int) -> LabelCounts:
        """Count the shares of the classes, and the images that show each."""
        of_classes = self.pixels[:, :classes]
        total = of_classes.sum(axis=0)
        counted = int(total.sum())
        return LabelCounts(
            amounts=total / max(1, counted),
            images=(of_classes > 0).sum(axis=0),
            empty=int((of_classes.sum(axis=1) == 0).sum()),
            counted=counted,
        )

    def label_bytes(self) -> Iterator[bytes]:
        """Yield the masks' hashes, and their numbers of pixels."""
        yield from self.digests
        yield np.ascontiguousarray(self.pixels).tobytes()

    def _labels_of(self, rows: Sequence[int]) -> dict[str, Any]:
        return {
            "masks": self.masks.subset(rows),
            "pixels": self.pixels[np.asarray(rows, dtype=np.int64)],
            "digests": [self.digests[row] for row in rows],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentationData(DenseData[SegmentationSplit]):
    """Data set of images with masks."""


class _MaskedImage(NamedTuple):
    """An image with its mask, files or arrays.

    ``name``: of the image. ``place``: of the mask, for messages. ``is_train``: whether it is of the train split.
    """

    image: Path | Pixels
    size: Size
    mask: Path | Mask
    raw: RawMask
    name: str
    place: str
    is_train: bool


def load_segmentation_data(
    settings: DenseDataSettings, *, on_progress: ProgressCallback | None = None
) -> SegmentationData:
    """Read, check, split and decode images with masks.

    ``on_progress(done, total)``: images whose header was read, masks that were read, then images decoded.

    Raises: NasError for a layout or split that is not found; with one line for each kind of fault in masks and images,
    unless ``settings.repair``; and if nothing is left to train on.
    """
    root, problems = dense_root(settings), LabelProblems()
    layout = find_layout(settings)
    source = read_mask_source(layout, root, settings, problems)
    images = _images(source, settings, problems, on_progress)
    with problems.before_others(root, settings):
        values = sorted({value for one in images for value in one.raw.counts})
        classes = mask_classes(settings, source.class_names, source.names_place, values)
    for one in images:
        unknown = [value for value in one.raw.counts if not classes.is_known[value]]
        if unknown:
            problems.add("mask_value", f"{one.place} (value {unknown[0]})")
    with problems.before_others(root, settings):
        rows = draw_splits(np.array([one.is_train for one in images], dtype=np.bool_), source.has_val, settings)
        files = [one.image for one in images if isinstance(one.image, Path)]
        if files:
            rows, stores = load_stores(files, [one.size for one in images], rows, settings, problems, on_progress)
        else:
            stores = [_array_store([images[row] for row in part], settings) for part in (rows.train, rows.val)]
    problems.check(root, settings)
    splits = [
        _split([images[row] for row in part], store, classes)
        for part, store in zip((rows.train, rows.val), stores, strict=True)
    ]
    pixels = splits[0].pixels.sum(axis=0)
    with problems.before_others(root, settings):
        return make_data(
            SegmentationData,
            settings,
            layout,
            source,
            classes.names,
            splits,
            found=rows.found,
            notices=[*classes.notices, *problems.repaired_lines],
            source_digest=source.digest,
            void=float(pixels[-1] / max(1, pixels.sum())),
        )


def _images(
    source: MaskSource, settings: DenseDataSettings, problems: LabelProblems, on_progress: ProgressCallback | None
) -> list[_MaskedImage]:
    """Images whose masks can be used.

    The faults of the others are added to ``problems``.
    """
    masks = read_masks(source.masks, source.names, settings.max_memory_bytes // 4, problems, on_progress)
    files = [one for one in source.images if isinstance(one, Path)]
    arrays = [one for one in source.images if isinstance(one, np.ndarray)]
    sizes = (
        read_sizes(files, unreadable(problems), on_progress)
        if files
        else [(one.shape[1], one.shape[0]) for one in arrays]
    )
    found = []
    for row, (image, size, mask, raw, name) in enumerate(
        zip(source.images, sizes, source.masks, masks, source.names, strict=True)
    ):
        place = shown_name(mask) if isinstance(mask, Path) else name
        if raw is not None and size is not None and fits_image(raw, size, place, problems):
            found.append(_MaskedImage(image, size, mask, raw, name, place, row < source.train_count))
    return found


def _array_store(images: Sequence[_MaskedImage], settings: DenseDataSettings) -> ImageStore:
    """Store of images that are arrays."""
    pixels = [one.image for one in images if isinstance(one.image, np.ndarray)]
    return ImageStore(PathTable([]), [one.size for one in images], settings.pixel_rules, pixels)


def _split(images: Sequence[_MaskedImage], store: ImageStore, classes: MaskClasses) -> SegmentationSplit:
    count = len(classes.names)
    pixels = np.zeros((len(images), count + 1), dtype=np.int64)
    for row, one in enumerate(images):
        for value, number in one.raw.counts.items():
            pixels[row, min(int(classes.index_of[value]), count)] += number
    masks = [one.mask if one.raw.pixels is None else one.raw.pixels for one in images]
    return SegmentationSplit(
        store=store,
        masks=MaskStore(masks, [one.size for one in images], classes.index_of),
        names=[shown_name(one.name) for one in images],
        pixels=pixels,
        digests=[one.raw.digest for one in images],
    )
