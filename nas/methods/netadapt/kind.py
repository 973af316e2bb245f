"""Study kind of NetAdapt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.study.kind import SpaceFactory, StudyKind

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

    from nas.methods.netadapt.config import NetAdaptPlan
    from nas.methods.netadapt.session import NetAdaptSession
    from nas.study.manifest import StudyManifest


class NetAdaptKind(StudyKind):
    """Adaptation of a trained network to a target, step by step."""

    name = "netadapt"
    groups = frozenset({"netadapt", "training"})
    session_module = "nas.methods.netadapt.session"

    def plan_of(self, manifest: StudyManifest, folder: Path, make_space: SpaceFactory, **common: Any) -> NetAdaptPlan:
        """Plan of the study in ``folder``; ``make_space`` is not called.

        Raises: NasError.
        """
        from nas.arch.files import load_spec
        from nas.methods.netadapt.config import SEED_FILE, NetAdaptPlan

        return NetAdaptPlan.of(manifest.settings, seed=load_spec(folder / SEED_FILE), **common)

    def prepare(self, plan: NetAdaptPlan, console: Console) -> NetAdaptSession:
        """Load data and predictor of ``plan``. Raises: NasError."""
        from nas.methods.netadapt.session import prepare_netadapt

        return prepare_netadapt(plan, console)

    def conclude(self, session: NetAdaptSession, study: optuna.Study, console: Console) -> None:
        """Measure the result, write it with tables, plots and report, and print it."""
        from nas.methods.netadapt.conclude import conclude_netadapt

        conclude_netadapt(session, study, console)

    def is_finished(self, plan: NetAdaptPlan) -> bool:
        """Whether the study has all its steps and its report."""
        from nas.methods.netadapt.session import is_netadapt_finished

        return is_netadapt_finished(plan)

    def render(self, plan: NetAdaptPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
        """Write tables, plots and report as of now; the report's path. Raises: NasError."""
        from nas.methods.netadapt.render import render_netadapt

        return render_netadapt(plan, manifest, study)

    def refresh_notes(
        self,
        plan: NetAdaptPlan,
        manifest: StudyManifest,
        study: optuna.Study,
        on_note: Callable[[], object] = lambda: None,
    ) -> None:
        """Render the study, and update the dashboard's notes. Raises: NasError."""
        from nas.methods.netadapt.render import refresh_netadapt_notes

        refresh_netadapt_notes(plan, manifest, study, on_note)

    def winners(self, study: optuna.Study, val_images: int | None = None) -> list[dict[str, Any]]:
        """Network of the last step; empty before the seed network is there."""
        from nas.methods.netadapt.report_data import adapted_facts

        return adapted_facts(study)
