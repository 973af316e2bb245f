"""What a model of accuracy says about a search, for its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from nas.analysis.bayesian_regression import FloatArray
from nas.analysis.surrogate.accuracy_model import AccuracyModel
from nas.analysis.surrogate.choice_effects import ChoiceEffect
from nas.analysis.surrogate.cross_validation import MIN_TRAINED, CrossValidation
from nas.analysis.surrogate.expected_gain import ExpectedGain
from nas.core.formatting import decimal

_REACH: Final = 1.6449  # standard deviations of a 90% interval on each side
_SHOWN: Final = 10  # effects
_HARDLY: Final = 0.001  # gain that is hardly worth a training: 0.1% of the hypervolume, or 0.1 points of the reward


class ExpectedPoint(NamedTuple):
    """Untried network on the expected front.

    Its expected ``accuracy`` in [0, 1], ``low`` to ``high`` the 90% interval.
    """

    latency_ms: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """What a model that learned from a study's trainings says about its search.

    ``networks``: that it learned from. ``validation``: None with too few of them, or where all are equal. ``effects``:
    of choices, the largest first. ``front``: expected of untried networks, fastest first. ``gain``: by one more
    network, as a share of the hypervolume, or in rewards where ``is_rewarded``; None where it is not known.
    ``candidates``: feasible untried networks that it was asked about. All but the validation are empty where the model
    is not shown to order networks.
    """

    networks: int
    validation: CrossValidation | None = None
    effects: tuple[ChoiceEffect, ...] = ()
    front: tuple[ExpectedPoint, ...] = ()
    gain: ExpectedGain | None = None
    candidates: int = 0
    is_rewarded: bool = False

    @property
    def shown_effects(self) -> tuple[ChoiceEffect, ...]:
        """The largest effects."""
        return self.effects[:_SHOWN]

    @property
    def is_ordered(self) -> bool:
        """Whether the model is shown to order networks that it did not learn from."""
        return self.validation is not None and self.validation.is_ordered

    @property
    def verdict(self) -> str:
        """Whether the model is to be believed, as sentences."""
        if self.validation is None:
            reason = (
                f"fewer than {MIN_TRAINED} trained networks, and there are {self.networks}"
                if self.networks < MIN_TRAINED
                else "trained networks of equal accuracy"
            )
            return f"Not available with {reason}."
        if self.is_ordered:
            return str(self.validation)
        return f"{self.validation} So it says nothing of the choices, nor of further trials."

    @property
    def effects_text(self) -> str:
        """The choices that matter most; empty where none is known."""
        if not self.effects:
            return ""
        shown = [one for one in self.effects if one.is_shown]
        if not shown:
            return "No choice alone is shown to matter for the accuracy."
        named = "; ".join(f"{one.name}: {one.best} instead of {one.worst} adds {_points(one)}" for one in shown[:3])
        verb = "is" if len(shown) == 1 else "are"
        return (
            f"{len(shown)} of {len(self.effects)} choices {verb} shown to matter for the accuracy, most of all {named}."
        )

    @property
    def gain_text(self) -> str:
        """Whether more trials are likely to help; empty where nothing is known of it."""
        if self.gain is None:
            return ""
        if not self.candidates:
            return "No network that was looked at, and meets the limits, is left to be trained."
        gain, unit = self.gain, " points" if self.is_rewarded else "%"
        best, low, high = (decimal(100 * value) for value in (gain.best, gain.low, gain.high))
        figures = (
            f"the best of {self.candidates:,} networks that were looked at and not trained is expected to add "
            f"{best}{unit} to the {'highest reward' if self.is_rewarded else 'hypervolume'} "
            f"(90% interval {low} to {high})"
        )
        if gain.high < _HARDLY:
            return f"More trials are hardly expected to help: {figures}."
        return f"More trials {'are likely to' if gain.low >= _HARDLY else 'may'} help: {figures}."


def expected_front(model: AccuracyModel, design: FloatArray, latencies_ms: FloatArray) -> tuple[ExpectedPoint, ...]:
    """Front that ``model`` expects of untried networks, fastest first.

    ``design``: their standardised features (M, P). The intervals are those of the results that trainings would have.
    """
    mean, deviation = model.predict(design)
    front: list[int] = []
    for place in np.lexsort((-mean, latencies_ms)):
        if not front or mean[place] > mean[front[-1]]:
            front.append(int(place))
    ends = [model.accuracy_of(mean[front] + sign * _REACH * deviation[front]) for sign in (0, -1, 1)]
    return tuple(ExpectedPoint(*map(float, values)) for values in zip(latencies_ms[front], *ends, strict=True))


def _points(effect: ChoiceEffect) -> str:
    return f"{effect.accuracy:.2f} points (90% interval {effect.low:.2f} to {effect.high:.2f})"
