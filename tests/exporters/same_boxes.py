"""Boxes of a file against torch's, whose order is free where rounding decides it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nas.model.dense.detection import Detections


def check_same_boxes(
    found: Any, expected: Detections, *, box_atol: float, score_atol: float, scale: tuple[int, int] = (1, 1)
) -> None:
    """Pair each box of ``found`` with one of ``expected``: the same class, score and box within the tolerances.

    Scores that differ by less than two processors round apart come in either order, and the last of them is in or out,
    so that ``expected`` holds more boxes than ``found`` where there are more. ``scale``: of the boxes of ``found``,
    width and height.
    """
    boxes, scores, labels = found
    assert len(scores) <= len(expected.scores)
    np.testing.assert_allclose(scores, expected.scores.numpy()[: len(scores)], atol=score_atol, rtol=0)
    wanted = expected.boxes.numpy() * np.array(scale * 2)
    is_free = np.ones(len(wanted), dtype=bool)
    for box, score, label in zip(boxes, scores, labels, strict=True):
        is_same = (np.abs(wanted - box).max(1) < box_atol) & (np.abs(expected.scores.numpy() - score) < score_atol)
        rows = np.flatnonzero(is_same & (expected.labels.numpy() == label) & is_free)
        assert len(rows), f"{label} at {box}, score {score}, is not among torch's boxes"
        is_free[rows[0]] = False
