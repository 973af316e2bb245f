"""Settings of a full training as validated plain data; loads no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from nas.arch.heads.settings import HeadSettings
from nas.arch.spec import TASKS, ArchSpec
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, unknown_choice
from nas.core.validation import MAX_SEED, check_number
from nas.data.dense.settings import DENSE_TASKS, DenseDataSettings
from nas.data.sources import DataSettings
from nas.study.config import check_run_name, dotted_names
from nas.training.distillation.settings import DistillationSettings, TeacherChoice
from nas.training.recipe import RecipeSettings
from nas.training.recipe_rules import check_task_recipe

CLASSIFICATION: Final = "classification"  # task of trainings that name none
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
    None for labels alone; ``distillation``: how. ``task``: what it is trained for; ``head``: what it gets for that.
    ``command``: what the user typed.

    Raises: NasError for a network, images or settings that are not for the task.
    """

    arch: ArchSpec
    data: DataSettings | DenseDataSettings
    recipe: RecipeSettings
    run: RunSettings
    runs_dir: Path
    weights: str | None = None
    teacher: TeacherChoice | None = None
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    origin: Mapping[str, Any] | None = None
    task: str = CLASSIFICATION
    head: HeadSettings = field(default_factory=HeadSettings)
    command: str = ""

    def __post_init__(self) -> None:
        if self.arch.task not in (CLASSIFICATION, self.task):
            raise NasError(
                f"arch: {self.arch.name} is for {self.arch.task}; add task={self.arch.task}, or give another network."
            )
        self.head.check_task(self.task)
        check_task_recipe(self.recipe, self.task)
        if self.task == CLASSIFICATION:
            return
        if self.teacher is not None:
            raise NasError(f"teacher: networks learn from a teacher with task={CLASSIFICATION} alone; leave it out.")
        sides = {side for side in (self.recipe.resolution_px, self.data.resolution_px) if side is not None}
        if len(sides) > 1:
            raise NasError(
                f"recipe.resolution_px {self.recipe.resolution_px}: data.resolution_px is {self.data.resolution_px}; "
                "give one of them."
            )
        self.network(classes=2, in_channels=3)  # whether it has the maps that the head reads

    @classmethod
    def of(cls, config: Mapping[str, Any], **resolved: Any) -> TrainingPlan:
        """Build the plan from the groups of a configuration and what is ``resolved``.

        Raises: NasError.
        """
        task = config["task"]
        if task not in TASKS:
            raise unknown_choice("task", task, TASKS)
        groups: dict[str, type[Any]] = {
            "data": _data_settings(config["data"], task),
            "recipe": RecipeSettings,
            "run": RunSettings,
            "distillation": DistillationSettings,
            "head": HeadSettings,
        }
        built: dict[str, Any] = {name: from_mapping(kind, config[name], name) for name, kind in groups.items()}
        return cls(task=task, **built, **resolved)

    @property
    def is_dense(self) -> bool:
        """Whether labels are boxes or masks."""
        return self.task != CLASSIFICATION

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
        own = self.data.resolution_px if isinstance(self.data, DenseDataSettings) else None
        return self.recipe.resolution_px or own or self.arch.resolution_px

    def network(self, classes: int, in_channels: int) -> ArchSpec:
        """Return the network that is trained, for images of these classes and channels."""
        if self.is_dense:
            arch = self.head.network(replace(self.arch, in_channels=in_channels), self.task, classes, self.side_px)
            return replace(self.recipe.network(arch), resolution_px=self.side_px)
        return self.recipe.network(replace(self.arch, classes=classes, in_channels=in_channels))

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain data, by configuration group."""
        return {
            **({"task": self.task, "head": asdict(self.head)} if self.is_dense else {}),
            "arch": {"name": self.arch.name, "arch_id": self.arch.arch_id},
            "weights": self.weights,
            **self._distillation,
            "data": asdict(self.data),
            "recipe": asdict(self.recipe),
            "run": asdict(self.run),
        }

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, by dotted names, as JSON data.

        Those of classification have neither task nor head, as in older versions.
        """
        groups = {"data": self.data.identity(), "recipe": self.recipe.identity(), **self._distillation}
        own = {"arch": self.arch.arch_id, "weights": self.weights, "run.seed": self.run.seed}
        if self.is_dense:
            own, groups = {"task": self.task, **own}, groups | {"head": self.head.given}
        identity: dict[str, Any] = json.loads(json.dumps(own | dotted_names(groups), default=str))
        return identity

    @property
    def _distillation(self) -> dict[str, Any]:
        """Teacher and how the network learns from it, as plain data; empty without one."""
        if self.teacher is None:
            return {}
        return {"teacher": self.teacher.facts, "distillation": asdict(self.distillation)}


def _data_settings(data: Any, task: str) -> type[DataSettings] | type[DenseDataSettings]:
    """Return the class of the settings of ``data`` for ``task``.

    Raises: NasError if its labels are of another task.
    """
    name = data.get("name") if isinstance(data, Mapping) else None
    of_data = name if name in DENSE_TASKS else CLASSIFICATION
    if of_data != task:
        fitting = "an image data set such as data=imagefolder" if task == CLASSIFICATION else f"data={task}"
        raise NasError(f"data.name {name!r}: is for task={of_data}, task is {task}; take {fitting}, or task={of_data}.")
    return DataSettings if task == CLASSIFICATION else DenseDataSettings
