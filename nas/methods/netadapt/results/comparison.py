"""Accuracy of the adapted network beside the seed network's, on the same images."""

from __future__ import annotations

from math import sqrt
from typing import Final, NamedTuple

import optuna

from nas.core.formatting import number_with_error
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.trial_record import TrialRecord

_COMPARED: Final = "nas:netadapt_compared"  # system attribute of the study: networks and counts of images


class AccuracyChange(NamedTuple):
    """Change of accuracy, in [-1, 1], and its standard error; ``is_paired``: by image."""

    change: float
    error: float | None
    is_paired: bool

    def __str__(self) -> str:
        how = " (on the same images)" if self.is_paired else ""
        error = None if self.error is None else 100 * self.error
        sign = "+" if self.change > 0 else ""
        return f"{sign}{number_with_error(100 * self.change, error, 1)} points{how}"


class ChangedImages(NamedTuple):
    """Validation images that one network classifies correctly and the other does not.

    ``lost``: only the seed network is right; ``gained``: only the adapted one. ``images``: all of them.
    """

    lost: int
    gained: int
    images: int

    @property
    def change(self) -> AccuracyChange:
        """Change of accuracy with the standard error of a difference of pairs."""
        lost, gained, images = self
        change = (gained - lost) / images
        return AccuracyChange(change, sqrt(max(0.0, (lost + gained) / images - change**2) / images), True)


def record_comparison(study: optuna.Study, seed: TrialRecord, adapted: TrialRecord, counts: ChangedImages) -> None:
    """Store the ``counts`` of two networks in ``study``."""
    set_system_attribute(study, _COMPARED, [seed.number, adapted.number, *counts])


def stored_comparison(study: optuna.Study, seed: TrialRecord, adapted: TrialRecord) -> ChangedImages | None:
    """The counts of these two networks; None if ``study`` has none."""
    found = system_attributes(study).get(_COMPARED)
    return ChangedImages(*found[2:]) if found and found[:2] == [seed.number, adapted.number] else None


def accuracy_change(study: optuna.Study, seed: TrialRecord, adapted: TrialRecord) -> AccuracyChange | None:
    """Change of accuracy from ``seed`` to ``adapted``.

    Paired where that is stored, else of independent samples. None if one of them has no accuracy.
    """
    if seed.accuracy is None or adapted.accuracy is None:
        return None
    if counts := stored_comparison(study, seed, adapted):
        return counts.change
    errors = (seed.standard_error, adapted.standard_error)
    error = None if None in errors else sqrt(sum((one or 0.0) ** 2 for one in errors))
    return AccuracyChange(adapted.accuracy - seed.accuracy, error, False)
