"""Files of an image folder by class and split, and what is left out, by reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nas.data.description import ClassCount, DatasetDescription, IdenticalImages
from nas.data.folder_layout import FolderSplits
from nas.data.image_files import images_in, shown_name, sorted_images, walk_files
from nas.data.sources import DataSettings, existing_root, folder_splits
from nas.data.split import Labels, Rows, draw_subset, split_rows


class SplitRows(NamedTuple):
    """Rows of a data set by split: train images found, those used, and of validation."""

    found: Rows
    train: Rows
    val: Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderListing:
    """All image files of the splits.

    The first ``train_count`` are of the train split. ``base``: the folder that paths are shown relative to. ``labels``
    int64 (N,). ``left_out``: number of files by reason.
    """

    base: Path
    splits: FolderSplits
    files: Sequence[Path]
    labels: Labels
    train_count: int
    left_out: Mapping[str, int]

    def shown(self, path: Path) -> str:
        """Path relative to the base, which is empty itself; as it is if it lies elsewhere."""
        text = os.path.relpath(path, self.base)
        return "" if text == "." else shown_name(path if text.startswith("..") else text)


def list_folder(settings: DataSettings) -> FolderListing:
    """List the image files of ``settings``, sorted within each class.

    Raises: NasError as ``folder_splits``.
    """
    splits = folder_splits(settings)
    base = existing_root(settings) if settings.root else splits.train
    left_out: Counter[str] = Counter()
    train, train_labels = _list_split(splits.train, splits.class_names, left_out)
    val, val_labels = _list_split(splits.val, splits.class_names, left_out) if splits.val else ([], train_labels[:0])
    _count_beside(splits, base if settings.train is None else None, left_out)
    return FolderListing(
        base=base,
        splits=splits,
        files=[*train, *val],
        labels=np.concatenate([train_labels, val_labels]),
        train_count=len(train),
        left_out=left_out,
    )


def folder_rows(listing: FolderListing, settings: DataSettings) -> SplitRows:
    """The rows of the files in ``listing`` by split, as ``settings`` draw them.

    Raises: NasError for a split or a subset that cannot be drawn.
    """
    if listing.splits.val is None:
        found, val = split_rows(listing.labels, settings.val_fraction, settings.seed)
    else:
        found, val = np.split(np.arange(len(listing.files)), [listing.train_count])
    return SplitRows(found, draw_subset(found, listing.labels, settings.subset, settings.seed), val)


def fits_memory(settings: DataSettings, side_px: int) -> bool:
    """Whether memory may hold all images of ``settings`` at ``side_px``.

    Of other data sets than image folders it may. Raises: NasError as ``list_folder`` and ``folder_rows``.
    """
    if settings.name != "imagefolder":
        return True
    rows = folder_rows(list_folder(settings), settings)
    return 3 * side_px**2 * (len(rows.train) + len(rows.val)) <= settings.max_memory_bytes


def describe_folder(
    listing: FolderListing, rows: SplitRows, identical: Sequence[tuple[Path, Path]]
) -> DatasetDescription:
    """Describe an image folder.

    ``identical``: pairs of a train and a validation file of the same bytes.
    """
    names = [listing.shown(path) for path in identical[0]] if identical else ["", ""]
    return DatasetDescription(
        name="imagefolder",
        path=shown_name(listing.base.absolute()),
        train_folder=listing.shown(listing.splits.train),
        val_folder=listing.shown(listing.splits.val) if listing.splits.val else "",
        classes=class_counts(listing.splits.class_names, *(listing.labels[part] for part in rows)),
        left_out=dict(listing.left_out),
        identical=IdenticalImages(count=len(identical), train=names[0], val=names[1]),
    )


def class_counts(names: Sequence[str], found: Labels, train: Labels, val: Labels) -> tuple[ClassCount, ...]:
    """Count the images of each class, from the labels (n,) of each split."""
    counts = zip(*(np.bincount(labels, minlength=len(names)).tolist() for labels in (found, train, val)), strict=True)
    return tuple(
        ClassCount(name=shown_name(name), found=n_found, train=n_train, val=n_val)
        for name, (n_found, n_train, n_val) in zip(names, counts, strict=True)
    )


def _list_split(folder: Path, class_names: Sequence[str], left_out: Counter[str]) -> tuple[list[Path], Labels]:
    by_class: list[list[Path]] = []
    for name in class_names:
        files, others = sorted_images(folder / name)
        by_class.append(files)
        left_out.update(others)
    labels = np.repeat(np.arange(len(class_names), dtype=np.int64), [len(files) for files in by_class])
    return [file for files in by_class for file in files], labels


def _count_beside(splits: FolderSplits, root: Path | None, left_out: Counter[str]) -> None:
    """Count the files beside the class folders: of other folders, and in none of them.

    ``root``: where the splits were found; None where they are given, so that what lies beside them is not part of it.
    """
    split_folders = [folder for folder in (splits.train, splits.val) if folder is not None]
    for folder, why in splits.unused.items():
        count = sum(1 for _ in images_in(folder))
        if count:
            left_out[f"in {shown_name(folder.name)}/, {why}"] += count
    handled = {folder / name for folder in split_folders for name in splits.class_names} | splits.unused.keys()
    for folder in split_folders if root is None else [root]:
        for _, reason in walk_files(folder, without=handled):
            left_out[reason or "not in a class folder"] += 1
