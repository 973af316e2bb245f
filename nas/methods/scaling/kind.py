"""Study kind of compound scaling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.study.kind import SpaceFactory, StudyKind

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

    from nas.methods.scaling.config import ScalingPlan
    from nas.methods.scaling.session import ScalingSession
    from nas.study.manifest import StudyManifest


class ScalingKind(StudyKind):
    """Grid of scaling coefficients, comparison of rules, or table of multipliers."""

    name = "compound grid"
    groups = frozenset({"baseline", "grid", "rounding", "race"})
    session_module = "nas.methods.scaling.session"

    def plan_of(self, manifest: StudyManifest, folder: Path, make_space: SpaceFactory, **common: Any) -> ScalingPlan:
        """Plan of the study in ``folder``; ``make_space`` is not called.

        Raises: NasError.
        """
        from nas.arch.files import load_spec
        from nas.methods.scaling.config import BASELINE_FILE, ScalingPlan

        return ScalingPlan.of(manifest.settings, baseline=load_spec(folder / BASELINE_FILE), **common)

    def prepare(self, plan: ScalingPlan, console: Console) -> ScalingSession:
        """Load data and predictor of ``plan``. Raises: NasError."""
        from nas.methods.scaling.session import prepare_scaling

        return prepare_scaling(plan, console)

    def conclude(self, session: ScalingSession, study: optuna.Study, console: Console) -> None:
        """Write ranking, family, tables, plots and report, and print the best network."""
        from nas.methods.scaling.conclude import conclude_scaling

        conclude_scaling(session, study, console)

    def is_finished(self, plan: ScalingPlan) -> bool:
        """Whether the study has all its rounds and its report."""
        from nas.methods.scaling.session import is_scaling_finished

        return is_scaling_finished(plan)

    def render(self, plan: ScalingPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
        """Write tables, plots and report as of now; the report's path. Raises: NasError."""
        from nas.methods.scaling.render import render_scaling

        return render_scaling(plan, manifest, study)

    def refresh_notes(
        self,
        plan: ScalingPlan,
        manifest: StudyManifest,
        study: optuna.Study,
        on_note: Callable[[], object] = lambda: None,
    ) -> None:
        """Render the study, and update the dashboard's notes. Raises: NasError."""
        from nas.methods.scaling.render import refresh_scaling_notes

        refresh_scaling_notes(plan, manifest, study, on_note)

    def winners(self, study: optuna.Study, val_images: int | None = None) -> list[dict[str, Any]]:
        """Network of the highest mean accuracy; empty if none finished training."""
        from nas.methods.scaling.report_data import best_network_facts

        return best_network_facts(study, val_images)

    def conclusion(self, study: optuna.Study, manifest: StudyManifest | None) -> dict[str, Any] | None:
        """Why the race of a grid ended; None for comparisons and tables."""
        from nas.core.dataclass_io import from_mapping
        from nas.methods.scaling.report_data import grid_conclusion
        from nas.methods.scaling.settings import RaceSettings

        if manifest is None or manifest.settings["compare"]:
            return None
        return grid_conclusion(study, from_mapping(RaceSettings, manifest.settings["race"], "race")).record
