"""Splits and subsets are those of scikit-learn, image by image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from nas.core.errors import NasError
from nas.data.split import draw_subset, split_rows

label_lists = st.lists(st.integers(0, 5), min_size=12, max_size=80)


@given(label_lists, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_a_split_is_that_of_scikit_learn(labels: list[int], val_fraction: float, seed: int) -> None:
    array = np.array(labels)
    try:
        theirs = train_test_split(np.arange(len(array)), test_size=val_fraction, stratify=array, random_state=seed)
    except ValueError:
        with pytest.raises(NasError, match=r"data\.val_fraction"):
            split_rows(array, val_fraction, seed)
        return
    for ours, expected in zip(split_rows(array, val_fraction, seed), theirs, strict=True):
        assert ours.tolist() == sorted(expected)


@given(label_lists, st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_a_subset_is_that_of_scikit_learn(labels: list[int], subset: int, seed: int) -> None:
    array = np.array(labels)
    rows = np.arange(0, len(array), 2)
    n_drawn = min(subset, len(rows) - len(set(array[rows].tolist())))
    if subset >= len(rows):
        assert draw_subset(rows, array, subset, seed) is rows
        return
    try:
        expected, _ = train_test_split(rows, train_size=n_drawn, stratify=array[rows], random_state=seed)
    except ValueError:
        with pytest.raises(NasError, match=r"data\.subset"):
            draw_subset(rows, array, subset, seed)
        return
    assert draw_subset(rows, array, subset, seed).tolist() == sorted(expected)


def test_what_cannot_be_split_is_told_in_our_words() -> None:
    with pytest.raises(NasError, match=r"class 1 has 1 image, at least 2 are needed"):
        split_rows(np.array([0, 0, 0, 1]), 0.5, 0)
    with pytest.raises(NasError, match=r"18 and 2 images for 4 classes: each part needs one per class"):
        split_rows(np.arange(20) % 4, 0.1, 0)
