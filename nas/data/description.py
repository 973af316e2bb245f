"""What a data set consists of: splits, classes, counts, files left out.

Plain data, stored with each study so that reports show it without loading images; imports no torch.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.formatting import first_names, percent, plural
from nas.core.parsing import MAX_JSON_CHARACTERS, parse_json, read_text
from nas.core.validation import check_number

DATASET_FILE: Final = "dataset.json"
_FORMAT: Final = "nas.dataset/1"
_REMEDY: Final = "delete it, resuming the study writes it anew"
_FEW_TRAIN: Final = 10  # images of a class: fewer say next to nothing about it
_FEW_VAL: Final = 5
_MAJORITY: Final = 0.5  # share of the largest class, and its ratio to an equal share, from which it is warned of
_MAJORITY_RATIO: Final = 1.2
_REASONS_SHOWN: Final = 8
_CLASSES_SHOWN: Final = 12  # rows of the table in the report


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """Numbers of images of one class.

    ``found``: train images before ``data.subset`` is drawn, ``train``: those used. ``sample``: PNG of some of them,
    base64, or empty.
    """

    name: str
    found: int
    train: int
    val: int
    sample: str = ""

    def __post_init__(self) -> None:
        for name in ("found", "train", "val"):
            check_number(name, getattr(self, name), low=0, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdenticalImages:
    """Images that are in both splits: how many of validation, and the names of a pair."""

    count: int = 0
    train: str = ""
    val: str = ""

    def __post_init__(self) -> None:
        check_number("count", self.count, low=0, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDescription:
    """Which images and classes a data set consists of.

    ``name``: of the source, ``path``: where it is, or empty. ``train_folder`` and ``val_folder`` are relative to the
    path; an empty ``val_folder`` is a split drawn from the train images. ``classes`` in label order. ``left_out``:
    number of files by reason. ``identical``: images in both splits. ``sample_px``: the side of the sample images.
    """

    name: str
    path: str = ""
    train_folder: str = ""
    val_folder: str = ""
    classes: tuple[ClassCount, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    identical: IdenticalImages = IdenticalImages()
    sample_px: int | None = None
    largest_sample_px: ClassVar[int] = 64  # larger samples are stored at this side, so that pages stay small

    def __post_init__(self) -> None:
        check_number("sample_px", self.sample_px, low=1, whole=True, optional=True)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return tuple(one.name for one in self.classes)

    @property
    def train(self) -> int:
        """Number of train images that are used."""
        return sum(one.train for one in self.classes)

    @property
    def found(self) -> int:
        """Number of train images that were found."""
        return sum(one.found for one in self.classes)

    @property
    def val(self) -> int:
        """Number of validation images."""
        return sum(one.val for one in self.classes)

    @property
    def majority(self) -> tuple[str, float]:
        """The largest class of the validation images and its share.

        The share is the accuracy of always guessing this class.
        """
        largest = max(self.classes, key=lambda one: one.val)
        return largest.name, largest.val / max(self.val, 1)

    @property
    def lines(self) -> list[str]:
        """The data set in a few lines, without warnings."""
        name, share = self.majority
        lines = [
            f"data {self.name}{f': {self.path}' if self.path else ''}",
            f"  train: {self.train_text}; validation: {self.val_text}",
            f"  {len(self.classes):,} classes: {first_names(self.class_names)}; images per class: "
            f"{_range(one.train for one in self.classes)} train, {_range(one.val for one in self.classes)} validation",
            f"  always guessing {name!r} is right for {percent(share)} of the validation images",
        ]
        return [*lines, *([f"  left out: {self.left_out_text}"] if self.left_out else [])]

    @property
    def left_out_text(self) -> str:
        """Numbers of files that were left out, by reason, most first."""
        counts = sorted(self.left_out.items(), key=lambda item: -item[1])
        others = sum(count for _, count in counts[_REASONS_SHOWN:])
        shown = [*counts[:_REASONS_SHOWN], *([("for other reasons", others)] if others else [])]
        return ", ".join(f"{count:,} ({reason})" for reason, count in shown)

    @property
    def warnings(self) -> list[str]:
        """What makes accuracies on these images less worth than they seem."""
        return [*self._few_images(), *self._majority_warning(), *self._identical_warning()]

    @property
    def shown_classes(self) -> list[ClassCount]:
        """Classes for a table: all, or of many those with most and fewest train images."""
        if len(self.classes) <= _CLASSES_SHOWN:
            return list(self.classes)
        ordered = sorted(self.classes, key=lambda one: (-one.found, one.name))
        return [*ordered[: _CLASSES_SHOWN // 2], *ordered[-_CLASSES_SHOWN // 2 :]]

    @property
    def train_text(self) -> str:
        """The train images in words."""
        folder = f"{self.train_folder}/, " if self.train_folder else ""
        used = f", {self.train:,} of them used (data.subset)" if self.train < self.found else ""
        return f"{folder}{plural(self.found, 'image')}{used}"

    @property
    def val_text(self) -> str:
        """The validation images in words."""
        kind = f"{self.val_folder}/, " if self.val_folder else ""
        return f"{kind}{plural(self.val, 'image')}{'' if kind else ' split off (data.val_fraction)'}"

    def _few_images(self) -> Iterator[str]:
        for split, least, hint in (
            ("train", _FEW_TRAIN, "raise data.subset" if self.train < self.found else "add images or leave it out"),
            ("val", _FEW_VAL, "accuracy says little about it"),
        ):
            few = [one for one in self.classes if getattr(one, split) < least]
            if few:
                worst = min(few, key=lambda one: (getattr(one, split), one.name))
                kind = "train" if split == "train" else "validation"
                which = f"{len(few):,} of {len(self.classes):,} classes have" if len(few) > 1 else "a class has"
                fewest = f"{worst.name!r} has {getattr(worst, split):,}"
                yield f"{which} fewer than {least} {kind} images ({fewest}): {hint}"

    def _majority_warning(self) -> Iterator[str]:
        name, share = self.majority
        if share > _MAJORITY and share > _MAJORITY_RATIO / len(self.classes):
            yield (
                f"class {name!r} has {percent(share)} of the validation images: always guessing it gives this "
                "accuracy, so compare accuracies with it"
            )

    def _identical_warning(self) -> Iterator[str]:
        same = self.identical
        if same.count:
            pair = f" (such as {same.val} and {same.train})" if same.val else ""
            verb = "is" if same.count == 1 else "are"
            yield (
                f"{plural(same.count, 'validation image')} {verb} identical to train images{pair}: accuracy counts "
                "what was memorised; remove them from one of the splits"
            )


def write_description(description: DatasetDescription, folder: Path) -> None:
    """Write ``description`` into the folder of a study, whole or not at all."""
    write_content(folder / DATASET_FILE, _FORMAT, asdict(description))


def read_description(folder: Path) -> DatasetDescription | None:
    """The description in the folder of a study; None for one of a version without it.

    Raises: NasError if the file is damaged.
    """
    path = folder / DATASET_FILE
    content = read_content(path, _FORMAT, _REMEDY)
    if content is None:
        return None
    return _description_of(content, path)


def write_content(path: Path, form: str, content: dict[str, Any]) -> None:
    """Write a stored description of format ``form``, which ``read_content`` reads."""
    write_text_atomically(path, json.dumps({"format": form, **content}, ensure_ascii=False) + "\n")


def read_content(path: Path, form: str, remedy: str) -> dict[str, Any] | None:
    """Content of a stored description; None if there is no file.

    ``form``: its format. ``remedy``: what to do about a damaged one, for the message.

    Raises: NasError if the file is damaged: of another format, without classes, or without numbers of files left out.
    """
    try:
        content = parse_json(read_text(path, max_characters=MAX_JSON_CHARACTERS))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise damaged_description(path, str(error), remedy) from None
    if not isinstance(content, dict) or content.pop("format", None) != form:
        raise damaged_description(path, f"its format is not {form}", remedy)
    classes, left_out = content.get("classes"), content.get("left_out", {})
    if not isinstance(classes, list) or not classes:
        raise damaged_description(path, "it lists no classes", remedy)
    if not isinstance(left_out, dict) or any(type(count) is not int for count in left_out.values()):
        raise damaged_description(path, "left_out must be numbers by reason", remedy)
    return content


def damaged_description(path: Path, reason: str, remedy: str) -> NasError:
    """The error for a stored description that is damaged."""
    return NasError(f"{path}: is damaged: {' '.join(reason.split())}; {remedy}.")


def _description_of(content: dict[str, Any], path: Path) -> DatasetDescription:
    counts = tuple(from_mapping(ClassCount, one, f"{path}: classes") for one in content["classes"])
    for one in counts:
        if not _is_base64(one.sample):
            raise damaged_description(path, f"the sample of class {one.name!r} is no base64", _REMEDY)
    identical = from_mapping(IdenticalImages, content.get("identical", {}), f"{path}: identical")
    return from_mapping(DatasetDescription, {**content, "classes": counts, "identical": identical}, str(path))


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _range(counts: Iterator[int]) -> str:
    values = list(counts)
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
