"""Stratified choice of rows: which images train, which validate, which are left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from nas.core.errors import NasError

Labels = NDArray[np.int64]
Rows = NDArray[np.int64]  # positions in a list of images


def split_rows(labels: Labels, val_fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Rows of ``labels`` that train and rows that validate, stratified. Raises: NasError if a class is too small."""
    try:
        train, val = train_test_split(
            np.arange(len(labels)), test_size=val_fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise NasError(f"data.val_fraction: {val_fraction} does not split {len(labels)} images ({error}).") from error
    return np.sort(train), np.sort(val)


def keep_subset(rows: Rows, labels: Labels, subset: float | int | None, seed: int) -> Rows:
    """A share of the rows (float), or at most a number of them (int), every class its share; None keeps all.

    Fewer rows than ``subset`` are all kept. Raises: NasError for a subset that cannot be drawn.
    """
    wanted = len(rows) if subset is None else subset if isinstance(subset, int) else int(subset * len(rows))
    if wanted >= len(rows):
        return rows
    # The stratified draw leaves out at least one row per class, so that just below all rows it keeps a few less.
    wanted = min(wanted, len(rows) - len(np.unique(labels[rows])))
    try:
        kept, _ = train_test_split(rows, train_size=wanted, stratify=labels[rows], random_state=seed)
    except ValueError as error:
        raise NasError(
            f"data.subset: {subset} of {len(rows)} train images is not possible ({error}); null takes all."
        ) from error
    return np.sort(np.asarray(kept))
