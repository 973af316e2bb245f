"""Boxes in YOLO text: one file per image, one line per object.

Source: Ultralytics' documentation of data sets. A line is ``class x y width height`` (centre and size, in shares of the
image), or ``class x1 y1 x2 y2 x3 y3 ...``, a polygon, whose bounding box is taken. ``data.yaml`` states splits and
names.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from nas.core.errors import NasError, quoted
from nas.core.parsing import MAX_YAML_CHARACTERS, parse_yaml, read_text
from nas.core.validation import is_whole_text
from nas.data.dense.classes import names_file
from nas.data.dense.problems import LabelProblems
from nas.data.dense.readers.folders import (
    FoundSplits,
    LabelledFile,
    find_folders,
    given_split,
    label_suffix_found,
    pair_files,
)
from nas.data.dense.records import BoxedImage, BoxSource, box_arrays, shown_place
from nas.data.dense.settings import MAX_CLASSES, DenseDataSettings, checked_class_names
from nas.data.image_files import shown_name

_LABEL_FOLDERS: Final = ("labels", "label", "annotations")
_SUFFIXES: Final = (".txt",)
_CONFIGS: Final = ("data.yaml", "data.yml", "dataset.yaml")
_MAX_SHARE: Final = 1e6  # of a coordinate: a larger one is no share of an image
_MAX_CHARACTERS: Final = 16_000_000  # of one file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """What data.yaml states; all None without one."""

    path: Path | None = None
    splits: dict[str, str] | None = None
    names: tuple[str, ...] | None = None


class _Line(NamedTuple):
    number: int
    label: int
    box: tuple[float, float, float, float]


def is_yolo(root: Path) -> bool:
    """Whether there are text files where labels are expected."""
    return label_suffix_found(root, _LABEL_FOLDERS, _SUFFIXES)


def find_yolo(root: Path, settings: DenseDataSettings) -> FoundSplits:
    """Folders of the splits: of data.train, of data.yaml, or as found.

    Raises: NasError as ``find_folders``, and for an invalid data.yaml.
    """
    config = _config(root)
    if settings.train is not None or config.path is None or not config.splits or "train" not in config.splits:
        return find_folders(root, settings, _LABEL_FOLDERS)
    found = {
        key: given_split(root, root, f"{config.path}: {key}", _resolved(root, value), _LABEL_FOLDERS)
        for key, value in config.splits.items()
        if key in ("train", "val")
    }
    val = found.get("val")
    return FoundSplits(base=root, train=found["train"], val=None if val == found["train"] else val)


def read_yolo(root: Path, settings: DenseDataSettings, problems: LabelProblems) -> BoxSource:
    """Read the boxes of all splits; what is wrong with them is added to ``problems``.

    Class names are ``settings.classes``, else those of data.yaml, of a file of names, or the numbers that occur.

    Raises: NasError for splits that are not found, and for invalid names.
    """
    found = find_yolo(root, settings)
    left_out: Counter[str] = Counter(found.left_out)
    splits = [
        [_read_file(pair, settings, problems) for pair in pair_files(split, _SUFFIXES, problems, left_out)]
        for split in (found.train, found.val)
        if split is not None
    ]
    names = settings.classes or _config(root).names or names_file(root)[0]
    notices = []
    if names is None:
        highest = max((line.label for split in splits for _, lines in split for line in lines or ()), default=-1)
        if not 0 <= highest < MAX_CLASSES:
            raise NasError(
                f"data.root: no label file of {root} has an object of a class from 0 to {MAX_CLASSES - 1:,}; set "
                "data.root, data.layout or data.classes."
            )
        names = tuple(str(number) for number in range(highest + 1))
        notices.append("classes have no names (data.yaml, classes.txt or data.classes): numbers are their names")
    boxed = [
        [_boxed(pair, lines, len(names), problems) for pair, lines in split if lines is not None] for split in splits
    ]
    return BoxSource(
        class_names=names,
        train=boxed[0],
        val=boxed[1] if len(boxed) > 1 else None,
        train_text=shown_place(found.train.place, root),
        val_text=shown_place(found.val.place, root) if found.val else "",
        left_out=dict(left_out),
        notices=notices,
    )


def _read_file(
    pair: LabelledFile, settings: DenseDataSettings, problems: LabelProblems
) -> tuple[LabelledFile, list[_Line] | None]:
    """Objects of an image, None if its labels are missing or cannot be read."""
    if pair.label is None:
        if settings.allow_unlabelled:
            return pair, []
        problems.add("label_missing", f"{shown_name(pair.image)} (data.allow_unlabelled=true: it shows no object)")
        return pair, None
    try:
        lines = read_text(pair.label, max_characters=_MAX_CHARACTERS).splitlines()
    except (OSError, ValueError) as error:
        problems.add("label_unreadable", f"{shown_name(pair.label)} ({error})")
        return pair, None
    objects = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        one = _parsed(number, words)
        if one is None:
            problems.add("label_malformed", f"{shown_name(pair.label)}, line {number}: {quoted(line.strip())}")
        else:
            objects.append(one)
    return pair, objects


def _parsed(number: int, words: Sequence[str]) -> _Line | None:
    if not is_whole_text(words[0]):
        return None
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        return None
    if not all(abs(value) <= _MAX_SHARE for value in values):  # false for NaN
        return None
    if len(values) == 4:
        x, y, width, height = values
        return _Line(number, int(words[0]), (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(values) < 6 or len(values) % 2:
        return None
    across, down = values[::2], values[1::2]
    return _Line(number, int(words[0]), (min(across), min(down), max(across), max(down)))


def _boxed(pair: LabelledFile, lines: Sequence[_Line], classes: int, problems: LabelProblems) -> BoxedImage:
    label = pair.label or pair.image
    known = [line for line in lines if line.label < classes]
    for line in lines:
        if line.label >= classes:
            place = f"{shown_name(label)}, line {line.number} (class {line.label} of {classes})"
            problems.add("class_unknown", place)
    boxes, labels, ignored = box_arrays([(line.box, line.label, False) for line in known])
    return BoxedImage(image=pair.image, label=label, boxes=boxes, labels=labels, ignored=ignored, is_relative=True)


def _config(root: Path) -> _Config:
    """What data.yaml in ``root`` states. Raises: NasError if it is invalid."""
    path = next((root / name for name in _CONFIGS if (root / name).is_file()), None)
    if path is None:
        return _Config()
    try:
        content: Any = parse_yaml(read_text(path, max_characters=MAX_YAML_CHARACTERS))
    except (OSError, ValueError) as error:
        raise NasError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise NasError(f"{path}: must be a mapping with train, val and names.")
    splits = {}
    for key in ("train", "val"):
        value = content.get(key) or (content.get("valid") if key == "val" else None)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is not None and not isinstance(value, str):
            raise NasError(f"{path}: {key} {quoted(value)}: must be one folder or list; set data.train and data.val.")
        if value:
            splits[key] = str(Path(str(content.get("path") or ".")) / value)
    names, count = _names(content.get("names"), path), content.get("nc")
    if names is not None and count is not None and count != len(names):
        raise NasError(f"{path}: nc {quoted(count)}: names lists {len(names)}; make them agree, or remove nc.")
    return _Config(path=path, splits=splits, names=names)


def _names(names: Any, path: Path) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, dict):
        names = {int(key) if isinstance(key, str) and is_whole_text(key) else key: name for key, name in names.items()}
        if not all(isinstance(key, int) for key in names) or sorted(names) != list(range(len(names))):
            raise NasError(
                f"{path}: names must be numbered from 0 without gaps, not {quoted(sorted(map(str, names)))}."
            )
        names = [names[key] for key in sorted(names)]
    return checked_class_names(names, f"{path}: names")


def _resolved(root: Path, value: str) -> Path:
    """Path of a split in data.yaml.

    Relative to its folder, with or without leading ``../`` and ``path``.
    """
    parts = Path(value).parts
    tails = [Path(*parts[start:]) for start in range(len(parts))]
    return next((root / tail for tail in tails if os.path.exists(root / tail)), root / value)
