"""Classes of masks: which value is which class, which is void."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import NasError
from nas.core.formatting import first_names
from nas.core.parsing import read_text
from nas.data.dense.settings import VOID, DenseDataSettings, checked_class_names

VALUES: Final = 2**16  # that a mask may have: larger ones are of no class
_VOID_NAMES: Final = ("void", "unlabelled", "unlabeled", "ignore", "ignored")
_NAMES_FILES: Final = ("classes.txt", "labels.txt", "class_names.txt", "names.txt")
_MAX_UNNAMED: Final = 64  # classes without names: more are hardly class numbers
_MAX_CHARACTERS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskClasses:
    """Classes of masks.

    ``names`` in label order. ``index_of`` (65536,) uint8: class index, or ``VOID``, of each value. ``is_known``
    (65536,): values that have a class or are void by intent. ``notices``: how values were read.
    """

    names: tuple[str, ...]
    index_of: NDArray[np.uint8]
    is_known: NDArray[np.bool_]
    notices: tuple[str, ...] = ()


def mask_classes(
    settings: DenseDataSettings, stated: tuple[str, ...] | None, stated_place: str, found: Sequence[int]
) -> MaskClasses:
    """Classes from ``data.classes``, names in the data, or values ``found`` in masks.

    Names are those of the values 0, 1, ... in order, without ``data.void``. A name such as void or unlabelled makes its
    value void. Without names each value that occurs is a class, named by its number. 255 is void, except where 0 and
    255 are the only values, as in masks of one object, and there are no or two names.

    Raises: NasError for names that contradict ``data.void``, too many values without names, and fewer than two classes.
    """
    void, notices = {VOID} | ({settings.void} if settings.void is not None else set()), []
    is_object = set(found) == {0, VOID} and settings.void is None
    names, place = (settings.classes, "data.classes") if settings.classes else (stated, stated_place)
    if names is not None:
        kept = [name for name in names if name.lower() not in _VOID_NAMES]
        rows = [row for row, name in enumerate(names) if name.lower() in _VOID_NAMES]
        if rows and settings.void not in (None, rows[0]):
            raise NasError(
                f"data.void {settings.void}: but {place} name the value {rows[0]} {names[rows[0]]!r}; make them agree."
            )
        void |= set(rows)
        if is_object and not rows and len(kept) == 2:
            void, values = set(), [0, VOID]
            notices.append(f"masks have the values 0 and 255 only: they are {kept[0]} and {kept[1]}")
        else:
            values = [value for value in range(len(names) + len(void)) if value not in void][: len(kept)]
        if settings.void is not None and not rows and settings.void < values[-1]:
            notices.append(
                f"data.void={settings.void} is below the last class: {place} name the values without it, so the name "
                f"of value {values[-1]} is {kept[-1]}"
            )
        names = tuple(kept)
    else:
        if is_object:
            void = set()
            notices.append("masks have the values 0 and 255 only: both are classes, as in masks of one object")
        values = [value for value in found if value not in void]
        if len(values) > _MAX_UNNAMED:
            raise NasError(
                f"data.root: masks have {len(values):,} different values, which are hardly classes; a mask's values "
                "must be class numbers, else name the classes with data.classes=[...]."
            )
        names = tuple(str(value) for value in values)
        if values and values[-1] != len(values) - 1 + sum(value < values[-1] for value in void):
            notices.append(f"mask values with gaps are classes in order: {first_names(names, most=12)}")
    if len(names) < 2:
        raise NasError(
            f"data.root: masks have {len(names)} class(es) ({first_names(names)}); segmentation needs two or more, "
            "such as background and object. 255 and data.void are no class."
        )
    if len(names) > VOID:
        raise NasError(f"{place}: {len(names):,} classes; a mask can tell at most {VOID} apart.")
    index_of = np.full(VALUES, VOID, dtype=np.uint8)
    index_of[values] = np.arange(len(values))
    is_known = np.zeros(VALUES, dtype=np.bool_)
    is_known[[*values, *void]] = True
    return MaskClasses(names=names, index_of=index_of, is_known=is_known, notices=tuple(notices))


def names_file(root: Path) -> tuple[tuple[str, ...] | None, str]:
    """Class names in a file of ``root``, one per line, and its name; None without one.

    Raises: NasError if it cannot be read, is empty, or repeats a name.
    """
    for name in _NAMES_FILES:
        path = root / name
        if not path.is_file():
            continue
        try:
            lines = read_text(path, max_characters=_MAX_CHARACTERS).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NasError(f"{path}: cannot be read ({error}); write one class name per line, as UTF-8.") from None
        return checked_class_names([line.strip() for line in lines if line.strip()], str(path)), name
    return None, ""
