"""Trial records: plain rows, of which tables, reports and plots are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from nas.arch.heads.task_scores import TASK_SCORES, TaskScore

_CLASSIFICATION: Final = "classification"  # what networks are for unless their trial says otherwise


class Outcome(StrEnum):
    """What became of a candidate.

    ``scored``: its accuracy was estimated without training it. ``stopped``: its training was ended early, for it fell
    behind. ``baseline``: it is none, but a network that was fine-tuned to compare the winners with.
    """

    TRAINED = "trained"
    SCORED = "scored"
    STOPPED = "stopped"
    INFEASIBLE = "infeasible"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    RUNNING = "running"
    BASELINE = "baseline"


class Role(StrEnum):
    """Why a network was trained in a search that estimates the accuracy of most.

    ``anchor``: to calibrate the estimate, before it was used. ``finalist``: as one of the best by estimate. ``check``:
    drawn at random among those that were scored, to check the estimate.
    """

    ANCHOR = "anchor"
    FINALIST = "finalist"
    CHECK = "check"


COUNTED: Final = (Outcome.TRAINED, Outcome.SCORED, Outcome.STOPPED, Outcome.FAILED)  # of the trials of a study
FINAL_ROLES: Final = (Role.FINALIST, Role.CHECK)  # of trials that train again what was scored, after the search


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """Result of training a winner's proxy on from the weights of a supernet.

    Top-1 accuracies in [0, 1] and cross entropies (nats) on the validation split, with binomial standard errors:
    ``inherited_`` those with inherited weights, the others after ``epochs`` more at the learning rate ``lr``.
    """

    accuracy: float
    standard_error: float
    val_loss: float
    inherited_accuracy: float
    inherited_error: float
    inherited_loss: float
    epochs: int
    lr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """The record of one candidate of a study.

    ``accuracy`` is the proxy's top-1 on the validation split, in [0, 1], with the binomial ``standard_error`` of the
    number of images; ``majority_accuracy`` is that of always guessing the largest class. Of another ``task`` these are
    its score, that score's own standard error, and a constant predictor's, ``class_scores`` with ``class_errors`` are
    by class, and ``metrics`` further figures by name. ``class_correct`` and ``class_images``: validation images, those
    classified correctly and all, by class in label order. ``val_loss``: the loss on the validation split, for classes
    in nats. All of these are None or empty for a network that was not trained.

    ``estimated_accuracy``: as a search with an estimator expects it of a training, with its standard error
    ``estimate_error``, from the ``scores`` of the network by name; of a network in the ``role`` of an anchor the
    estimate without its own training (leave one out).

    ``latency_ms`` is what the search counts with, of the whole network on its device: ``predicted_ms``, or with
    ``latency.refine=true`` what was measured before training. ``latency_low_ms`` and ``latency_high_ms`` are the ends
    of the prediction's 90% interval; ``measured_ms`` is the latest measurement, with the distance of its quartiles
    and its standard error.
    ``fine_tuning``: of a winner whose proxy was trained on from inherited weights, besides its training from scratch.
    ``reason`` says why a candidate is infeasible or failed, or which trial it repeats. Costs are of the network itself,
    not of its proxy.
    """

    number: int
    outcome: Outcome
    arch_id: str = ""
    accuracy: float | None = None
    standard_error: float | None = None
    majority_accuracy: float | None = None
    val_loss: float | None = None
    estimated_accuracy: float | None = None
    estimate_error: float | None = None
    class_correct: tuple[int, ...] = ()
    class_images: tuple[int, ...] = ()
    class_scores: tuple[float | None, ...] = ()
    class_errors: tuple[float | None, ...] = ()
    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    predicted_ms: float | None = None
    measured_ms: float | None = None
    measured_spread_ms: float | None = None
    measured_error_ms: float | None = None
    macs_m: float | None = None
    params_m: float | None = None
    peak_memory_mb: float | None = None
    cpu_s: float | None = None
    fine_tuning: FineTuning | None = None
    role: Role | None = None
    reason: str = ""
    blocks: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    genotype: Mapping[str, Any] = field(default_factory=dict)
    task: str = "classification"

    @property
    def ranked_accuracy(self) -> float | None:
        """Accuracy by which it is compared: as trained, otherwise as estimated."""
        return self.estimated_accuracy if self.accuracy is None else self.accuracy

    @property
    def ranked_error(self) -> float | None:
        """Standard error of ``ranked_accuracy``."""
        return self.estimate_error if self.accuracy is None else self.standard_error

    @property
    def class_accuracies(self) -> tuple[float | None, ...]:
        """Accuracy of each class in label order; None for one without images."""
        if self.class_scores:
            return self.class_scores
        pairs = zip(self.class_correct, self.class_images, strict=True)
        return tuple(correct / images if images else None for correct, images in pairs)

    @property
    def trial(self) -> int | None:
        """Number of its trial; None for a baseline, which has none."""
        return None if self.outcome is Outcome.BASELINE else self.number


class PairedCounts(NamedTuple):
    """Images that one of two networks alone classified correctly, the same images."""

    winner_only: int
    baseline_only: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRecord:
    """A network that was fine-tuned beside a search, to compare its winners with.

    ``published``: the network as the user named it. ``row``: its figures as those of a trial, with a negative number
    (-1 for the first). ``epochs``: of the training, on images of ``resolution_px`` a side, on which its last map has
    ``last_map_px``. ``weights_sha256``: of the file of weights that it began with. ``paired``: by network id, winners
    that were scored image by image on the same validation images.
    """

    published: str
    row: TrialRecord
    epochs: int
    resolution_px: int
    last_map_px: int
    weights_sha256: str = ""
    paired: Mapping[str, PairedCounts] = field(default_factory=dict)
    spec_file: str | None = None
    group: str = ""

    @property
    def place(self) -> int:
        """Its place among the baselines, 1 for the first."""
        return -self.row.number

    @property
    def label(self) -> str:
        """B1 for the first."""
        return f"B{self.place}"


def score_of(rows: Iterable[TrialRecord]) -> TaskScore:
    """Names of the score by which ``rows`` of one study compare.

    A trial whose network is not decoded yet has no task of its own.
    """
    return TASK_SCORES[next((row.task for row in rows if row.task != _CLASSIFICATION), _CLASSIFICATION)]


def trained_networks(rows: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trained ones with accuracy and latency, in their order."""
    return [row for row in rows if row.outcome is Outcome.TRAINED and None not in (row.accuracy, row.latency_ms)]


def searched_networks(rows: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The networks that a search compared by ``ranked_accuracy``, in their order.

    Trained ones and those scored; trainings of finalists come after the search.
    """
    known = {Outcome.TRAINED: "accuracy", Outcome.SCORED: "estimated_accuracy"}
    return [
        row
        for row in rows
        if row.outcome in known
        and row.role not in FINAL_ROLES
        and None not in (getattr(row, known[row.outcome]), row.latency_ms)
    ]


def ranked_networks(rows: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The networks among which a search chooses, in their order.

    They compare by ``ranked_accuracy``. Once finalists are trained, those that were trained; before, those scored as
    well.
    """
    rows = list(rows)
    trained = trained_networks(rows)
    return trained if any(row.role in FINAL_ROLES for row in trained) else searched_networks(rows)


def pareto_front(rows: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Records of ``ranked_networks`` that no other dominates, fastest first.

    One dominates another by higher accuracy or lower latency without being worse in the other.

    Of rows equal in both, the earliest trial represents all.
    """
    front: list[TrialRecord] = []
    best = -1.0
    for row in sorted(ranked_networks(rows), key=_by_latency_and_accuracy):
        if (row.ranked_accuracy or 0.0) > best:
            front.append(row)
            best = row.ranked_accuracy or 0.0
    return front


def _by_latency_and_accuracy(row: TrialRecord) -> tuple[float, float, int]:
    return row.latency_ms or 0.0, -(row.ranked_accuracy or 0.0), row.number


def outcome_counts_text(rows: Sequence[TrialRecord]) -> str:
    """Trials per outcome in words, such as ``5 trained, 1 failed``.

    Empty without rows.
    """
    return ", ".join(f"{count} {outcome}" for outcome, count in count_outcomes(rows).items() if count)


def count_outcomes(rows: Sequence[TrialRecord]) -> dict[Outcome, int]:
    """How many rows had each outcome that a candidate can have."""
    return {
        outcome: sum(row.outcome is outcome for row in rows) for outcome in Outcome if outcome is not Outcome.BASELINE
    }
