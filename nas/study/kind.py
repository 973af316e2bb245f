"""A kind of study: what a method declares for engines and commands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

    from nas.study.config import StudyPlan
    from nas.study.manifest import StudyManifest
    from nas.study.session import StudySession

SpaceFactory = Callable[[Mapping[str, Any]], Any]


class StudyKind(ABC):
    """A method's studies, from a checked plan to a report.

    One stateless subclass per method, in its ``kind.py``, listed in ``nas.methods.KINDS``. Its methods import what they
    need when they are called: a command that answers a mistake loads neither torch nor Optuna.

    ``name``: as lists of studies show it. ``groups``: groups of settings that no other kind has, by which a study is
    recognised. ``session_module``: the module that loads what every worker process needs.
    """

    name: ClassVar[str]
    groups: ClassVar[frozenset[str]]
    session_module: ClassVar[str]

    def owns(self, identity: Mapping[str, Any]) -> bool:
        """Whether a study with the settings ``identity`` is of this kind.

        ``identity``: settings by dotted names, or by group.
        """
        return any(key.partition(".")[0] in self.groups for key in identity)

    @abstractmethod
    def plan_of(self, manifest: StudyManifest, folder: Path, make_space: SpaceFactory, **common: Any) -> StudyPlan:
        """The plan of the study in ``folder``, from its ``manifest``.

        ``make_space``: makes a search space of its configuration. ``common``: ``runs_dir`` and ``command``.
        Raises: NasError.
        """

    def check_sources(self, plan: Any) -> None:
        """Check what ``plan`` reads from elsewhere, before anything is loaded.

        In the process that runs the study alone, not in its workers. Raises: NasError.
        """
        return

    @abstractmethod
    def prepare(self, plan: Any, console: Console) -> StudySession:
        """Load what ``plan`` needs: images, predictor, evaluator. Raises: NasError."""

    @abstractmethod
    def conclude(self, session: Any, study: optuna.Study, console: Console) -> None:
        """Write results and report of all that ``study`` holds, and print where they are."""

    @abstractmethod
    def is_finished(self, plan: Any) -> bool:
        """Whether the study of ``plan`` has all its trials and its report.

        False for a study of another plan.
        """

    @abstractmethod
    def render(self, plan: Any, manifest: StudyManifest, study: optuna.Study) -> Path:
        """Write tables, plots and report of ``study`` as of now; the report's path.

        Nothing is trained, measured or written into the study, and no images are loaded. Raises: NasError.
        """

    @abstractmethod
    def refresh_notes(
        self, plan: Any, manifest: StudyManifest, study: optuna.Study, on_note: Callable[[], object] = lambda: None
    ) -> None:
        """Do as ``render``, and update what a dashboard shows of ``study``.

        ``on_note``: called before each note of a trial; what it raises ends the update, which the next one completes.

        Raises: NasError.
        """

    @abstractmethod
    def winners(self, study: optuna.Study, val_images: int | None = None) -> list[dict[str, Any]]:
        """The networks that ``study`` found, best first, as plain data.

        ``val_images``: the number of validation images, as in ``trial_records``.

        Each has at least ``name``, ``accuracy`` and ``latency_ms``.
        """

    def baselines(self, study: optuna.Study) -> list[dict[str, Any]]:
        """The networks that those of ``study`` are compared with, as plain data.

        Each has at least ``name``, ``published``, ``accuracy`` and ``latency_ms``.
        """
        return []

    def conclusion(self, study: optuna.Study, manifest: StudyManifest | None) -> dict[str, Any] | None:
        """What ``study`` says besides its networks, as plain data; None if nothing.

        ``manifest``: None where the study's folder is lost.
        """
        return None
