"""Stratified train/validation split and subsampling of row indices.

The draws equal those of scikit-learn's ``train_test_split`` with ``stratify`` bit for bit, so that a study begun with
it goes on with the same images. Importing scikit-learn costs a second of CPU time in every worker, hence this module.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import NasError

Labels = NDArray[np.int64]  # class indices, (N,)
Rows = NDArray[np.int64]  # indices into a list of images, (N,)


def split_rows(labels: Labels, val_fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split the rows of ``labels`` (N,) into train and validation rows, stratified.

    Both are sorted int64 arrays (n,).

    Raises: NasError if a class is too small.
    """
    n_val = math.ceil(val_fraction * len(labels))
    try:
        train, val = _draw_strata(labels, len(labels) - n_val, n_val, seed)
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
        drawn, _ = _draw_strata(labels[rows], wanted, len(rows) - wanted, seed)
    except ValueError as error:
        raise NasError(
            f"data.subset: {subset} of {len(rows)} train images is not possible ({error}); null takes all."
        ) from error
    return np.sort(rows[drawn])


def _draw_strata(labels: Labels, n_first: int, n_second: int, seed: int) -> tuple[Rows, Rows]:
    """Draw two disjoint stratified sets of row indices of ``labels`` (N,).

    They have shapes (n_first,) and (n_second,).

    Raises: ValueError saying which class or set is too small.
    """
    classes, label_of = np.unique(labels, return_inverse=True)
    sizes = np.bincount(label_of)
    if sizes.min(initial=2) < 2:
        smallest = int(sizes.argmin())
        raise ValueError(f"class {classes[smallest]} has 1 image, at least 2 are needed")
    if min(n_first, n_second) < len(classes):
        raise ValueError(f"{n_first} and {n_second} images for {len(classes)} classes: each part needs one per class")
    by_class = np.split(np.argsort(label_of, kind="stable"), np.cumsum(sizes)[:-1])
    generator = np.random.RandomState(seed)
    first_sizes = _apportion(sizes, n_first, generator)
    second_sizes = _apportion(sizes - first_sizes, n_second, generator)
    first, second = [], []
    for members, n_a, n_b in zip(by_class, first_sizes, second_sizes, strict=True):
        shuffled = members[generator.permutation(len(members))]
        first.append(shuffled[:n_a])
        second.append(shuffled[n_a : n_a + n_b])
    return np.concatenate(first), np.concatenate(second)


def _apportion(sizes: Rows, n_draws: int, generator: np.random.RandomState) -> Rows:
    """Apportion ``n_draws`` to classes of ``sizes`` (C,), by largest remainders.

    Equal remainders are drawn from at random.
    """
    shares = sizes / sizes.sum() * n_draws
    counts = np.floor(shares)
    remainders = shares - counts
    n_left = int(n_draws - counts.sum())
    for remainder in np.unique(remainders)[::-1]:
        if n_left <= 0:
            break
        tied = np.flatnonzero(remainders == remainder)
        chosen = generator.choice(tied, size=min(len(tied), n_left), replace=False)
        counts[chosen] += 1
        n_left -= len(chosen)
    return counts.astype(np.int64)
