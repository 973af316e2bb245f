"""Initial trials of a search: published, warm-start and feasible networks.

Published networks come first, then the best of an earlier study, then a sample of the feasible candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna

from nas.study.candidates import Candidate, Survey
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.trial_attributes import PUBLISHED

QUEUED_MARK: Final = "nas:seeded"  # set once the initial trials of a study are queued


def queue_initial_trials(
    study: optuna.Study,
    survey: Survey,
    *,
    published: Mapping[str, Mapping[str, Any]],
    startup: int,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Enqueue the initial trials of a new study.

    These are the ``published`` genotypes by name, those of ``earlier`` studies, then up to ``startup``
    distinct feasible networks of the survey. They do not depend on the number of trials, so that extending the study
    later changes nothing.
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
