"""mIoU against a count pixel by pixel, hand-made cases, and the spread of repeated draws."""

from __future__ import annotations

import numpy as np
import pytest

from nas.training.tasks.iou import class_iou, constant_iou, intersection_over_union, mean_iou


def confusion_of(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by class and predicted class, counted one by one; 255 is void."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    for true, found in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if true != 255:
            counts[true, found] += 1
    return counts


def test_a_case_by_hand() -> None:
    # 0 0 | 1 1      0 0 | 0 1      class 0: 4 true, 5 found, 4 both: 4 / 5
    # 0 0 | 1 v      0 0 | 1 1      class 1: 3 true, 2 found where not void, 2 both: 2 / 3
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 255]])
    predicted = np.array([[0, 0, 0, 1], [0, 0, 1, 1]])
    scores = intersection_over_union(confusion_of(truth, predicted, 2)[None])
    assert scores.classes == pytest.approx((4 / 5, 2 / 3))
    assert scores.mean == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores.pixel_accuracy == pytest.approx(6 / 7)
    assert scores.error is None  # of a single group


def test_scores_are_intersections_and_unions_of_sets_of_pixels() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (6, 9, 8)), rng.integers(0, 4, (6, 9, 8))
    truth[rng.random(truth.shape) < 0.2] = 255
    scores = intersection_over_union(np.stack([confusion_of(t, p, 4) for t, p in zip(truth, predicted, strict=True)]))
    seen = truth != 255
    for label, score in enumerate(scores.classes):
        true, found = (truth == label) & seen, (predicted == label) & seen
        assert score == pytest.approx((true & found).sum() / (true | found).sum())
    assert scores.mean == pytest.approx(np.mean(scores.classes))
    assert scores.pixel_accuracy == pytest.approx((truth == predicted)[seen].mean())


def test_a_class_without_pixels_has_no_score_and_what_is_taken_for_it_counts_against_the_true_one() -> None:
    scores = class_iou(np.array([[6, 0, 2], [0, 0, 0], [0, 0, 4]]))
    assert scores == pytest.approx((6 / 8, None, 4 / 6))
    assert mean_iou(scores) == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert class_iou(np.array([[3, 1], [0, 0]])) == (3 / 4, None)
    assert mean_iou((None, None)) is None


def test_a_constant_output_is_scored_as_any_other() -> None:
    pixels = (5, 0, 20, 15)
    always = [
        mean_iou(class_iou(np.array([[count * (label == found) for found in range(4)] for count in pixels])))
        for label in range(4)
    ]
    assert constant_iou(pixels) == pytest.approx(max(score or 0.0 for score in always))


def test_the_error_is_the_spread_over_draws_of_the_images() -> None:
    """Of 400 sets of 100 images with rates of mistakes of their own; the jackknife's mean error is within a tenth."""
    rng = np.random.default_rng(1)

    def drawn() -> np.ndarray:
        mistakes = rng.beta(2, 6, 100)
        confusion = np.zeros((100, 2, 2), dtype=np.int64)
        for label, total in ((0, 60), (1, 30)):
            wrong = rng.binomial(total, mistakes)
            confusion[:, label, label], confusion[:, label, 1 - label] = total - wrong, wrong
        return confusion.reshape(20, 5, 2, 2).sum(1)

    scores = [intersection_over_union(drawn()) for _ in range(400)]
    errors = [score.error for score in scores if score.error is not None]
    # The spread of 400 draws is known to 3.5%, the mean of the errors better.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std([score.mean for score in scores]), rel=0.12)
    assert scores[0].class_errors[0] is not None and scores[0].class_errors[0] > 0
