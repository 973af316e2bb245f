"""What a search optimises: a Pareto front, or MnasNet's single reward.

The front is of accuracy against latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol

from nas.arch.heads.task_scores import TASK_SCORES, TaskScore
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number
from nas.study.trial_record import TrialRecord, pareto_front, ranked_networks

Kind = Literal["pareto", "mnasnet"]
_CLASSIFICATION: Final = "classification"  # task of searches that name none
OBJECTIVES: Final = ("pareto", "mnasnet")
FORMS: Final[Mapping[str, tuple[float, float]]] = {"soft": (-0.07, -0.07), "hard": (0.0, -1.0)}


def mnasnet_reward(accuracy: float, latency_ms: float, target_ms: float, *, alpha: float, beta: float) -> float:
    """MnasNet's reward ACC * (LAT / T)^w (equations 2 and 3).

    w is ``alpha`` up to the target T and ``beta`` beyond it.
    """
    exponent = alpha if latency_ms <= target_ms else beta
    return float(accuracy * (latency_ms / target_ms) ** exponent)


class Objective(Protocol):
    """A study's objective: Optuna's directions, and the names of its values."""

    @property
    def directions(self) -> tuple[str, ...]: ...
    @property
    def metric_names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The objective of a study that compares networks of a cost that is settled."""

    directions: tuple[str, ...] = ("maximize",)
    metric_names: tuple[str, ...] = ("accuracy",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSettings:
    """The objective of a search.

    ``pareto``: accuracy up and latency down, the answer is a front. ``mnasnet``: one reward around ``target_ms``;
    ``form`` is ``soft`` (w = -0.07 on both sides: 5% of accuracy buy a doubling of latency) or ``hard`` (0, -1: a
    wall at the target), and ``alpha`` and ``beta`` override its exponents. ``task``: whose score the accuracy is, by
    which candidates get a head: classification, detection or segmentation.
    """

    kind: Kind = "pareto"
    target_ms: float | None = None
    form: str = "soft"
    alpha: float | None = None
    beta: float | None = None
    task: str = _CLASSIFICATION

    def __post_init__(self) -> None:
        if self.task not in TASK_SCORES:
            raise unknown_choice("objective.task", self.task, tuple(TASK_SCORES))
        if self.kind not in OBJECTIVES:
            raise unknown_choice("objective.kind", self.kind, OBJECTIVES)
        if self.form not in FORMS:
            raise unknown_choice("objective.form", self.form, FORMS)
        if self.kind == "mnasnet" and self.target_ms is None:
            raise NasError(
                "objective.target_ms: missing; add objective.target_ms=20 (or the latency you aim at, in ms)."
            )
        if self.kind == "pareto" and self.target_ms is not None:
            raise NasError("objective.target_ms: has no effect on a Pareto front; add objective=mnasnet.")
        check_number("objective.target_ms", self.target_ms, low=0, open_low=True, optional=True)
        for field in ("alpha", "beta"):
            value = getattr(self, field)
            if value is not None and value > 0:
                raise NasError(
                    f"objective.{field} {quoted(value)}: must not be positive, or slower networks would be rewarded."
                )
            check_number(f"objective.{field}", value, low=-1000, high=0, optional=True)

    @property
    def directions(self) -> tuple[str, ...]:
        """Optuna's directions of ``values``."""
        return ("maximize", "minimize") if self.kind == "pareto" else ("maximize",)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of ``values``, with units."""
        return (self.task_score.metric, "latency_ms") if self.kind == "pareto" else ("reward",)

    @property
    def task_score(self) -> TaskScore:
        """Names of the score of ``task``."""
        return TASK_SCORES[self.task]

    def identity(self) -> dict[str, Any]:
        """Settings that must not change within a study.

        Those of studies of versions that searched for classifiers alone have no ``task``.
        """
        settings = asdict(self)
        if self.task == _CLASSIFICATION:
            del settings["task"]
        return settings

    def values(self, accuracy: float, latency_ms: float) -> tuple[float, ...]:
        """A trained or scored candidate's values for Optuna; accuracy in [0, 1]."""
        return (accuracy, latency_ms) if self.kind == "pareto" else (self.reward(accuracy, latency_ms),)

    def score(self, row: TrialRecord) -> float:
        """The value by which the best trial so far is shown.

        Accuracy on a Pareto front, otherwise the reward.
        """
        return (row.ranked_accuracy or 0.0) if self.kind == "pareto" else self.reward_of(row)

    def reward_of(self, row: TrialRecord) -> float:
        """``reward`` of a trained or scored row."""
        return self.reward(row.ranked_accuracy or 0.0, row.latency_ms or 0.0)

    def reward(self, accuracy: float, latency_ms: float) -> float:
        """MnasNet's reward with the exponents of ``form``, or those given."""
        if self.target_ms is None:
            raise NasError("objective.target_ms: missing; a reward needs a target.")
        alpha, beta = FORMS[self.form]
        alpha = alpha if self.alpha is None else self.alpha
        beta = beta if self.beta is None else self.beta
        return mnasnet_reward(accuracy, latency_ms, self.target_ms, alpha=alpha, beta=beta)


def choose_winners(rows: Sequence[TrialRecord], objective: ObjectiveSettings) -> list[TrialRecord]:
    """The Pareto front, fastest first; the highest for a single reward."""
    if objective.kind == "pareto":
        return pareto_front(rows)
    ranked = ranked_networks(rows)
    return [max(ranked, key=objective.reward_of)] if ranked else []
