"""Where a study is kept: URLs, backends, retries, lease, ownership.

The only room that uses Optuna's private names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.study.storage.attributes import set_system_attribute, system_attributes
    from nas.study.storage.opening import claim_study, open_storage, stored_identity, study_identity
    from nas.study.storage.optuna_private import StudyView, storage_of, study_id, trial_id
    from nas.study.storage.ownership import AcquireStudy, exclusive_ownership
    from nas.study.storage.retry_policy import RetryPolicy
    from nas.study.storage.study_format import FORMAT_ATTRIBUTE, is_readable_format
    from nas.study.storage.trial_draft import TrialDraft
    from nas.study.storage.urls import url_file
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "attributes": ["set_system_attribute", "system_attributes"],
            "opening": ["claim_study", "open_storage", "stored_identity", "study_identity"],
            "optuna_private": ["StudyView", "storage_of", "study_id", "trial_id"],
            "ownership": ["AcquireStudy", "exclusive_ownership"],
            "retry_policy": ["RetryPolicy"],
            "study_format": ["FORMAT_ATTRIBUTE", "is_readable_format"],
            "trial_draft": ["TrialDraft"],
            "urls": ["url_file"],
        },
    )

__all__ = [
    "FORMAT_ATTRIBUTE",
    "AcquireStudy",
    "RetryPolicy",
    "StudyView",
    "TrialDraft",
    "claim_study",
    "exclusive_ownership",
    "is_readable_format",
    "open_storage",
    "set_system_attribute",
    "storage_of",
    "stored_identity",
    "study_id",
    "study_identity",
    "system_attributes",
    "trial_id",
    "url_file",
]
