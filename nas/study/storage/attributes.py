"""System attributes of a study, which dashboards do not show."""

from __future__ import annotations

from typing import Any

import optuna


def system_attributes(study: optuna.Study) -> dict[str, Any]:
    """All that ``study`` keeps so, by name."""
    return dict(study._storage.get_study_system_attrs(study._study_id))


def set_system_attribute(study: optuna.Study, name: str, value: Any) -> None:
    """Set the attribute ``name`` to ``value``, which JSON can hold, in one commit."""
    study._storage.set_study_system_attr(study._study_id, name, value)
