"""Proxy validation: rank correlation with longer trainings of the same networks.

Both studies must be in the same storage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import optuna

from nas.core.formatting import changed_command, plural
from nas.core.statistics import kendall_tau
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import study_identity
from nas.study.storage.optuna_private import storage_of, study_id
from nas.study.storage.study_format import FORMAT_ATTRIBUTE, is_readable_format
from nas.study.trial_record import Outcome, TrialRecord

MIN_PAIRS: Final = 3
_EFFORT: Final = ("epochs", "width_multiplier", "depth_multiplier", "resolution_px")
_EPOCHS_FACTOR: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LongerTraining:
    """Networks that another study trained with more effort.

    ``study``: its name. ``effort``: the settings that are greater there, in words. ``pairs``: accuracies in [0, 1] in
    this study and in the other.
    """

    study: str
    effort: str
    pairs: tuple[tuple[float, float], ...]

    @property
    def kendall_tau(self) -> float | None:
        """Kendall's tau-b of the two studies' accuracies, or None.

        None: too few pairs, or all accuracies of a study are equal. 1 is equal order; at least ``MIN_PAIRS`` pairs are
        needed.
        """
        tau = kendall_tau(*zip(*self.pairs, strict=True)) if len(self.pairs) >= MIN_PAIRS else math.nan
        return None if math.isnan(tau) else tau

    @property
    def p_value(self) -> float | None:
        """Two-sided p-value of ``kendall_tau`` under independence; None if tau is None."""
        if self.kendall_tau is None:
            return None
        from scipy.stats import kendalltau  # a second of CPU, for the few studies that have a longer one beside them

        return float(kendalltau(*zip(*self.pairs, strict=True)).pvalue)

    def __str__(self) -> str:
        count = plural(len(self.pairs), "network")
        if self.kendall_tau is None:
            return (
                f"Study {self.study} ({self.effort}) also trained {count} of this study: no rank correlation with "
                f"fewer than {MIN_PAIRS} networks or equal accuracies"
            )
        return (
            f"Kendall tau {self.kendall_tau:.2f} (p {self.p_value:.2g}) between the proxy accuracies of this study "
            f"and those of the same {count} in study {self.study} ({self.effort})"
        )


def longer_trainings(study: optuna.Study, rows: Sequence[TrialRecord]) -> tuple[LongerTraining, ...]:
    """Find studies of the same storage that trained networks of ``study`` longer.

    A study qualifies if it uses the same images, none of its proxy settings for effort (epochs, width, depth,
    resolution) is smaller and at least one is greater. Repeated trainings of a network are averaged. The studies with
    the most networks in common come first.
    """
    identity = study_identity(system_attributes(study))
    accuracies = {
        row.arch_id: row.accuracy for row in rows if row.outcome is Outcome.TRAINED and row.accuracy is not None
    }
    results = []
    for other in storage_of(study).get_all_studies() if accuracies else ():
        if other.study_name == study.study_name or not is_readable_format(other.system_attrs.get(FORMAT_ATTRIBUTE)):
            continue
        effort = _greater_effort(identity, study_identity(other.system_attrs))
        if effort:
            repeats: dict[str, list[float]] = {}
            for trial in storage_of(study).get_all_trials(study_id(other), deepcopy=False):
                if trial.user_attrs.get("outcome") == Outcome.TRAINED and trial.user_attrs.get("arch_id") in accuracies:
                    repeats.setdefault(trial.user_attrs["arch_id"], []).append(trial.user_attrs["accuracy"])
            pairs = tuple((accuracies[name] or 0.0, fmean(values)) for name, values in repeats.items())
            if pairs:
                results.append(LongerTraining(study=other.study_name, effort=effort, pairs=pairs))
    return tuple(sorted(results, key=lambda result: -len(result.pairs)))


def validation_command(command: str, name: str, epochs: int, networks: int) -> str:
    """Return the command of a study that trains networks of study ``name`` longer.

    It trains ``networks`` published and best networks, three times ``epochs`` each, without a pruner and with
    ``estimator=proxy``: a ranking needs complete trainings.
    """
    overrides = {
        "estimator": "proxy",
        "proxy.epochs": _EPOCHS_FACTOR * epochs,
        "study.name": f"{name}-longer",
        "study.first": name,
        "study.n_trials": networks,
    }
    return changed_command(command, overrides, without="pruner")


def _greater_effort(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Describe the settings in which study ``there`` exceeds ``here``.

    Empty if the images differ, an effort setting is smaller, or none is greater.
    """
    keys = [f"proxy.{name}" for name in _EFFORT]
    same = ("objective.task", "data.name", "data.root", "data.seed", "data.val_fraction")
    if not all(key in there and key in here for key in keys) or any(here.get(key) != there.get(key) for key in same):
        return ""
    if any(there[key] < here[key] for key in keys):
        return ""
    greater = [name for name, key in zip(_EFFORT, keys, strict=True) if there[key] > here[key]]
    return ", ".join(f"{name} {there[f'proxy.{name}']:g} instead of {here[f'proxy.{name}']:g}" for name in greater)
