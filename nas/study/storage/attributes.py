"""System attributes of a study, which dashboards do not show."""

from __future__ import annotations

from typing import Any

import optuna

from nas.study.storage.optuna_private import storage_of, study_id


def system_attributes(study: optuna.Study) -> dict[str, Any]:
    """All that ``study`` keeps so, by name."""
    return dict(storage_of(study).get_study_system_attrs(study_id(study)))


def set_system_attribute(study: optuna.Study, name: str, value: Any) -> None:
    """Set the attribute ``name`` to ``value``, which JSON can hold, in one commit."""
    storage_of(study).set_study_system_attr(study_id(study), name, value)
