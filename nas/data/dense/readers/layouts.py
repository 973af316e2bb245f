"""Layouts of boxes and masks: which one a folder has, and whether it is complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from nas.core.errors import NasError, unknown_choice
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers import coco, mask_folders, npz, voc, yolo
from nas.data.dense.records import BoxSource, MaskSource
from nas.data.dense.settings import DENSE_TASKS, LAYOUTS, DenseDataSettings, dense_root

_IS_LAYOUT: Final[Mapping[str, Callable[[Path], bool]]] = {
    "coco": coco.is_coco,
    "voc": voc.is_voc,
    "yolo": yolo.is_yolo,
    "masks": mask_folders.is_masks,
    "npz": npz.is_npz,
}
_READ_BOXES: Final[Mapping[str, Callable[[Path, DenseDataSettings, LabelProblems], BoxSource]]] = {
    "coco": coco.read_coco,
    "voc": voc.read_voc,
    "yolo": yolo.read_yolo,
}
_READ_MASKS: Final[Mapping[str, Callable[[Path, DenseDataSettings, LabelProblems], MaskSource]]] = {
    "masks": mask_folders.read_mask_folders,
    "npz": npz.read_npz,
}
_CHECK: Final[Mapping[str, Callable[[Path, DenseDataSettings], object]]] = {
    "coco": coco.find_coco,
    "voc": voc.find_voc,
    "yolo": yolo.find_yolo,
    "masks": mask_folders.find_masks,
    "npz": npz.find_npz,
}


def find_layout(settings: DenseDataSettings) -> str:
    """The layout of ``settings``, found in the folder if it is ``auto``.

    Raises: NasError if there is no folder, none or several layouts.
    """
    root = dense_root(settings)
    if settings.layout != "auto":
        return settings.layout
    found = [name for name in LAYOUTS[settings.task] if name in _IS_LAYOUT and _IS_LAYOUT[name](root)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(LAYOUTS[settings.task])
    if found:
        raise NasError(f"data.layout: auto finds {' and '.join(found)} in {root}; set data.layout to one of {names}.")
    raise NasError(f"data.layout: auto finds none of {names} in {root}; set data.root to the folder that holds them.")


def read_boxes(layout: str, root: Path, settings: DenseDataSettings, problems: LabelProblems) -> BoxSource:
    """Read the boxes of a data set of the given layout."""
    return _READ_BOXES[layout](root, settings, problems)


def read_mask_source(layout: str, root: Path, settings: DenseDataSettings, problems: LabelProblems) -> MaskSource:
    """Read the masks, or find their files, of a data set of the given layout."""
    return _READ_MASKS[layout](root, settings, problems)


def check_dense_data(settings: DenseDataSettings, task: str) -> None:
    """Check that the folder, its layout and its splits are there.

    Labels and images are not read, torch is not loaded.

    Raises: NasError naming the setting, folder or file at fault.
    """
    if task not in DENSE_TASKS:
        raise unknown_choice("task", task, DENSE_TASKS)
    if settings.name != task:
        raise NasError(f"data.name {settings.name!r}: is not for task={task}; use data={task}.")
    layout, root = find_layout(settings), dense_root(settings)
    _CHECK[layout](root, settings)
