"""Folders of images and of masks of the same names."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final

from nas.data.dense.classes import names_file
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers.folders import FoundSplits, find_folders, pair_files, visible_folders
from nas.data.dense.records import MaskSource, shown_place
from nas.data.dense.settings import DenseDataSettings
from nas.data.image_files import images_in, shown_name

_LABEL_FOLDERS: Final = ("masks", "mask", "segmentationclass", "annotations", "labels", "gt")
# JPEG is read to say that it does not keep class numbers.
_SUFFIXES: Final = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".webp", ".jpg", ".jpeg")


def is_masks(root: Path) -> bool:
    """Whether there is a folder of masks, in ``root`` or in a folder of it."""
    folders = [inner for outer in (root, *visible_folders(root)) for inner in visible_folders(outer)]
    return any(
        folder.name.lower() in _LABEL_FOLDERS and next(images_in(folder), None) is not None for folder in folders
    )


def find_masks(root: Path, settings: DenseDataSettings) -> FoundSplits:
    """Folders of the splits. Raises: NasError as ``find_folders``."""
    return find_folders(root, settings, _LABEL_FOLDERS)


def read_mask_folders(root: Path, settings: DenseDataSettings, problems: LabelProblems) -> MaskSource:
    """Pair the files of all splits.

    Images without a mask, and masks without an image, are added to ``problems``.

    Raises: NasError for splits that are not found.
    """
    found = find_masks(root, settings)
    left_out: Counter[str] = Counter(found.left_out)
    images: list[Path] = []
    masks: list[Path] = []
    train_count = 0
    for split in (found.train, found.val):
        for pair in () if split is None else pair_files(split, _SUFFIXES, problems, left_out):
            if pair.label is None:
                problems.add("label_missing", shown_name(pair.image))
            else:
                images.append(pair.image)
                masks.append(pair.label)
        train_count = len(images) if split is found.train else train_count
    names, place = names_file(root)
    return MaskSource(
        images=images,
        masks=masks,
        names=[os.path.relpath(image, root) for image in images],
        train_count=train_count,
        has_val=found.val is not None,
        train_text=shown_place(found.train.place, root),
        val_text=shown_place(found.val.place, root) if found.val else "",
        class_names=names,
        names_place=place,
        left_out=dict(left_out),
    )
