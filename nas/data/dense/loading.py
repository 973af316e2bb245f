"""Steps that boxes and masks share: split, subset, decoding, notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data.dense.pixels import ImageStore, Pixels, Size, check_ends, decode_files
from nas.data.dense.problems import LabelProblems
from nas.data.dense.settings import DenseDataSettings
from nas.data.identical import equal_arrays, equal_files_by_size
from nas.data.image_files import PathTable
from nas.data.split import draw_subset, split_rows

_MOST_COMPARED_BYTES: Final = 2_000_000_000  # of files that may be in both splits


class DrawnRows(NamedTuple):
    """Rows of train and validation images (n,).

    ``found``: number of train images before ``data.subset``.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    found: int


def draw_splits(is_train: NDArray[np.bool_], has_val: bool, settings: DenseDataSettings) -> DrawnRows:
    """Rows of the splits of images (N,), of which ``is_train`` are of the train split.

    Without a validation split (``has_val``) it is drawn from them by ``settings.seed``.

    Raises: NasError if a split is empty.
    """
    rows = np.arange(len(is_train), dtype=np.int64)
    if not has_val:
        if len(rows) < 2:
            raise NasError(f"data.val_fraction: {len(rows)} images cannot be split; add images.")
        found, val = split_rows(np.zeros(len(rows), dtype=np.int64), settings.val_fraction, settings.seed)
    else:
        found, val = rows[is_train], rows[~is_train]
    _check_not_empty(found, val, settings)
    one_stratum = np.zeros(len(rows), dtype=np.int64)
    return DrawnRows(draw_subset(found, one_stratum, settings.subset, settings.seed), val, len(found))


def load_stores(
    files: Sequence[Path],
    sizes: Sequence[Size],
    rows: DrawnRows,
    settings: DenseDataSettings,
    problems: LabelProblems,
    on_progress: ProgressCallback | None,
) -> tuple[DrawnRows, list[ImageStore]]:
    """Decode the images of ``rows`` if memory may hold them, else check their ends.

    Those that are damaged are added to ``problems`` and leave ``rows``. Returns these, and the store of each split.
    """
    used = [int(row) for row in np.concatenate([rows.train, rows.val])]
    need = sum(3 * sizes[row][0] * sizes[row][1] for row in used)
    decoded: dict[int, Pixels] | None = None
    paths = [files[row] for row in used]
    if need <= settings.max_memory_bytes:
        pixels = decode_files(paths, settings.pixel_rules, unreadable(problems), on_progress)
        decoded = {row: one for row, one in zip(used, pixels, strict=True) if one is not None}
        good = set(decoded)
    else:
        whole = check_ends(paths, settings.pixel_rules, unreadable(problems))
        good = {row for row, is_whole in zip(used, whole, strict=True) if is_whole}
    train, val = splits = [part[np.isin(part, list(good))] for part in (rows.train, rows.val)]
    _check_not_empty(train, val, settings)
    stores = [
        ImageStore(
            PathTable(files[row] for row in part),
            [sizes[row] for row in part],
            settings.pixel_rules,
            None if decoded is None else [decoded[row] for row in part.tolist()],
        )
        for part in splits
    ]
    return DrawnRows(train, val, rows.found), stores


def _check_not_empty(train: NDArray[np.int64], val: NDArray[np.int64], settings: DenseDataSettings) -> None:
    for split, part in (("train", train), ("validation", val)):
        if not len(part):
            raise NasError(f"data.root: {settings.root} has no {split} images with labels that can be used; add some.")


def unreadable(problems: LabelProblems) -> Callable[[Path, str], None]:
    """Callback that counts an image that cannot be decoded."""
    return lambda _, reason: problems.add("image_unreadable", reason)


def shown_sizes(sizes: Sequence[Size]) -> tuple[str, ...]:
    """Smallest, median and largest of ``sizes`` by area, as ``640x480``."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    chosen = (ordered[0], ordered[len(ordered) // 2], ordered[-1])
    return tuple(f"{width}x{height}" for width, height in chosen)


def load_notices(
    train: ImageStore, val: ImageStore, settings: DenseDataSettings, names: tuple[Sequence[str], Sequence[str]]
) -> Iterator[str]:
    """What to know of the images of both splits: how they are held, which are equal.

    ``names``: of the images of each, for those without files.
    """
    if not train.in_memory:
        yield (
            f"the images would take more than data.max_memory_bytes={settings.max_memory_bytes:,}: each is decoded "
            "when it is used, which costs CPU time in every epoch"
        )
    files = [list(store.files) for store in (train, val)]
    same: Sequence[tuple[object, object]] | None
    if files[1]:
        same = equal_files_by_size(files[0], files[1], _MOST_COMPARED_BYTES)
    else:
        rows = equal_arrays(*([store.image(row) for row in range(len(store))] for store in (train, val)))
        same = [(names[0][first], names[1][second]) for first, second in rows]
    if same is None:
        yield "it was not checked whether validation images are among the train images, which takes long"
    elif same:
        yield (
            f"{len(same):,} of {len(val):,} validation images are identical to train images (such as "
            f"{same[0][1]} and {same[0][0]}): scores count what was memorised; remove them from one of the splits"
        )
