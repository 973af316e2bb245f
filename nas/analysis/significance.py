"""Significance of accuracies: between networks, and over the largest class.

For networks trained once each. Their noise is the binomial standard error of the validation images. All networks are
scored on the same images, which makes the tests conservative; noise between seeds comes on top and is not included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from nas.analysis.studentized_range import studentized_range_quantile, studentized_range_sf
from nas.arch.heads.task_scores import TASK_SCORES, TaskScore
from nas.core.formatting import percent
from nas.core.statistics import binomial_tail
from nas.study.trial_record import TrialRecord, ranked_networks

SIGNIFICANCE_LEVEL: Final = 0.05
_DEVIATE_OF_POWER: Final = 0.8416  # of the standard normal distribution, for a power of 80%


@dataclass(frozen=True, slots=True, kw_only=True)
class ChanceLevel:
    """Accuracy of always guessing the largest class, and the number of images.

    ``accuracy`` in [0, 1]; both of the validation images. Of a score that is no share of images that of a constant
    predictor, and ``images`` is None.
    """

    accuracy: float
    images: int | None

    def is_exceeded(self, accuracy: float, compared: int = 1, error: float | None = None) -> bool:
        """Whether the highest of ``compared`` accuracies is significantly above chance.

        One-sided exact binomial test at the 5% level, with Bonferroni's correction; without ``images`` a normal test
        by the standard ``error`` of the score, where it is known and not 0.
        """
        if self.accuracy >= 1:
            return False
        if self.images is None:
            if not error:
                return accuracy > self.accuracy
            distance = (accuracy - self.accuracy) / error
            return compared * math.erfc(distance / math.sqrt(2)) / 2 < SIGNIFICANCE_LEVEL
        correct = math.floor(accuracy * self.images + 1e-6)
        return compared * binomial_tail(correct, self.images, self.accuracy) < SIGNIFICANCE_LEVEL


def chance_level(rows: Iterable[TrialRecord]) -> ChanceLevel | None:
    """Chance level of the images that ``rows`` were scored on; None if unknown.

    Studies by versions that did not count images by class have none.
    """
    for row in rows:
        if row.majority_accuracy is not None and row.class_images:
            return ChanceLevel(accuracy=row.majority_accuracy, images=sum(row.class_images))
        if row.majority_accuracy is not None and row.class_scores:
            return ChanceLevel(accuracy=row.majority_accuracy, images=None)
    return None


def at_chance_text(chance: ChanceLevel, highest: str, score: TaskScore = TASK_SCORES["classification"]) -> str:
    """That no network is better than chance, in words, and what may help.

    ``highest``: the highest accuracy, in percent; ``score``: what it is.
    """
    if chance.images is None:
        return (
            f"No network is significantly better than {score.constant} ({percent(chance.accuracy)}): the highest "
            f"{score.name} is {highest}. There is no best network. Train longer (proxy.epochs), on more images "
            "(data.subset=null) or larger ones (proxy.resolution_px)."
        )
    return (
        f"No network is significantly better than always guessing the largest class ({percent(chance.accuracy)} of "
        f"{chance.images:,} validation images): the highest accuracy is {highest}. There is no best network. Train "
        "longer (proxy.epochs), on more images (data.subset=null) or larger ones (proxy.resolution_px), and check that "
        "the classes are those you meant."
    )


def indistinguishable(first: TrialRecord, second: TrialRecord, compared: int) -> bool:
    """Whether two of ``compared`` accuracies are statistically indistinguishable.

    Tukey-Kramer at the 5% level, by their standard errors. False where these are unknown.
    """
    variance = _mean_variance(first, second)
    if variance is None or compared < 2:
        return False
    difference = abs((first.ranked_accuracy or 0.0) - (second.ranked_accuracy or 0.0))
    return studentized_range_sf(difference / math.sqrt(variance), compared, math.inf) >= SIGNIFICANCE_LEVEL


def accuracy_groups(rows: Sequence[TrialRecord], compared: int) -> list[list[TrialRecord]]:
    """Groups of statistically indistinguishable ``rows``, each with the fastest first.

    ``rows`` were selected from ``compared`` networks. A group is the most accurate row that is left and all that are
    indistinguishable from it. The group with the fastest row comes first.
    """
    left = sorted(rows, key=lambda row: (-(row.ranked_accuracy or 0.0), row.number))
    groups = []
    while left:
        best = left[0]
        group = [row for row in left if row is best or indistinguishable(best, row, compared)]
        left = [row for row in left if row not in group]
        groups.append(sorted(group, key=_by_latency))
    return sorted(groups, key=lambda group: _by_latency(group[0]))


def images_to_separate(first: TrialRecord, second: TrialRecord, compared: int) -> int | None:
    """Validation images that would make the difference of two accuracies significant.

    If it is as large as it was measured: with a power of 80%, by Tukey-Kramer at the 5% level among ``compared``
    accuracies. None for equal ones.
    """
    values = [row.ranked_accuracy or 0.0 for row in (first, second)]
    difference = abs(values[0] - values[1])
    if not difference or compared < 2:
        return None
    variance = sum(value * (1 - value) for value in values) / 2
    return max(1, math.ceil(variance * (deviations_to_separate(compared) / difference) ** 2))


def times_the_images(first: TrialRecord, second: TrialRecord, compared: int) -> float | None:
    """Factor to the validation images that would make a difference significant.

    As ``images_to_separate``, for scores that are no shares of images: by their standard errors, which fall with the
    square root of the images. None for equal scores, or unknown errors.
    """
    variance = _mean_variance(first, second)
    difference = (first.ranked_accuracy or 0.0) - (second.ranked_accuracy or 0.0)
    if variance is None or not difference or compared < 2:
        return None
    return variance * (deviations_to_separate(compared) / difference) ** 2


def deviations_to_separate(compared: int, level: float = SIGNIFICANCE_LEVEL) -> float:
    """Least detectable difference of two means, in their standard errors.

    Of ``compared`` means, by Tukey-Kramer at ``level``, with a power of 80%.
    """
    return studentized_range_quantile(level, compared) + math.sqrt(2) * _DEVIATE_OF_POWER


def compared_networks(rows: Iterable[TrialRecord]) -> int:
    """Number of ranked networks, among which the compared ones were selected."""
    return len({row.arch_id or row.number for row in ranked_networks(rows)})


def _mean_variance(first: TrialRecord, second: TrialRecord) -> float | None:
    if first.ranked_error is None or second.ranked_error is None:
        return None
    return (first.ranked_error**2 + second.ranked_error**2) / 2 or None


def _by_latency(row: TrialRecord) -> tuple[float, int]:
    return (row.latency_ms or 0.0, row.number)
