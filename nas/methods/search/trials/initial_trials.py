"""The first trials of a new search: published networks, the best of an earlier study, and a sample of the feasible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna

from nas.study.candidates import Candidate, Survey
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.trial_attributes import PUBLISHED

QUEUED_MARK: Final = "nas:seeded"  # whether the first trials of a study are queued


def queue_initial_trials(
    study: optuna.Study,
    survey: Survey,
    *,
    published: Mapping[str, Mapping[str, Any]],
    startup: int,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Queue the first trials of a new study, whatever their number, so that extending it later changes nothing.

    These are the ``published`` genotypes by name, as baselines, those of ``earlier`` studies, then up to ``startup``
    different feasible networks of the survey.
    """
    if system_attributes(study).get(QUEUED_MARK):
        return
    for name, genotype in published.items():
        study.enqueue_trial(dict(genotype), user_attrs={PUBLISHED: name}, skip_if_exists=True)
    for genotype in earlier:
        study.enqueue_trial(dict(genotype), skip_if_exists=True)
    first: dict[str, Candidate] = {}
    for candidate in survey.feasible:
        first.setdefault(candidate.arch.arch_id, candidate)
    for candidate in list(first.values())[:startup]:
        study.enqueue_trial(dict(candidate.genotype), skip_if_exists=True)
    set_system_attribute(study, QUEUED_MARK, True)
