"""Early end of a search that has little left to gain, stored in its study."""

from __future__ import annotations

from typing import Final, NamedTuple

import optuna

from nas.methods.search.settings import StudySettings
from nas.study.storage.attributes import set_system_attribute, system_attributes

_STOP: Final = "nas:gain_stop"


class GainStop(NamedTuple):
    """The expected gain by one more network at which a search ended.

    ``gain``: a share of the hypervolume, or an amount of the reward. ``trials``: how many the search has then, those
    included that were running.
    """

    gain: float
    trials: int


def record_gain_stop(study: optuna.Study, stop: GainStop) -> None:
    """Record that the search of ``study`` ends."""
    set_system_attribute(study, _STOP, list(stop))


def gain_stop(study: optuna.Study, settings: StudySettings) -> GainStop | None:
    """How the search of ``study`` ended by its expected gain; None if it did not.

    With a lower ``stop_when_gain_below`` than before, or none, it goes on.
    """
    threshold = settings.stop_when_gain_below
    stored = system_attributes(study).get(_STOP) if threshold is not None else None
    return GainStop(*stored) if stored is not None and threshold is not None and stored[0] < threshold else None


def wanted_trials(study: optuna.Study, settings: StudySettings) -> int:
    """Trials after which the search of ``study`` ends.

    Those of ``settings``, or fewer where it ended early.
    """
    stop = gain_stop(study, settings)
    return min(settings.n_trials, stop.trials) if stop else settings.n_trials
