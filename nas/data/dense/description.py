"""Description of images with boxes or masks: splits, classes, counts, sizes.

Plain data, stored beside results so that reports show it without loading images; loads no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from nas.core.dataclass_io import from_mapping
from nas.core.formatting import first_names, percent, plural
from nas.core.validation import check_number
from nas.data.description import damaged_description, read_content, write_content

DENSE_DATASET_FILE: Final = "dense_dataset.json"
_FORMAT: Final = "nas.dense_dataset/1"
_REMEDY: Final = "delete it, training or resuming writes it anew"
_DIGEST: Final = 16  # hexadecimal digits
_FEW_TRAIN: Final = 10  # images with a class: fewer say next to nothing about it
_REASONS_SHOWN: Final = 8
_SIZE_NAMES: Final = ("small", "medium", "large")  # of boxes, by COCO: areas below 32^2 and 96^2 px


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseClass:
    """A class in numbers.

    ``train`` and ``val``: number of boxes, or share of the pixels that have a class. ``train_images`` and
    ``val_images``: images that show it.
    """

    name: str
    train: float
    val: float
    train_images: int
    val_images: int

    def __post_init__(self) -> None:
        for name in ("train", "val"):
            check_number(name, getattr(self, name), low=0)
        for name in ("train_images", "val_images"):
            check_number(name, getattr(self, name), low=0, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseDescription:
    """Images and labels that a data set consists of.

    ``task``, ``layout`` as in ``DenseDataSettings``; ``path``: its folder. ``train_place`` and ``val_place`` are
    relative to the path; an empty ``val_place`` is a split drawn from the train images. ``found``: train images before
    ``data.subset``; ``train`` and ``val``: images used; ``train_empty`` and ``val_empty``: those that show no class.
    ``classes`` in label order. ``box_sizes``: train boxes that are small, medium, large (COCO's areas in px of the
    image). ``ignored``: boxes that are neither to be found nor mistakes. ``void``: share of train pixels without a
    class. ``sizes``: smallest, median and largest image by area, ``640x480``. ``left_out``: files by reason.
    ``notices``: how the labels were read or repaired. ``digest``: of names, sizes, labels, classes and mean colours,
    empty in older files.
    """

    task: str
    layout: str
    path: str
    train_place: str
    val_place: str = ""
    found: int
    train: int
    val: int
    train_empty: int = 0
    val_empty: int = 0
    classes: tuple[DenseClass, ...]
    box_sizes: tuple[int, ...] = ()
    ignored: int = 0
    void: float = 0.0
    sizes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    digest: str = ""

    def __post_init__(self) -> None:
        for name in ("found", "train", "val", "train_empty", "val_empty", "ignored"):
            check_number(name, getattr(self, name), low=0, whole=True)
        check_number("void", self.void, low=0, high=1)
        for name in ("box_sizes", "sizes", "notices"):  # JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return tuple(one.name for one in self.classes)

    @property
    def has_boxes(self) -> bool:
        """Whether labels are boxes, not masks."""
        return self.task == "detection"

    @property
    def lines(self) -> list[str]:
        """The data set in a few lines, without warnings."""
        first = f"data {self.task}: {self.path} ({self.layout})"
        lines = [
            first,
            f"  train: {self.train_text}; validation: {self.val_text}; {self.size_text}",
            f"  {len(self.classes):,} class{'' if len(self.classes) == 1 else 'es'}: {self.class_text}",
        ]
        if self.empty_text:
            lines.append(f"  {self.empty_text}")
        if self.ignored:
            lines.append(f"  {plural(self.ignored, 'box') if self.ignored == 1 else f'{self.ignored:,} boxes'} ignored")
        return [*lines, *([f"  left out: {self.left_out_text}"] if self.left_out else [])]

    @property
    def empty_text(self) -> str:
        """Numbers of images that show no class, in words; empty without any."""
        splits = (("train", self.train_empty, self.train), ("validation", self.val_empty, self.val))
        empty = [f"{count:,} of {total:,} {split} images" for split, count, total in splits if count]
        return f"without any {'box' if self.has_boxes else 'labelled pixel'}: {', '.join(empty)}" if empty else ""

    @property
    def class_text(self) -> str:
        """The first classes with their counts or shares of the train images."""
        parts = [f"{one.name} {self.amount(one.train)}" for one in self.classes]
        void = f" ({self.void_text} of all are void)" if self.void else ""
        return first_names(parts, most=12) + (" train boxes" if self.has_boxes else f" of the train pixels{void}")

    def amount(self, value: float) -> str:
        """A number of boxes, or a share of pixels, as text."""
        return f"{value:,.0f}" if self.has_boxes else percent(value, digits=1)

    @property
    def train_text(self) -> str:
        """The train images in words."""
        used = f", {self.train:,} of them used (data.subset)" if self.train < self.found else ""
        return f"{self.train_place}, {plural(self.found, 'image')}{used}"

    @property
    def val_text(self) -> str:
        """The validation images in words."""
        place = f"{self.val_place}, " if self.val_place else ""
        return f"{place}{plural(self.val, 'image')}{'' if place else ' split off (data.val_fraction)'}"

    @property
    def size_text(self) -> str:
        """Sizes of the images in words."""
        if len(set(self.sizes)) < 2:
            return f"{self.sizes[0]} px" if self.sizes else "sizes unknown"
        return f"{self.sizes[0]} to {self.sizes[-1]} px, {self.sizes[len(self.sizes) // 2]} at the median"

    @property
    def box_size_text(self) -> str:
        """Train boxes by size in words; empty of masks."""
        return ", ".join(f"{count:,} {name}" for name, count in zip(_SIZE_NAMES, self.box_sizes, strict=False))

    @property
    def void_text(self) -> str:
        """Share of the train pixels without a class."""
        return percent(self.void, digits=1)

    @property
    def left_out_text(self) -> str:
        """Numbers of files that were left out, by reason, most first."""
        counts = sorted(self.left_out.items(), key=lambda item: -item[1])
        others = sum(count for _, count in counts[_REASONS_SHOWN:])
        shown = [*counts[:_REASONS_SHOWN], *([("for other reasons", others)] if others else [])]
        return ", ".join(f"{count:,} ({reason})" for reason, count in shown)

    @property
    def warnings(self) -> list[str]:
        """What makes scores on these images less worth than they seem."""
        return [*self._empty_classes(), *self._few_images()]

    def _empty_classes(self) -> Iterator[str]:
        for split, word, of_one, of_many in (
            (
                "train_images",
                "train",
                "it cannot be learned, remove it from data.classes or add images",
                "they cannot be learned, remove them from data.classes or add images",
            ),
            ("val_images", "validation", "it is not scored", "they are not scored"),
        ):
            empty = [one.name for one in self.classes if not getattr(one, split)]
            if empty:
                kind = "a class is" if len(empty) == 1 else f"{len(empty):,} of {len(self.classes):,} classes are"
                yield f"{kind} in no {word} image ({first_names(empty)}): {of_one if len(empty) == 1 else of_many}"

    def _few_images(self) -> Iterator[str]:
        few = [one for one in self.classes if 0 < one.train_images < _FEW_TRAIN]
        if few:
            worst = min(few, key=lambda one: (one.train_images, one.name))
            which = "a class is" if len(few) == 1 else f"{len(few):,} of {len(self.classes):,} classes are"
            yield (
                f"{which} in fewer than {_FEW_TRAIN} train images ({worst.name!r} in {worst.train_images:,}): "
                "add images"
            )


def with_digest(description: DenseDescription, identity: Sequence[Any]) -> DenseDescription:
    """Return ``description`` with a digest of images and labels.

    ``identity``: of these, as JSON data.
    """
    return replace(description, digest=hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:_DIGEST])


def write_dense_description(description: DenseDescription, folder: Path) -> None:
    """Write ``description`` into a folder of results, whole or not at all."""
    write_content(folder / DENSE_DATASET_FILE, _FORMAT, asdict(description))


def read_dense_description(folder: Path) -> DenseDescription | None:
    """The description in a folder of results; None if there is none.

    Raises: NasError if the file is damaged.
    """
    path = folder / DENSE_DATASET_FILE
    content = read_content(path, _FORMAT, _REMEDY)
    if content is None:
        return None
    is_text = all(_is_list_of(content.get(key, []), str) for key in ("sizes", "notices"))
    if not is_text or not _is_list_of(content.get("box_sizes", []), int):
        raise damaged_description(path, "box_sizes must be numbers, sizes and notices texts", _REMEDY)
    counts = tuple(from_mapping(DenseClass, one, f"{path}: classes") for one in content["classes"])
    return from_mapping(DenseDescription, {**content, "classes": counts}, str(path))


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(type(one) is kind for one in value)
