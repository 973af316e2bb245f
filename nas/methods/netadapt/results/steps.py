"""Steps of an adaptation and their proposals, read from the trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import optuna
from optuna.trial import FrozenTrial

from nas.methods.netadapt.proposals import Change
from nas.methods.netadapt.selection import ScoredTrial, loss_of, ordered
from nas.methods.netadapt.state import LOSS_ERROR, Phase, StepTrial, step_trial, steps_taken
from nas.study.trial_record import TrialRecord

_PHASES: Final = tuple(Phase)
_LABELLED: Final = 3  # changes of a step that a short label names


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """A trial of a step: a proposal, the unchanged network, or a fine-tuned network.

    ``loss``: cross entropy (nats) on train images that fine-tuning leaves out; ``increase``: over that of the network
    of the step before, with its paired standard error ``error`` over images. ``saving``: reduction of the measure.
    ``is_kept``: the step kept it, as a change of its network or as its network. None where a trial has no loss.
    """

    step: int
    phase: Phase
    label: str
    row: TrialRecord
    loss: float | None = None
    increase: float | None = None
    error: float | None = None
    saving: float | None = None
    is_kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationStep:
    """A step of an adaptation: what it changed, and the network that it kept.

    ``step`` 0 is the seed network, without ``changes``. ``row``: record of the trial that was kept. ``share``: what it
    has of the measure, of what the seed network has. ``loss_before``, ``loss_after``: cross entropy (nats) of the
    networks before and after, on train images that fine-tuning leaves out, and ``loss_error`` the paired standard error
    of their difference. ``proposals``: trials of the step. ``cpu_s``: CPU time of all of them.
    """

    step: int
    changes: tuple[str, ...]
    row: TrialRecord
    share: float
    proposals: tuple[ProposalRecord, ...]
    loss_before: float | None = None
    loss_after: float | None = None
    loss_error: float | None = None

    @property
    def label(self) -> str:
        """All changes in one line."""
        return "; ".join(self.changes) or "seed network"

    @property
    def short_label(self) -> str:
        """The first changes, and how many more there are."""
        more = len(self.changes) - _LABELLED
        return "; ".join(self.changes[:_LABELLED]) + f"; {more} more" if more > 0 else self.label

    @property
    def cpu_s(self) -> float:
        """CPU time of all trials of the step in s."""
        return sum(one.row.cpu_s or 0.0 for one in self.proposals)


def kept_rows(study: optuna.Study, rows: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Records of the networks that the steps kept, the seed network's first."""
    by_number = {row.number: row for row in rows}
    return [by_number[number] for number in steps_taken(study) if number in by_number]


def adaptation_steps(
    study: optuna.Study, rows: Sequence[TrialRecord], measure: str, criterion: str
) -> tuple[AdaptationStep, ...]:
    """Steps that ``study`` has taken, the seed network first; ``rows``: its records.

    ``measure`` is what shrinks, ``criterion`` what proposals are ordered by.
    """
    kept, trials, by_number = kept_rows(study, rows), _by_step(study), {row.number: row for row in rows}
    steps = [_step(step, trials.get(step, []), kept, by_number, measure, criterion) for step in range(len(kept))]
    if steps and steps[0].loss_after is None:  # the loss of a network that was trained is looked at by the next step
        unchanged = _unchanged(trials.get(1, []))
        steps[0] = replace(steps[0], loss_after=loss_of(unchanged) if unchanged else None)
    return tuple(steps)


def open_proposals(
    study: optuna.Study, rows: Sequence[TrialRecord], measure: str, criterion: str
) -> tuple[ProposalRecord, ...]:
    """Trials of the step that is not finished, those of the seed network aside."""
    kept, trials = kept_rows(study, rows), _by_step(study)
    if not kept:
        return ()
    by_number = {row.number: row for row in rows}
    return _proposals(trials.get(len(kept), []), by_number, kept[-1], None, measure, criterion)


def _by_step(study: optuna.Study) -> dict[int, list[FrozenTrial]]:
    found: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        found.setdefault(step_trial(trial).step, []).append(trial)
    return found


def _step(
    step: int,
    trials: Sequence[FrozenTrial],
    kept: Sequence[TrialRecord],
    rows: Mapping[int, TrialRecord],
    measure: str,
    criterion: str,
) -> AdaptationStep:
    row = kept[step]
    own = next(trial for trial in trials if trial.number == row.number)
    labels = _labels(trials)
    changes = step_trial(own).changes
    unchanged = _unchanged(trials)
    return AdaptationStep(
        step=step,
        changes=tuple(labels.get(one, f"{one.kind} {one.name} to {one.size}") for one in changes),
        row=row,
        share=getattr(row, measure) / getattr(kept[0], measure),
        proposals=_proposals(trials, rows, kept[step - 1] if step else None, own, measure, criterion),
        loss_before=loss_of(unchanged) if unchanged else None,
        loss_after=loss_of(own),
        loss_error=own.user_attrs.get(f"score_{LOSS_ERROR}") if step else None,
    )


def _proposals(
    trials: Sequence[FrozenTrial],
    rows: Mapping[int, TrialRecord],
    before: TrialRecord | None,
    own: FrozenTrial | None,
    measure: str,
    criterion: str,
) -> tuple[ProposalRecord, ...]:
    """Records of a step's ``trials``, the best proposals first, then the fine-tuned.

    ``own``: the trial that the step kept.
    """
    unchanged = _unchanged(trials)
    reference = loss_of(unchanged) if unchanged else None
    kept = set(step_trial(own).changes) if own else set()
    scored: dict[int, ScoredTrial] = {}
    if before is not None and reference is not None:
        found = ordered(trials, reference, measure, getattr(before, measure), criterion)
        scored = {one.number: one for one in found}
    places = {number: place for place, number in enumerate(scored)}
    records = []
    for trial in sorted(trials, key=lambda one: places.get(one.number, len(places) + one.number)):
        if trial.number not in rows:
            continue  # queued, or started since the records were read
        place, score = step_trial(trial), scored.get(trial.number)
        is_kept = trial is own if place.phase is not Phase.LOSS else bool(place.changes) and set(place.changes) <= kept
        records.append(
            ProposalRecord(
                step=place.step,
                phase=place.phase,
                label=place.label,
                row=rows[trial.number],
                loss=loss_of(trial),
                increase=score.increase if score else None,
                error=score.error if score else None,
                saving=score.saving if score else None,
                is_kept=is_kept,
            )
        )
    return tuple(sorted(records, key=lambda one: _PHASES.index(one.phase)))


def _unchanged(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial that scored the network of the step before; None without its loss."""
    found = ((step_trial(one), one) for one in trials if loss_of(one) is not None)
    return next((one for place, one in found if place.phase is Phase.LOSS and not place.changes), None)


def _labels(trials: Sequence[FrozenTrial]) -> dict[Change, str]:
    """Changes in words, with the size before, from the proposals of a step."""
    places: list[StepTrial] = [step_trial(one) for one in trials]
    return {one.changes[0]: one.label for one in places if one.phase is Phase.LOSS and one.changes}
