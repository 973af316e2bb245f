"""Trial records: plain rows, of which tables, reports and plots are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Outcome(StrEnum):
    """What became of a candidate.

    ``stopped``: its training was ended early, for it fell behind.
    """

    TRAINED = "trained"
    STOPPED = "stopped"
    INFEASIBLE = "infeasible"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    RUNNING = "running"


COUNTED: Final = (Outcome.TRAINED, Outcome.STOPPED, Outcome.FAILED)  # of the trials that a study is to have


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """The record of one candidate of a study.

    ``accuracy`` is the proxy's top-1 on the validation split, in [0, 1], with the binomial ``standard_error`` of the
    number of images; ``majority_accuracy`` is that of always guessing the largest class. ``class_correct`` and
    ``class_images``: validation images, those classified correctly and all, by class in label order.

    ``latency_ms`` is what the search counts with, of the whole network on its device: ``predicted_ms``, or with
    ``latency.refine=true`` what was measured before training. ``latency_low_ms`` and ``latency_high_ms`` are the ends
    of the prediction's 90% interval; ``measured_ms`` is the latest measurement, with the distance of its quartiles.
    ``reason`` says why a candidate is infeasible or failed, or which trial it repeats. Costs are of the network itself,
    not of its proxy.
    """

    number: int
    outcome: Outcome
    arch_id: str = ""
    accuracy: float | None = None
    standard_error: float | None = None
    majority_accuracy: float | None = None
    class_correct: tuple[int, ...] = ()
    class_images: tuple[int, ...] = ()
    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    predicted_ms: float | None = None
    measured_ms: float | None = None
    measured_spread_ms: float | None = None
    macs_m: float | None = None
    params_m: float | None = None
    peak_memory_mb: float | None = None
    cpu_s: float | None = None
    reason: str = ""
    blocks: str = ""
    genotype: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_accuracies(self) -> tuple[float | None, ...]:
        """Accuracy of each class in label order; None for one without images."""
        pairs = zip(self.class_correct, self.class_images, strict=True)
        return tuple(correct / images if images else None for correct, images in pairs)


def trained_networks(rows: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trained ones with accuracy and latency, in their order."""
    return [row for row in rows if row.outcome is Outcome.TRAINED and None not in (row.accuracy, row.latency_ms)]


def pareto_front(rows: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Trained records that no other dominates, fastest first.

    One dominates another by higher accuracy or lower latency without being worse in the other.

    Of rows equal in both, the earliest trial represents all.
    """
    front: list[TrialRecord] = []
    best = -1.0
    for row in sorted(trained_networks(rows), key=lambda row: (row.latency_ms, -(row.accuracy or 0.0), row.number)):
        if (row.accuracy or 0.0) > best:
            front.append(row)
            best = row.accuracy or 0.0
    return front


def outcome_counts_text(rows: Sequence[TrialRecord]) -> str:
    """Trials per outcome in words, such as ``5 trained, 1 failed``.

    Empty without rows.
    """
    return ", ".join(f"{count} {outcome}" for outcome, count in count_outcomes(rows).items() if count)


def count_outcomes(rows: Sequence[TrialRecord]) -> dict[Outcome, int]:
    """How many rows had each outcome."""
    return {outcome: sum(row.outcome is outcome for row in rows) for outcome in Outcome}
