"""Accuracy by class: a table of the best networks, and the lowest class in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

from nas.core.formatting import percent, percent_with_error, plural
from nas.core.statistics import binomial_error
from nas.reporting.columns import Column
from nas.study.trial_record import TrialRecord


class ClassRow(NamedTuple):
    """Accuracy of networks on one class, by their labels.

    In [0, 1]; None without images. ``images``: validation images of the class; None for scores that are no shares of
    images, whose standard ``errors`` are known by network.
    """

    name: str
    images: int | None
    accuracies: Mapping[str, float | None]
    errors: Mapping[str, float | None] = {}


def class_rows(class_names: Sequence[str], networks: Mapping[str, Sequence[TrialRecord]]) -> list[ClassRow]:
    """One row per class in label order.

    Empty where accuracies by class were not stored. ``networks``: trainings by label; accuracies are means over the
    trainings of a network.
    """
    counted = {label: [row for row in rows if row.class_accuracies] for label, rows in networks.items()}
    counted = {label: rows for label, rows in counted.items() if rows}
    if not counted:
        return []
    first = next(iter(counted.values()))[0]
    images = first.class_images or (None,) * len(first.class_scores)
    return [
        ClassRow(
            class_name(class_names, index),
            count,
            {label: _mean(rows, index) for label, rows in counted.items()},
            {label: rows[0].class_errors[index] for label, rows in counted.items() if rows[0].class_errors},
        )
        for index, count in enumerate(images)
    ]


def class_columns(rows: Sequence[ClassRow]) -> tuple[Column[ClassRow], ...]:
    """Columns of ``rows``: one per network, with binomial standard errors of shares."""
    labels = rows[0].accuracies if rows else ()
    images: Column[ClassRow] = Column(name="images", heading="images", value=lambda row: row.images)
    return (
        Column(name="class", heading="class", value=lambda row: row.name, align="left"),
        *([images] if any(row.images is not None for row in rows) else []),
        *(
            Column(name=label, heading=label, unit="%", value=partial(_with_error, label), text=_text)
            for label in labels
        ),
    )


def lowest_class(row: TrialRecord, class_names: Sequence[str]) -> str:
    """The class of the lowest accuracy in words; empty where these were not stored."""
    known = [(value, index) for index, value in enumerate(row.class_accuracies) if value is not None]
    if not known:
        return ""
    value, index = min(known)
    if not row.class_images:
        return (
            f"{class_name(class_names, index)}, {percent(value, row.class_errors[index] if row.class_errors else None)}"
        )
    images = row.class_images[index]
    error = binomial_error(value, images)
    return f"{class_name(class_names, index)}, {percent(value, error)} of {plural(images, 'image')}"


def class_name(class_names: Sequence[str], index: int) -> str:
    """Name of the class with label ``index``; its number where names were not stored."""
    return class_names[index] if index < len(class_names) else str(index)


def _mean(rows: Sequence[TrialRecord], index: int) -> float | None:
    values = [value for row in rows if (value := row.class_accuracies[index]) is not None]
    return fmean(values) if values else None


def _with_error(label: str, row: ClassRow) -> tuple[float | None, float | None]:
    value = row.accuracies[label]
    if value is None or row.images is None:
        return value, row.errors.get(label)
    return value, binomial_error(value, row.images)


def _text(both: tuple[float | None, float | None]) -> str:
    return percent_with_error(*both)
