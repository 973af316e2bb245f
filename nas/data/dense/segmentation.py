"""Images with masks: read, checked, split, decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data.dense.classes import MaskClasses, mask_classes
from nas.data.dense.description import DenseClass, DenseDescription
from nas.data.dense.loading import (
    DrawnRows,
    check_labelled,
    draw_splits,
    load_notices,
    load_pixels,
    shown_sizes,
    store_of,
    unreadable,
)
from nas.data.dense.masks import Mask, MaskStore, RawMask, fits_image, read_masks
from nas.data.dense.pixels import ImageStore, Pixels, Size, read_sizes, store_statistics
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers.layouts import find_layout, read_mask_source
from nas.data.dense.records import MaskSource
from nas.data.dense.settings import DenseDataSettings, dense_root
from nas.data.image_files import PathTable, shown_name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentationSplit:
    """Images of a split with their masks.

    ``names``: of the images, as shown to users. ``pixels`` (N, K + 1): number of pixels of each class, then of void.
    ``digests``: hash of each mask as stored.
    """

    store: ImageStore
    masks: MaskStore
    names: Sequence[str]
    pixels: NDArray[np.int64]
    digests: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """File of an image, relative to the root, or its name in an npz file."""
        return self.names[row]

    def size(self, row: int) -> Size:
        """Width and height of an image in px, upright."""
        return self.store.size(row)

    def image(self, row: int, least: Size | None = None) -> Pixels:
        """Image of a row, uint8 RGB (H, W, 3), upright; it may be read-only.

        ``least``: width and height in px that suffice; a JPEG that is not in memory may then come smaller.
        """
        return self.store.image(row, least)

    def mask(self, row: int) -> Mask:
        """Class of each pixel of an image, uint8 (H, W) at ``size(row)``.

        0 to K-1, or ``VOID``; it may be read-only.
        """
        return self.masks.mask(row)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentationData:
    """Data set of images with masks.

    ``mean`` and ``std`` per channel of the train images, for pixels scaled to [0, 1]. ``settings``: how they become
    inputs. ``notices``: what the user should know of how the labels were read or repaired.
    """

    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train: SegmentationSplit
    val: SegmentationSplit
    settings: DenseDataSettings
    description: DenseDescription
    notices: tuple[str, ...] = ()
    source_digest: str = ""

    @property
    def classes(self) -> int:
        """Number of classes, without void."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Channels per image."""
        return 3

    def identity(self) -> list[Any]:
        """Return what the images and labels depend on, as JSON data.

        Names, sizes, masks, classes, settings.
        """
        digests = []
        for split in (self.train, self.val):
            digest = hashlib.sha256("\0".join(split.names).encode("utf-8", "surrogateescape"))
            for part in (*split.digests, np.ascontiguousarray(split.pixels).tobytes(), split.store.size_bytes()):
                digest.update(part)
            digests.append(digest.hexdigest())
        settings = self.settings.identity()
        del settings["root"]  # the data may be moved
        return [*digests, self.source_digest, list(self.class_names), list(self.mean), list(self.std), settings]


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
    masks = read_masks(source.masks, source.names, settings.max_memory_bytes // 4, problems, on_progress)
    sizes = _sizes(source, problems, on_progress)
    kept = [
        row
        for row, (mask, size) in enumerate(zip(masks, sizes, strict=True))
        if mask is not None and size is not None and fits_image(mask, size, _place(source, row), problems)
    ]
    values = sorted({value for row in kept for value in _mask(masks, row).counts})
    with problems.before_others(root, settings):
        classes = mask_classes(settings, source.class_names, source.names_place, values)
    for row in kept:
        unknown = [value for value in _mask(masks, row).counts if not classes.is_known[value]]
        if unknown:
            problems.add("mask_value", f"{_place(source, row)} (value {unknown[0]})")
    is_train = np.array([row < source.train_count for row in kept], dtype=np.bool_)
    data = _Kept(source, kept, [_mask(masks, row) for row in kept], [size for row in kept if (size := sizes[row])])
    with problems.before_others(root, settings):
        drawn = draw_splits(is_train, source.has_val, settings)
        drawn, stores = data.stores(drawn, settings, problems, on_progress)
    problems.check(root, settings)
    train, val = (data.split(part, store, classes) for part, store in zip(drawn[:2], stores, strict=True))
    check_labelled([int(part.pixels[:, :-1].sum()) for part in (train, val)], "a pixel of a class", settings)
    mean, std = store_statistics(train.store, np.arange(len(train)), settings.seed)
    held = [*classes.notices, *problems.repaired_lines]
    return SegmentationData(
        class_names=classes.names,
        mean=mean,
        std=std,
        train=train,
        val=val,
        settings=settings,
        description=_described(settings, layout, source, drawn.found, classes.names, train, val),
        notices=(*held, *load_notices(train.store, val.store, settings)),
        source_digest=source.digest,
    )


class _Kept:
    """The images that can be used, with their masks."""

    def __init__(
        self, source: MaskSource, kept: Sequence[int], masks: Sequence[RawMask], sizes: Sequence[Size]
    ) -> None:
        self._source, self._kept, self._masks, self._sizes = source, kept, masks, sizes

    def stores(
        self,
        rows: DrawnRows,
        settings: DenseDataSettings,
        problems: LabelProblems,
        on_progress: ProgressCallback | None,
    ) -> tuple[DrawnRows, list[ImageStore]]:
        """The rows whose images can be decoded, and the stores of both splits."""
        images = [self._source.images[row] for row in self._kept]
        files = [one for one in images if isinstance(one, Path)]
        if files:
            loaded = load_pixels(files, self._sizes, rows, settings, problems, on_progress)
            rows = loaded.rows
            return rows, [
                store_of(files, self._sizes, part, loaded.decoded, settings) for part in (rows.train, rows.val)
            ]
        return rows, [
            ImageStore(
                PathTable([]),
                [self._sizes[row] for row in part],
                settings.pixel_rules,
                [one for row in part if isinstance(one := images[row], np.ndarray)],
            )
            for part in (rows.train, rows.val)
        ]

    def split(self, rows: NDArray[np.int64], store: ImageStore, classes: MaskClasses) -> SegmentationSplit:
        """The split of ``rows``."""
        masks = [self._masks[row] for row in rows]
        sources = [
            self._source.masks[self._kept[row]] if mask.pixels is None else mask.pixels
            for row, mask in zip(rows, masks, strict=True)
        ]
        count = len(classes.names)
        pixels = np.zeros((len(rows), count + 1), dtype=np.int64)
        for place, mask in enumerate(masks):
            for value, number in mask.counts.items():
                pixels[place, min(int(classes.index_of[value]), count)] += number
        return SegmentationSplit(
            store=store,
            masks=MaskStore(sources, [self._sizes[row] for row in rows], classes.index_of),
            names=[shown_name(self._source.names[self._kept[row]]) for row in rows],
            pixels=pixels,
            digests=[mask.digest for mask in masks],
        )


def _sizes(source: MaskSource, problems: LabelProblems, on_progress: ProgressCallback | None) -> list[Size | None]:
    files = [one for one in source.images if isinstance(one, Path)]
    if files:
        return read_sizes(files, unreadable(problems), on_progress)
    return [(one.shape[1], one.shape[0]) for one in source.images if isinstance(one, np.ndarray)]


def _place(source: MaskSource, row: int) -> str:
    mask = source.masks[row]
    return shown_name(mask) if isinstance(mask, Path) else source.names[row]


def _mask(masks: Sequence[RawMask | None], row: int) -> RawMask:
    mask = masks[row]
    if mask is None:
        raise NasError(f"mask {row} is missing.")
    return mask


def _described(
    settings: DenseDataSettings,
    layout: str,
    source: MaskSource,
    found: int,
    class_names: Sequence[str],
    train: SegmentationSplit,
    val: SegmentationSplit,
) -> DenseDescription:
    totals = [part.pixels.sum(axis=0) for part in (train, val)]
    shares = [total[:-1] / max(1, total[:-1].sum()) for total in totals]
    images = [(part.pixels[:, :-1] > 0).sum(axis=0) for part in (train, val)]
    sizes = [part.size(row) for part in (train, val) for row in range(len(part))]
    return DenseDescription(
        task="segmentation",
        layout=layout,
        path=shown_name(dense_root(settings).absolute()),
        train_place=source.train_text,
        val_place=source.val_text,
        found=found,
        train=len(train),
        val=len(val),
        train_empty=int((train.pixels[:, :-1].sum(axis=1) == 0).sum()),
        val_empty=int((val.pixels[:, :-1].sum(axis=1) == 0).sum()),
        classes=tuple(
            DenseClass(
                name=shown_name(name),
                train=float(shares[0][row]),
                val=float(shares[1][row]),
                train_images=int(images[0][row]),
                val_images=int(images[1][row]),
            )
            for row, name in enumerate(class_names)
        ),
        void=float(totals[0][-1] / max(1, totals[0].sum())),
        sizes=shown_sizes(sizes),
        left_out=source.left_out,
    )
