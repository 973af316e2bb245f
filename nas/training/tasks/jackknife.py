"""Standard errors of scores of sets of images, by a delete-a-group jackknife."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

GROUPS: Final = 20


def jackknife_groups(count: int, groups: int = GROUPS) -> list[list[int]]:
    """Split ``count`` images into groups of neighbours of nearly equal size, by row.

    At most ``groups``, and at most as many as images. Neighbours may be frames of a video, or otherwise alike, and
    belong in the same group: apart, the error would be too small.
    """
    return [rows.tolist() for rows in np.array_split(np.arange(count), min(groups, count))] if count else []


def jackknife_error(without_group: Sequence[float | None]) -> float | None:
    """Return the standard error of a score.

    ``without_group``: scores of all images but one group each. The error is sqrt((g - 1) / g * sum((s_i - mean)^2)) for
    g groups; None for fewer than two, or if one of them leaves nothing to score (None). A score such as the mean
    average precision is no mean over images, so that the deviation of the images' scores would not give it. Source:
    Wolter, Introduction to Variance Estimation, chapter 4, the drop-out-group form of the jackknife.
    """
    deviations = jackknife_deviations(without_group)
    return math.hypot(*deviations) if deviations else None


def jackknife_deviations(without_group: Sequence[float | None]) -> tuple[float, ...]:
    """Return the deviation of a score by each group of images, (g,).

    The root of the sum of their squares is ``jackknife_error``; that of the differences of the deviations of two
    networks is the standard error of the difference of their scores on the same images. () where there is no error.
    """
    values = [score for score in without_group if score is not None]
    if len(values) < 2 or len(values) < len(without_group):
        return ()
    scores = np.array(values)
    return tuple((np.sqrt((len(scores) - 1) / len(scores)) * (scores - scores.mean())).tolist())
