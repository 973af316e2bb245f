"""Study kind of architecture search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.core.errors import NasError, quoted
from nas.study.kind import SpaceFactory, StudyKind

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

    from nas.methods.search.config import SearchPlan
    from nas.methods.search.session import SearchSession
    from nas.study.manifest import StudyManifest


class SearchKind(StudyKind):
    """Architecture search of a space for high accuracy at low latency."""

    name = "search"
    groups = frozenset({"space"})
    session_module = "nas.methods.search.session"

    def plan_of(self, manifest: StudyManifest, folder: Path, make_space: SpaceFactory, **common: Any) -> SearchPlan:
        """Plan of the search in ``folder``. Raises: NasError."""
        from nas.methods.search.config import SearchPlan

        space: Mapping[str, Any] = manifest.settings["space"]
        if not isinstance(space, Mapping):
            raise NasError(f"space: must be a mapping, not {quoted(space)}.")
        return SearchPlan.of(manifest.settings, space=make_space(space), space_config=space, **common)

    def check_sources(self, plan: SearchPlan) -> None:
        """Check what a new study of ``plan`` learns from, and its baselines."""
        from nas.methods.search.baselines.checks import check_baselines
        from nas.methods.search.trials.prior_evaluations import check_sources

        check_sources(plan)
        check_baselines(plan)

    def prepare(self, plan: SearchPlan, console: Console) -> SearchSession:
        """Load data and predictor of ``plan``. Raises: NasError."""
        from nas.methods.search.session import prepare_search

        return prepare_search(plan, console)

    def conclude(self, session: SearchSession, study: optuna.Study, console: Console) -> None:
        """Write winners, table and report, and print where they are."""
        from nas.methods.search.conclude import conclude_search

        conclude_search(session, study, console)

    def is_finished(self, plan: SearchPlan) -> bool:
        """Whether the search has all its trials and its report."""
        from nas.methods.search.session import is_search_finished

        return is_search_finished(plan)

    def render(self, plan: SearchPlan, manifest: StudyManifest, study: optuna.Study) -> Path:
        """Write table, plot and report as of now; the report's path. Raises: NasError."""
        from nas.methods.search.render import render_search

        return render_search(plan, manifest, study)

    def refresh_notes(
        self,
        plan: SearchPlan,
        manifest: StudyManifest,
        study: optuna.Study,
        on_note: Callable[[], object] = lambda: None,
    ) -> None:
        """Render the search, and update the dashboard's notes. Raises: NasError."""
        from nas.methods.search.render import refresh_search_notes

        refresh_search_notes(plan, manifest, study, on_note)

    def winners(self, study: optuna.Study, val_images: int | None = None) -> list[dict[str, Any]]:
        """Winners as plain data: the Pareto front, or the highest rewards first."""
        from nas.methods.search.report_data import winner_facts

        return winner_facts(study, val_images)

    def baselines(self, study: optuna.Study) -> list[dict[str, Any]]:
        """Pretrained networks that the winners are compared with, as plain data."""
        from nas.methods.search.report_data import baseline_facts

        return baseline_facts(study)

    def conclusion(self, study: optuna.Study, manifest: StudyManifest | None) -> dict[str, Any] | None:
        """Whether the search was worth it, by each baseline; None without any."""
        from nas.methods.search.report_data import baseline_conclusions

        verdicts = baseline_conclusions(study, manifest.images.val if manifest else None)
        return {"baselines": list(verdicts)} if verdicts else None
