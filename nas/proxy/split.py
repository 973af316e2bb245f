"""Stratified choice of rows: which images train, which validate, which are left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from nas.arch.errors import NasError

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
    """``subset`` of the rows, every class its share. Raises: NasError for a subset that cannot be drawn."""
    if subset is None or (isinstance(subset, float) and subset == 1.0) or subset == len(rows) > 1:
        return rows
    if isinstance(subset, int) and subset > len(rows):
        raise NasError(f"data.subset: {subset} is more than the {len(rows)} train images; lower it or set null.")
    try:
        kept, _ = train_test_split(rows, train_size=subset, stratify=labels[rows], random_state=seed)
    except ValueError as error:
        raise NasError(f"data.subset: {subset} of {len(rows)} train images is not possible ({error}).") from error
    return np.sort(np.asarray(kept))
