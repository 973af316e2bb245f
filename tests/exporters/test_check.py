"""Checks of exported files: differences, and accuracy through a network of fixed batch size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.core.errors import NasError
from nas.exporters.check import accuracy_through, largest_difference, run_in_batches

WEIGHTS = np.array([[1, 0, 2, 0], [0, 3, 0, 1], [1, 1, 0, 0]], np.float32)


def linear(batch: int):
    """A network of one pixel and four channels, for batches of exactly ``batch`` images; it reuses its output."""
    output = np.empty((batch, 3), np.float32)

    def run(images: np.ndarray) -> np.ndarray:
        assert images.shape == (batch, 4, 1, 1) and images.flags.c_contiguous
        output[:] = images[:, :, 0, 0] @ WEIGHTS.T
        return output

    return run


IMAGES = np.random.default_rng(0).standard_normal((7, 4, 1, 1), dtype=np.float32)
LOGITS = IMAGES[:, :, 0, 0] @ WEIGHTS.T


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_any_number_of_images_runs_in_batches(batch: int) -> None:
    np.testing.assert_allclose(run_in_batches(linear(batch), IMAGES, batch), LOGITS, rtol=1e-6)


def test_the_largest_difference_is_that_of_any_logit() -> None:
    shifted = LOGITS.astype(np.float64)
    shifted[3, 1] += 0.25
    shifted[5] = -LOGITS[5]  # another class
    expected = max(0.25, 2 * np.abs(LOGITS[5]).max())
    found = largest_difference(linear(2), lambda images: shifted, IMAGES, 2)
    assert found.absolute == pytest.approx(expected, rel=1e-6)
    assert found.relative == pytest.approx(expected / np.abs(shifted).max(), rel=1e-6)
    same = sum(int(np.argmax(a) == np.argmax(b)) for a, b in zip(shifted, LOGITS, strict=True))
    assert (found.images, found.same_class) == (7, same) and same < 7


def test_logits_that_are_not_finite_differ_without_limit() -> None:
    found = largest_difference(lambda images: np.full((1, 3), np.nan, np.float32), lambda images: LOGITS, IMAGES)
    assert found.absolute == found.relative == math.inf
    with pytest.raises(NasError, match="the network's logits are not finite"):
        largest_difference(linear(1), lambda images: LOGITS * np.inf, IMAGES)
    with pytest.raises(NasError, match=r"the file's logits have the shape \(7, 3\), torch's \(7, 2\)"):
        largest_difference(linear(1), lambda images: LOGITS[:, :2], IMAGES)


def test_accuracy_counts_over_all_parts() -> None:
    labels = LOGITS.argmax(axis=1)
    labels[[1, 6]] = (labels[[1, 6]] + 1) % 3
    steps: list[tuple[int, int]] = []
    parts = [IMAGES[:4], IMAGES[4:]]
    found = accuracy_through(linear(3), parts, labels, 3, lambda *step: steps.append(step))
    assert (found.correct, found.images, found.accuracy) == (5, 7, 5 / 7)
    assert found.standard_error == pytest.approx(math.sqrt(5 / 7 * 2 / 7 / 7))
    assert steps == [(4, 7), (7, 7)]


@pytest.mark.parametrize("count", [0, 6, 8])
def test_labels_of_other_images_are_refused(count: int) -> None:
    with pytest.raises(NasError, match=f"accuracy: {count} labels"):
        accuracy_through(linear(1), [IMAGES], np.zeros(count, np.int64))
