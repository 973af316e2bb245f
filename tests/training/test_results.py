"""Results of epochs."""

from __future__ import annotations

from typing import Any

import pytest

from nas.training.results import EpochResult


def epoch(**more: Any) -> EpochResult:
    return EpochResult(epoch=1, accuracy=0.2, val_loss=1.0, train_loss=1.0, duration_s=1.0, cpu_s=1.0, **more)


def test_the_error_of_a_classifier_is_binomial() -> None:
    assert epoch(class_correct=(20, 0)).error_of(100) == pytest.approx((0.2 * 0.8 / 100) ** 0.5, rel=0.1)


def test_the_error_of_another_score_is_its_own_or_not_known() -> None:
    """A mean precision of one image is no share of images, and has no error."""
    assert epoch(standard_error=0.05, class_scores=(0.2,)).error_of(100) == 0.05
    assert epoch(class_scores=(0.2,)).error_of(1) is None
