"""Selection of a step's proposals by what they cost in loss and what they save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from optuna.trial import FrozenTrial

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.methods.netadapt.proposals import Change
from nas.methods.netadapt.state import LOSS, LOSS_ERROR, StepTrial, step_trial
from nas.study.trial_record import Outcome

_COMPARED = (Outcome.SCORED, Outcome.TRAINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTrial:
    """A trial that shrinks the network of the step before.

    ``loss``: in nats; ``increase``: over that of the network of the step before, with its standard error ``error`` over
    images. ``saving``: reduction of the measure, in its unit.
    """

    number: int
    place: StepTrial
    loss: float
    increase: float
    error: float
    saving: float

    def key(self, criterion: str) -> tuple[float, float, int]:
        """What trials are ordered by, the best first.

        An increase below its standard error counts as that: among changes that cost nothing that can be seen, the one
        that saves most is the best, not the one that was luckiest.
        """
        cost = max(self.increase, self.error)
        return cost / self.saving if criterion == "ratio" else self.loss, -self.saving, self.number


def ordered(
    trials: Sequence[FrozenTrial], reference: float, measure: str, before: float, criterion: str
) -> list[ScoredTrial]:
    """Trials with a loss, the best first.

    ``reference``: loss, and ``before``: ``measure`` of the network of the step before.
    """
    found = [
        ScoredTrial(
            number=trial.number,
            place=step_trial(trial),
            loss=loss,
            increase=loss - reference,
            error=trial.user_attrs[f"score_{LOSS_ERROR}"],
            saving=before - trial.user_attrs[measure],
        )
        for trial in trials
        if (loss := loss_of(trial)) is not None and step_trial(trial).changes
    ]
    return sorted(found, key=lambda one: one.key(criterion))


def loss_of(trial: FrozenTrial) -> float | None:
    """Loss by which ``trial`` compares with others of its step; None if it has none."""
    if trial.user_attrs.get("outcome") not in _COMPARED:
        return None
    loss: float | None = trial.user_attrs.get(f"score_{LOSS}")
    return loss


def combine(
    arch: ArchSpec,
    proposals: Sequence[ScoredTrial],
    change: Callable[[ArchSpec, Change], ArchSpec],
    is_enough: Callable[[ArchSpec], bool],
    first: int,
) -> tuple[tuple[Change, ...], ArchSpec]:
    """Join ``proposals``, given best first, until they are enough.

    ``first``: place of the one to begin with. A proposal that no longer fits, as one of a block that another removes,
    is left out; in the end so is each that is not needed, the last ones first. Returns the changes, and the network
    with all of them.
    """
    changes: list[Change] = []
    small = arch
    for one in (proposals[first], *proposals[:first], *proposals[first + 1 :]):
        if _touches_removed_block(one.place.changes[0], changes):
            continue
        try:
            small = change(small, one.place.changes[0])
        except NasError:
            continue
        changes.append(one.place.changes[0])
        if is_enough(small):
            break
    for one_change in reversed(changes[1:-1]):
        fewer = [other for other in changes if other != one_change]
        without = reduce(change, fewer, arch)
        if is_enough(without):
            changes, small = fewer, without
    return tuple(changes), small


def _touches_removed_block(change: Change, changes: Sequence[Change]) -> bool:
    """Whether one of the changes removes a block of a stage that another changes."""
    removed = [one.name for one in changes if one.kind == "block"]
    if change.kind == "block":
        return any(one.name.startswith(f"{change.name}.") for one in changes)
    return any(change.name.startswith(f"{name}.") for name in removed)
