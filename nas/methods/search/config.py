"""Settings of a search as validated plain data; loads neither torch nor Optuna."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from nas.arch.heads.settings import HeadSettings
from nas.core.errors import NasError
from nas.data.dense.settings import DENSE_TASKS, DenseDataSettings
from nas.data.sources import DataSettings
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.settings import EstimatorSettings
from nas.estimators.zero_cost.settings import LABELLED_SCORES
from nas.latency.settings import LatencySettings
from nas.methods.search.baselines.choice import BaselineChoice
from nas.methods.search.settings import PrunerSettings, SamplerSettings, StudySettings
from nas.methods.search.trials.evaluated_file import read_evaluated_file
from nas.study.config import EngineSettings, SettingsGroups, StudyPlan, dotted_names
from nas.study.constraints import Constraints
from nas.study.manifest import CONFIG_FILE
from nas.study.objective import ObjectiveSettings
from nas.study.storage.urls import url_file

_CLASSIFICATION: Final = "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan(StudyPlan):
    """Complete settings of one search.

    ``space``: a search space object; ``space_config``: the plain data it was made from. ``baselines``: the networks of
    ``study.baselines``, resolved; empty for a study that is opened to show it.
    """

    GROUPS: ClassVar[SettingsGroups] = {
        "data": ("data", DataSettings),
        "proxy": ("proxy", ProxySettings),
        "estimator": ("estimator", EstimatorSettings),
        "latency": ("latency", LatencySettings),
        "objective": ("objective", ObjectiveSettings),
        "head": ("head", HeadSettings),
        "constraint": ("constraints", Constraints),
        "sampler": ("sampler", SamplerSettings),
        "pruner": ("pruner", PrunerSettings),
        "engine": ("engine", EngineSettings),
        "study": ("study", StudySettings),
    }

    space: Any
    space_config: Mapping[str, Any]
    data: DataSettings | DenseDataSettings
    proxy: ProxySettings
    latency: LatencySettings
    objective: ObjectiveSettings
    constraints: Constraints
    sampler: SamplerSettings
    pruner: PrunerSettings
    engine: EngineSettings
    study: StudySettings
    runs_dir: Path
    command: str = ""
    estimator: EstimatorSettings = field(default_factory=EstimatorSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    baselines: tuple[BaselineChoice, ...] = ()

    def __post_init__(self) -> None:
        self._check_task()
        self.pruner.check_fits(self.objective, self.proxy.epochs)
        self.estimator.check_fits(self.study.n_trials, self.pruner.name, self.proxy)
        self.study.check_sampler(self.sampler.name)
        if self.name in self.study.learn_from:
            raise NasError(f"study.learn_from {self.name!r}: is this study itself; remove it, or choose a study.name.")
        if self.latency.refine and self.engine.name == "ray":
            raise NasError(
                "latency.refine true: with engine=ray trainings would run on this machine while it measures; leave it "
                "out, or add engine=local."
            )

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        *,
        space: Any,
        space_config: Mapping[str, Any],
        runs_dir: Path,
        command: str,
        baselines: tuple[BaselineChoice, ...] = (),
    ) -> SearchPlan:
        """Build the plan from a configuration's groups.

        ``config`` is as the command composes it, or as ``settings`` returns it; settings that an earlier version kept
        lack ``head``, and ``estimator``, for it trained every candidate. Raises: NasError.
        """
        groups = cls.read_groups({"estimator": {}, "head": {}, **config})
        return cls(
            space=space,
            space_config=space_config,
            runs_dir=runs_dir,
            command=command,
            baselines=baselines,
            **groups,
        )

    @classmethod
    def groups_of(cls, config: Mapping[str, Any]) -> SettingsGroups:
        """The groups of ``config`` with their classes.

        Images with boxes or masks have another.
        """
        data = config.get("data")
        is_dense = isinstance(data, Mapping) and data.get("name") in DENSE_TASKS
        return {**cls.GROUPS, "data": ("data", DenseDataSettings)} if is_dense else cls.GROUPS

    def _check_task(self) -> None:
        """Check that images, head, estimator and baselines fit the task. Raises: NasError."""
        task, data = self.objective.task, self.data
        of_data = data.name if isinstance(data, DenseDataSettings) else _CLASSIFICATION
        if of_data != task:
            fitting = "an image data set such as data=imagefolder" if task == _CLASSIFICATION else f"data={task}"
            raise NasError(
                f"data.name {data.name!r}: is for {of_data}, objective.task is {task}; take {fitting}, or "
                f"objective.task={of_data}."
            )
        self.head.check_task(task)
        if not isinstance(data, DenseDataSettings):
            return
        if self.head.given and self.estimator.name == "supernet":
            raise NasError(
                f"head.{next(iter(self.head.given))}: supernets have the head as published; leave it out, or choose "
                "another estimator."
            )
        if data.resolution_px is not None:
            raise NasError(
                f"data.resolution_px {data.resolution_px}: has no effect on a search; proxies are trained at "
                "proxy.resolution_px, and candidates have space.resolution_px."
            )
        if self.proxy.mixup or self.proxy.cutmix:
            raise NasError(
                f"proxy.mixup, proxy.cutmix: mix labels of whole images; leave them out with objective.task={task}."
            )
        if labelled := [
            name for name in self.estimator.zero_cost if self.estimator.is_scoring and name in LABELLED_SCORES
        ]:
            raise NasError(
                f"estimator.zero_cost {labelled[0]}: needs one class per image, which objective.task={task} has not; "
                "leave it out."
            )
        if self.study.baselines:
            raise NasError(
                f"study.baselines: pretrained networks are fine-tuned as classifiers; leave them out with "
                f"objective.task={task}, and train them with nas.train task={task}."
            )
        sampled = self.space.decode(self.space.sample(random.Random(0)), classes=2, in_channels=3)
        self.head.network(sampled, task, classes=2)  # whether it has the maps that the head reads

    def check_files(self) -> None:
        """Read the file of evaluated networks, to refuse what is wrong with it early.

        Not that of a study which has stored its content, nor a missing one where the study may have.

        Raises: NasError.
        """
        file, storage = self.study.evaluated, url_file(self.storage_url)
        if file is None or (self.folder / CONFIG_FILE).is_file():
            return
        may_be_stored = storage is None or storage.exists()
        if Path(file).is_file() or not may_be_stored:
            read_evaluated_file(Path(file), self.space)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as plain data, by configuration group."""
        return {"space": dict(self.space_config), **self.group_settings}

    @property
    def largest_kernel(self) -> int:
        """Largest kernel size in the space, in px."""
        return int(self.space.largest_kernel)

    @property
    def image_side_px(self) -> int | None:
        """Side in px at which images are stored."""
        return self.data.resolution_px or self.proxy.resolution_px

    @property
    def task(self) -> str:
        """What the networks are for: classification, detection or segmentation."""
        return self.objective.task

    @property
    def base_resolution_px(self) -> int | None:
        """Largest resolution (px) of a space that searches resolutions, or None.

        Proxies then preserve the differences between resolutions.
        """
        return max(self.space.parameters.get("resolution_px", ()), default=None)

    @property
    def name(self) -> str:
        """Name of the study: as given, or from space, data and objective."""
        parts = [self.space.name, self.data.name, *([] if self.objective.kind == "pareto" else [self.objective.kind])]
        return self.study.name or "-".join(parts)

    def identity(self, device: str) -> dict[str, Any]:
        """Settings that must not change within a study, by dotted names.

        These are all settings that affect the result of a trial.
        """
        shared = self.shared_identity(device)
        own = {
            "space": self.space_config,
            "objective": self.objective.identity(),
            "estimator": self.estimator.identity(),
            "head": self.head.given,  # empty in older versions
            "latency": {**shared["latency"], "refine": self.latency.refine},
        }
        return dotted_names(shared | own)
