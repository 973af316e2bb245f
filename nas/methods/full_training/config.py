"""Settings of a full training as validated plain data; loads no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from nas.arch.spec import ArchSpec
from nas.core.dataclass_io import from_mapping
from nas.core.validation import MAX_SEED, check_number
from nas.data.sources import DataSettings
from nas.study.config import check_run_name, dotted_names
from nas.training.distillation.settings import DistillationSettings, TeacherChoice
from nas.training.recipe import RecipeSettings

_OTHER_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Name and seed of a training.

    ``name``: of its folder; None: by network and data.
    """

    name: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name is not None:
            check_run_name("run.name", self.name)
        check_number("run.seed", self.seed, low=0, high=MAX_SEED, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """Complete settings of one full training.

    ``arch``: the network as named, with its own classes and resolution; ``origin``: the provenance of its spec file.
    ``weights``: where its first weights come from; None for random ones. ``teacher``: the network that it learns from,
    None for labels alone; ``distillation``: how. ``command``: what the user typed.
    """

    arch: ArchSpec
    data: DataSettings
    recipe: RecipeSettings
    run: RunSettings
    runs_dir: Path
    weights: str | None = None
    teacher: TeacherChoice | None = None
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    origin: Mapping[str, Any] | None = None
    command: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any], **resolved: Any) -> TrainingPlan:
        """Build the plan from the groups of a configuration and what is ``resolved``.

        Raises: NasError.
        """
        groups = {
            "data": DataSettings,
            "recipe": RecipeSettings,
            "run": RunSettings,
            "distillation": DistillationSettings,
        }
        return cls(**{name: from_mapping(kind, config[name], name) for name, kind in groups.items()}, **resolved)

    @property
    def name(self) -> str:
        """Name of the run: as given, or by network and data."""
        return self.run.name or _OTHER_CHARACTERS.sub("-", f"train-{self.arch.name}-{self.data.name}")

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        return self.runs_dir / self.name

    @property
    def side_px(self) -> int:
        """Side of the images that the network is trained on, in px."""
        return self.recipe.resolution_px or self.arch.resolution_px

    def network(self, classes: int, in_channels: int) -> ArchSpec:
        """Return the network that is trained, for images of these classes and channels."""
        return self.recipe.network(replace(self.arch, classes=classes, in_channels=in_channels))

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain data, by configuration group."""
        return {
            "arch": {"name": self.arch.name, "arch_id": self.arch.arch_id},
            "weights": self.weights,
            **self._distillation,
            "data": asdict(self.data),
            "recipe": asdict(self.recipe),
            "run": asdict(self.run),
        }

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, by dotted names, as JSON data."""
        groups = {"data": self.data.identity(), "recipe": self.recipe.identity(), **self._distillation}
        own = {"arch": self.arch.arch_id, "weights": self.weights, "run.seed": self.run.seed}
        identity: dict[str, Any] = json.loads(json.dumps(own | dotted_names(groups), default=str))
        return identity

    @property
    def _distillation(self) -> dict[str, Any]:
        """Teacher and how the network learns from it, as plain data; empty without one."""
        if self.teacher is None:
            return {}
        return {"teacher": self.teacher.facts, "distillation": asdict(self.distillation)}
