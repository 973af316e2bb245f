"""Evaluations of networks that were made elsewhere; a sampler learns from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

Scalar: TypeAlias = int | float | str | bool
ACCURACY_DIGITS: Final = 6  # decimal places that are kept of accuracies and standard errors
MAX_EVALUATIONS: Final = 10_000  # of one study, from all sources
ESTIMATED_MARK: Final = " (estimated)"  # after the source of an accuracy that was estimated without a training


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorEvaluation:
    """One network of the study's space with an accuracy from elsewhere.

    ``accuracy``: top-1 in [0, 1], with its ``standard_error`` (None: not known). ``source``: what evaluated it, such
    as another study; accuracies of different sources need not be on one scale. Accuracies that an earlier study only
    estimated are a source of their own, whose name ends in ``ESTIMATED_MARK``.
    """

    genotype: Mapping[str, Scalar]
    accuracy: float
    source: str
    standard_error: float | None = None


class EvaluationList(NamedTuple):
    """The evaluations of one file or study.

    ``label``: its name as it is printed. ``note``: what was left out, empty if nothing.
    """

    label: str
    evaluations: tuple[PriorEvaluation, ...]
    note: str = ""


def estimated_note(evaluations: Iterable[PriorEvaluation]) -> str:
    """How many of ``evaluations`` are estimates; empty if none."""
    count = sum(one.source.endswith(ESTIMATED_MARK) for one in evaluations)
    return f"{count:,} estimated" if count else ""
