"""Did the proxy work? Its ranking of networks beside that of a study of the same storage that trained them longer."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import optuna

from nas.core.formatting import plural
from nas.core.rank_correlation import kendall_tau
from nas.study.storage.attributes import system_attributes
from nas.study.storage.opening import study_identity
from nas.study.storage.optuna_private import storage_of, study_id
from nas.study.storage.study_format import FORMAT_ATTRIBUTE, is_readable_format
from nas.study.trial_record import Outcome, TrialRecord

LEAST_PAIRS: Final = 3
_EFFORT: Final = ("epochs", "width_multiplier", "depth_multiplier", "resolution_px")
_TIMES_LONGER: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LongerTraining:
    """The networks that ``study`` trained too, with more effort: ``more`` says what of, ``pairs`` hold accuracies in
    [0, 1], here and there."""

    study: str
    more: str
    pairs: tuple[tuple[float, float], ...]

    @property
    def kendall_tau(self) -> float | None:
        """Agreement of the two orders, 1 is the same; None where there is no order."""
        tau = kendall_tau(*zip(*self.pairs, strict=True)) if len(self.pairs) >= LEAST_PAIRS else math.nan
        return None if math.isnan(tau) else tau

    @property
    def p_value(self) -> float | None:
        """Probability of an agreement so far from none if there were none; None where there is no order."""
        if self.kendall_tau is None:
            return None
        from scipy.stats import kendalltau  # a second of CPU, for the few studies that have a longer one beside them

        return float(kendalltau(*zip(*self.pairs, strict=True)).pvalue)

    def __str__(self) -> str:
        count = plural(len(self.pairs), "network")
        if self.kendall_tau is None:
            return f"Study {self.study} ({self.more}) trained {count} of this one too: too few for a rank correlation"
        return (
            f"Kendall tau {self.kendall_tau:.2f} (p {self.p_value:.2g}) between the proxy accuracies here and those "
            f"of the same {count} in study {self.study} ({self.more})"
        )


def longer_trainings(study: optuna.Study, rows: Sequence[TrialRecord]) -> tuple[LongerTraining, ...]:
    """The studies beside ``study`` that trained some of its networks longer, those with the most in common first.

    One counts if it is of the same images, no part of its proxy's effort (epochs, width, depth, side) is less and one
    is more. A network that was trained several times there counts with its mean.
    """
    identity = study_identity(system_attributes(study))
    here = {row.arch_id: row.accuracy for row in rows if row.outcome is Outcome.TRAINED and row.accuracy is not None}
    found = []
    for other in storage_of(study).get_all_studies() if here else ():
        if other.study_name == study.study_name or not is_readable_format(other.system_attrs.get(FORMAT_ATTRIBUTE)):
            continue
        more = _more(identity, study_identity(other.system_attrs))
        if more:
            there: dict[str, list[float]] = {}
            for trial in storage_of(study).get_all_trials(study_id(other), deepcopy=False):
                if trial.user_attrs.get("outcome") == Outcome.TRAINED and trial.user_attrs.get("arch_id") in here:
                    there.setdefault(trial.user_attrs["arch_id"], []).append(trial.user_attrs["accuracy"])
            pairs = tuple((here[name] or 0.0, fmean(values)) for name, values in there.items())
            if pairs:
                found.append(LongerTraining(study=other.study_name, more=more, pairs=pairs))
    return tuple(sorted(found, key=lambda one: -len(one.pairs)))


def validation_command(command: str, name: str, epochs: int, networks: int) -> str:
    """The command of a second study that trains published and best ones of study ``name`` longer: ``networks``.

    It stops none of them early, for a ranking needs them all.
    """
    words = shlex.split(command)
    anew = {
        "proxy.epochs": _TIMES_LONGER * epochs,
        "study.name": f"{name}-longer",
        "study.first": name,
        "study.n_trials": networks,
    }
    kept = [word for word in words if word.partition("=")[0] not in anew and not word.startswith("pruner")]
    return shlex.join([*kept, *(f"{key}={value}" for key, value in anew.items())])


def _more(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """What the effort of ``there`` is greater in, in words; empty if it is no longer training of the same."""
    keys = [f"proxy.{name}" for name in _EFFORT]
    same = ("data.name", "data.root", "data.seed", "data.val_fraction")
    if not all(key in there and key in here for key in keys) or any(here.get(key) != there.get(key) for key in same):
        return ""
    if any(there[key] < here[key] for key in keys):
        return ""
    greater = [name for name, key in zip(_EFFORT, keys, strict=True) if there[key] > here[key]]
    return ", ".join(f"{name} {there[f'proxy.{name}']:g} instead of {here[f'proxy.{name}']:g}" for name in greater)
