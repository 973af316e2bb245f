"""Stratified train/validation split and subsampling of row indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from nas.core.errors import NasError

Labels = NDArray[np.int64]  # class indices, (N,)
Rows = NDArray[np.int64]  # indices into a list of images, (N,)


def split_rows(labels: Labels, val_fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split the rows of ``labels`` (N,) into train and validation rows, stratified.

    Both are sorted int64 arrays (n,).

    Raises: NasError if a class is too small.
    """
    try:
        train, val = train_test_split(
            np.arange(len(labels)), test_size=val_fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise NasError(f"data.val_fraction: {val_fraction} does not split {len(labels)} images ({error}).") from error
    return np.sort(train), np.sort(val)


def draw_subset(rows: Rows, labels: Labels, subset: float | int | None, seed: int) -> Rows:
    """Draw a stratified subset of ``rows``: a share (float) or a maximum number (int).

    ``rows`` (n,) index ``labels`` (N,); the result (m,) is sorted, int64. None, or a number of at least n, returns all
    rows.

    Raises: NasError for a subset that cannot be drawn.
    """
    wanted = len(rows) if subset is None else subset if isinstance(subset, int) else int(subset * len(rows))
    if wanted >= len(rows):
        return rows
    # A stratified draw must leave out at least one row per class, so a subset just below n is a few rows smaller.
    wanted = min(wanted, len(rows) - len(np.unique(labels[rows])))
    try:
        drawn, _ = train_test_split(rows, train_size=wanted, stratify=labels[rows], random_state=seed)
    except ValueError as error:
        raise NasError(
            f"data.subset: {subset} of {len(rows)} train images is not possible ({error}); null takes all."
        ) from error
    return np.sort(np.asarray(drawn))
