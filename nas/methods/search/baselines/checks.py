"""Check of a search's baselines before it begins: their weights must be there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import timm

from nas.core.errors import NasError
from nas.core.files import file_sha256
from nas.methods.search.baselines.choice import BaselineChoice
from nas.methods.search.baselines.records import baseline_records
from nas.methods.search.config import SearchPlan
from nas.model.weights import PRETRAINED, SPEC_SUFFIXES, source_weights, weights_beside, weights_folder
from nas.study.catalog import load_study
from nas.study.storage.optuna_private import storage_of
from nas.study.trial_record import BaselineRecord


def check_baselines(plan: SearchPlan) -> None:
    """Check that the weights of all baselines can be read; timm's are downloaded now.

    Not of those that the study has trained already. Raises: NasError in one line naming the baseline.
    """
    known = {one.published: one for one in _stored(plan)} if plan.baselines else {}
    for choice in plan.baselines:
        if not is_trained(choice, known.get(choice.name)):
            _check_weights(choice, plan)


def is_trained(choice: BaselineChoice, known: BaselineRecord | None) -> bool:
    """Whether ``known`` is the result of ``choice``, with the weights that it has now."""
    if known is None:
        return False
    path = Path(choice.weights).expanduser()
    return path.suffix not in SPEC_SUFFIXES or known.weights_sha256 == file_sha256(
        weights_beside(path, "study.baselines")
    )


def _check_weights(choice: BaselineChoice, plan: SearchPlan) -> None:
    if choice.weights == PRETRAINED and not timm.is_model(choice.arch.name):
        raise NasError(
            f"study.baselines {choice.name!r}: timm has no pretrained weights of it; give timm/NAME, or a spec file "
            "with its weights beside it."
        )
    try:
        source_weights(choice.arch, choice.weights, weights_folder(plan.runs_dir))
    except NasError as error:
        text = str(error).replace("a file of yours (weights=FILE)", "a spec file with its weights beside it")
        raise NasError(f"study.baselines {choice.name!r}: {text}") from None


def _stored(plan: SearchPlan) -> list[BaselineRecord]:
    """Baselines of the study of ``plan``; empty if there is none yet."""
    try:
        study = load_study(plan.storage_url, plan.name)
    except NasError:
        return []
    with closing(storage_of(study)):
        return baseline_records(study)
