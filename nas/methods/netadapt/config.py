"""Settings of an adaptation study as validated plain data.

Loads neither torch nor Optuna.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from nas.arch.heads.tasks import check_classifier
from nas.arch.spec import ArchSpec
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError
from nas.data.sources import DataSettings
from nas.latency.settings import LatencySettings
from nas.methods.netadapt.settings import NetAdaptSettings, SeedTraining, TargetSettings
from nas.study.config import EngineSettings, RecordSettings, SettingsGroups, StudyPlan, dotted_names
from nas.study.constraints import Constraints
from nas.study.objective import Accuracy

SEED_FILE: Final = "seed.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptPlan(StudyPlan):
    """Complete settings of one adaptation.

    ``seed``: the network to begin with, still with its own classes, at the input side of the images. ``weights``: as
    the user named them; None trains the network first.
    """

    GROUPS: ClassVar[SettingsGroups] = {
        "netadapt": ("netadapt", NetAdaptSettings),
        "training": ("proxy", SeedTraining),
        "data": ("data", DataSettings),
        "latency": ("latency", LatencySettings),
        "engine": ("engine", EngineSettings),
        "study": ("study", RecordSettings),
    }

    seed: ArchSpec
    weights: str | None
    target: TargetSettings
    netadapt: NetAdaptSettings
    proxy: SeedTraining
    data: DataSettings
    latency: LatencySettings
    engine: EngineSettings
    study: RecordSettings
    runs_dir: Path
    command: str = ""
    constraints: Constraints = field(default=Constraints(), init=False)
    objective: Accuracy = field(default=Accuracy(), init=False)

    def __post_init__(self) -> None:
        if self.latency.refine:
            raise NasError("latency.refine true: an adaptation measures its result alone; leave it out.")
        check_classifier(self.seed, "arch", "NetAdapt trains and shrinks classifiers")

    @classmethod
    def of(cls, config: Mapping[str, Any], *, seed: ArchSpec, runs_dir: Path, command: str) -> NetAdaptPlan:
        """Build the plan from a configuration.

        ``config`` is as the command composes it, or as ``settings`` returns it. Raises: NasError.
        """
        side = {"resolution_px": seed.resolution_px}
        config = {**config, "training": {**config["training"], **side}}
        return cls(
            seed=seed,
            weights=config["weights"],
            target=from_mapping(TargetSettings, {name: config[name] for name in target_names()}, ""),
            runs_dir=runs_dir,
            command=command,
            **cls.read_groups(config),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Settings but the seed network as plain data, by configuration keys."""
        return {"weights": self.weights, **asdict(self.target), **self.group_settings}

    @property
    def largest_kernel(self) -> int:
        """Largest kernel size in px of the seed network's blocks."""
        return max(max(block.kernels) for stage in self.seed.stages for block in stage.blocks)

    @property
    def base_resolution_px(self) -> int | None:
        """None: networks are trained as they are."""
        return None

    @property
    def image_side_px(self) -> int | None:
        """Side in px at which images are stored: that of the seed network."""
        return self.seed.resolution_px

    @property
    def least_px(self) -> int:
        """Smallest input side of a proposal in px."""
        return self.netadapt.least_px or max(1, self.seed.resolution_px // 2)

    @property
    def name(self) -> str:
        """Name of the study: as given, or from network, data and target."""
        text = f"{self.seed.name}-{self.data.name}-netadapt-{self.target}"
        return self.study.name or re.sub(r"[^A-Za-z0-9._-]", "_", text.replace("=", ""))

    def identity(self, device: str) -> dict[str, Any]:
        """Settings that must not change within a study, by dotted names."""
        shared = self.shared_identity(device)
        groups = {
            "netadapt": self.netadapt.identity(),
            "training": shared.pop("proxy"),
            **{name: values for name, values in shared.items() if name != "constraint"},
        }
        target = {name: value for name, value in asdict(self.target).items() if value is not None}
        return {"seed": self.seed.arch_id, "weights": self.weights, **target, **dotted_names(groups)}


def target_names() -> tuple[str, ...]:
    """Names of the settings of which one is the target."""
    return tuple(asdict(TargetSettings(target=0.5)))
