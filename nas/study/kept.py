"""The study of a plan in its storage: found or opened, and refused where it is another one's."""

from __future__ import annotations

from typing import Any

import optuna

from nas.latency.predictor import LatencyPredictor
from nas.study.patience import Patience
from nas.study.plan import KeptPlan
from nas.study.storage import check_folder, known_study, open_storage, open_study


class KeptSession:
    """A plan with its predictor: which study is its own, alike for every kind of study."""

    __slots__ = ()
    plan: KeptPlan
    predictor: LatencyPredictor
    patience: Patience

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change within the study."""
        return self.plan.identity(self.predictor.device.key)

    def find(self) -> optuna.Study | None:
        """The study if it was begun before by a plan that asks for the same. Raises: NasError for any other plan."""
        plan = self.plan
        check_folder(plan.folder, plan.storage_url, self.identity)
        return known_study(plan.storage_url, plan.name, plan.objective, self.identity, self.patience)

    def open(self) -> optuna.Study:
        """The study, created or resumed."""
        plan = self.plan
        return open_study(open_storage(plan.storage_url, self.patience), plan.name, plan.objective, self.identity)
