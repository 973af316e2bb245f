"""Faults of labels and images, counted by kind, with their repairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from nas.core import escape_controls
from nas.core.errors import NasError
from nas.data.dense.settings import DenseDataSettings

_MAX_PLACE: Final = 300  # characters


class Fault(NamedTuple):
    """A kind of fault: its name in messages, and what a repair does."""

    text: str
    repair: str


# In the order of messages. What is only told is in warnings of the description and in notices of the data.
FAULTS: Final[Mapping[str, Fault]] = {
    "label_unreadable": Fault("label files that cannot be read", "their images are left out"),
    "label_malformed": Fault("labels that cannot be read", "they are left out"),
    "image_unreadable": Fault("images that cannot be decoded", "they are left out"),
    "label_missing": Fault("images without a label file", "they are left out"),
    "image_missing": Fault("labels without an image", "they are left out"),
    "size_differs": Fault(
        "images of another size than their label states",
        "boxes are scaled; an image of another shape is left out",
    ),
    "box_outside": Fault(
        "boxes that reach beyond their image", "they are clipped; one of which nothing remains is left out"
    ),
    "box_no_area": Fault("boxes of no area", "they are left out"),
    "class_unknown": Fault("boxes of unknown class", "they are left out"),
    "box_repeated": Fault("boxes that repeat another of the same class", "one of each is kept"),
    "mask_size": Fault(
        "masks of another size than their image",
        "they are resized to the image (nearest pixel); an image whose mask has another shape is left out",
    ),
    "mask_value": Fault("masks with values of no class", "these pixels are void"),
    "mask_colour": Fault("masks in colours instead of class numbers", "their images are left out"),
    "mask_lossy": Fault("masks in a lossy format (JPEG), whose values are not exact", "their images are left out"),
}


class LabelProblems:
    """Faults found in a data set, counted by kind, each with the first place."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._places: dict[str, str] = {}

    def add(self, kind: str, place: str, count: int = 1) -> None:
        """Count faults of a ``kind`` (a key of ``FAULTS``) at ``place`` (file and detail)."""
        self._counts[kind] = self._counts.get(kind, 0) + count
        if kind not in self._places:
            self._places[kind] = escape_controls(place[:_MAX_PLACE])

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of faults by kind."""
        return {kind: self._counts[kind] for kind in FAULTS if kind in self._counts}

    @property
    def lines(self) -> list[str]:
        """One line for each kind of fault: how many, and the first."""
        return [f"{FAULTS[kind].text}: {count:,}, first {self._places[kind]}" for kind, count in self.counts.items()]

    @property
    def repaired_lines(self) -> list[str]:
        """The same lines, with what the repair does."""
        return [
            f"data.repair: {line}: {FAULTS[kind].repair}" for kind, line in zip(self.counts, self.lines, strict=True)
        ]

    @contextmanager
    def before_others(self, root: Path, settings: DenseDataSettings) -> Iterator[None]:
        """Context in which an error gives way to faults, which may be its cause.

        Repaired ones are told below it.
        """
        try:
            yield
        except NasError as error:
            self.check(root, settings)
            if self._counts and not error.choices:
                raise NasError(str(error), choices="\n".join(f"  {line}" for line in self.repaired_lines)) from None
            raise

    def check(self, root: Path, settings: DenseDataSettings) -> None:
        """Refuse faults unless they are to be repaired.

        Raises: NasError with one line for each kind.
        """
        if self._counts and not settings.repair:
            total = sum(self._counts.values())
            one = "a fault" if total == 1 else f"{total:,} faults"
            repairs = "\n".join(f"  {FAULTS[kind].text}: {FAULTS[kind].repair}" for kind in self.counts)
            raise NasError(
                f"data.root: {one} in the labels of {root} (below); correct them, or add data.repair=true.",
                choices="\n".join([*(f"  {line}" for line in self.lines), "data.repair=true would do this:", repairs]),
            )
