"""Settings of a scaling study as validated plain data.

Loads neither torch nor Optuna.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from nas.arch.heads.tasks import check_classifier
from nas.arch.limits import MAX_PHI
from nas.arch.scaling.rounding_rules import RoundingOverrides, RoundingRules
from nas.arch.scaling.rules import DIRECTIONS, dwr
from nas.arch.scaling.transform import Compound, coefficients_of
from nas.arch.spec import ArchSpec
from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, unknown_choice
from nas.core.validation import check_number
from nas.data.sources import DataSettings
from nas.estimators.proxy.settings import ProxySettings
from nas.latency.settings import LatencySettings
from nas.methods.scaling.settings import (
    ACCURACY,
    COMPARED,
    SIDES,
    STEPWISE,
    TABLES,
    TARGETS,
    WIDTH_LINES,
    WIDTH_RESOLUTION,
    WIDTHS,
    GridSettings,
    RaceSettings,
    TableSettings,
    compared_of,
)
from nas.study.config import EngineSettings, RecordSettings, SettingsGroups, StudyPlan, dotted_names
from nas.study.constraints import Constraints
from nas.study.objective import Accuracy

BASELINE_FILE: Final = "baseline.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPlan(StudyPlan):
    """Complete settings of one grid, comparison of rules, or table.

    ``baseline``: the network, still with its own classes. ``target``: the measure that grows by 2^phi, except in a
    table. ``compare``: names of rules, or the name of one table. ``coefficients``: of the compound rule in a
    comparison. ``rules``: how channels, repeats and input sides are rounded.
    """

    GROUPS: ClassVar[SettingsGroups] = {
        "grid": ("grid", GridSettings),
        "table": ("table", TableSettings),
        "race": ("race", RaceSettings),
        "data": ("data", DataSettings),
        "proxy": ("proxy", ProxySettings),
        "latency": ("latency", LatencySettings),
        "constraint": ("constraints", Constraints),
        "engine": ("engine", EngineSettings),
        "study": ("study", RecordSettings),
    }

    baseline: ArchSpec
    phi: float
    target: str
    compare: tuple[str, ...]
    coefficients: Compound
    rules: RoundingRules
    grid: GridSettings
    table: TableSettings
    race: RaceSettings
    data: DataSettings
    proxy: ProxySettings
    latency: LatencySettings
    constraints: Constraints
    engine: EngineSettings
    study: RecordSettings
    runs_dir: Path
    command: str = ""
    objective: Accuracy = field(default=Accuracy(), init=False)

    def __post_init__(self) -> None:
        check_number("phi", self.phi, low=0, high=MAX_PHI, open_low=True)
        check_classifier(self.baseline, "baseline", "a grid of scaled networks trains classifiers")
        if self.target not in TARGETS:
            raise unknown_choice("target", self.target, TARGETS)
        if self.is_table:
            self._check_table()
        for name in () if self.is_table else self.compare:
            if name not in COMPARED:
                raise unknown_choice("compare", name, (*COMPARED, *TABLES))
        if len(set(self.compare)) < len(self.compare):
            raise NasError(f"compare [{', '.join(self.compare)}]: list each rule once.")
        if self.latency.refine:
            raise NasError(
                "latency.refine true: a scaling study measures no latency; leave it out, or measure with nas.search."
            )
        if (self.race.last_epochs or 1) > self.proxy.epochs:
            most = f"must be at most proxy.epochs ({self.proxy.epochs}), or null"
            raise NasError(f"race.last_epochs {self.race.last_epochs}: {most}.")

    def _check_table(self) -> None:
        if len(self.compare) > 1:
            raise NasError(
                f"compare [{', '.join(self.compare)}]: a table cannot be combined with others; use compare={TABLES[0]}."
            )
        if self.phi != 1 or self.target != "macs":
            given = f"phi {self.phi:g}" if self.phi != 1 else f"target {self.target}"
            raise NasError(f"{given}: a table has no target growth; leave it out, and set table.widths instead.")

    @classmethod
    def of(cls, config: Mapping[str, Any], *, baseline: ArchSpec, runs_dir: Path, command: str) -> ScalingPlan:
        """Build the plan from a configuration.

        ``config`` is as the command composes it, or as ``settings`` returns it. Raises: NasError.
        """
        return cls(
            baseline=baseline,
            phi=config["phi"],
            target=config["target"],
            compare=compared_of(config["compare"]),
            coefficients=coefficients_of(config["coefficients"]),
            rules=_rounding_overrides(config["rounding"]).rules(baseline),
            runs_dir=runs_dir,
            command=command,
            **cls.read_groups(config),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """All settings but the baseline as plain data, by the keys of the configuration."""
        factors, origin = self.coefficients, self.rules.origin
        family = origin.family if origin and origin.found_by == "request" else None
        return {
            "phi": self.phi,
            "target": self.target,
            "compare": list(self.compare) or None,
            "coefficients": [factors.alpha, factors.beta, factors.gamma],
            "rounding": {"family": family, **self.rules.settings},
            **self.group_settings,
        }

    @property
    def largest_kernel(self) -> int:
        """Largest kernel size in px of the baseline's blocks, and so of every network."""
        return max(max(block.kernels) for stage in self.baseline.stages for block in stage.blocks)

    @property
    def base_resolution_px(self) -> int:
        """Input side of the baseline in px."""
        return self.baseline.resolution_px

    @property
    def image_side_px(self) -> int | None:
        """Side in px at which images are stored, or None for their own.

        Where image files are of any size, it is the side of the largest proxy.
        """
        if self.data.resolution_px or self.data.name != "imagefolder":
            return self.data.resolution_px
        return math.ceil(self.proxy.resolution_px * self.most_resolution)

    @property
    def is_table(self) -> bool:
        """Whether the study is a table of networks of all costs.

        Otherwise it is a grid, or a comparison of rules at equal cost.
        """
        return any(name in TABLES for name in self.compare)

    @property
    def widths(self) -> tuple[float, ...]:
        """Width multipliers of the table."""
        return self.table.widths or WIDTHS[self.compare[0]]

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input sides of the table in px."""
        return self.table.resolution_px or tuple(
            round(self.baseline.resolution_px * share / SIDES[0]) for share in SIDES
        )

    @property
    def name(self) -> str:
        """Name of the study: as given, or from baseline, data and request."""
        growth = [f"phi{self.phi:g}", *(["compare"] if self.compare else []), self.target]
        kinds = list(self.compare) if self.is_table else [kind for kind in growth if kind != "macs"]
        text = "-".join([self.baseline.name, self.data.name, *kinds])
        return self.study.name or re.sub(r"[^A-Za-z0-9._-]", "_", text)

    @property
    def growth(self) -> float:
        """Factor by which the target grows: 2^phi."""
        return float(2**self.phi)

    @property
    def compared(self) -> dict[str, Compound]:
        """Compared rules by name, as coefficients; stepwise expansion has none."""
        known = {**DIRECTIONS, "compound": self.coefficients, "dwr": dwr()}
        return {name: known[name] for name in self.compare if name in known}

    @property
    def most_resolution(self) -> float:
        """Upper bound on any network's growth of the input side, before rounding."""
        if self.compare == (WIDTH_RESOLUTION,):
            return max(self.resolutions) / self.baseline.resolution_px
        if self.is_table:
            return max(side for _, side in self.table.starts)
        rules = {**self.compared, **(DIRECTIONS if STEPWISE in self.compare else {})}
        gammas = [rule.gamma for rule in rules.values()] if self.compare else self.grid.gamma
        return float(max(gammas) ** self.phi)

    def identity(self, device: str) -> dict[str, Any]:
        """Settings that must not change within a study, by dotted names.

        ``race.seeds`` and ``race.min_power`` are not among them: they say when to stop, and may be changed later.
        """
        own: dict[str, Any] = {"baseline": self.baseline.arch_id}
        if self.compare:
            own |= {"compare": list(self.compare)}
        if self.is_table:
            own |= {"table.widths": self.widths}
            lines = self.compare == (WIDTH_LINES,)
            own |= {"table.starts": self.table.starts} if lines else {"table.resolution_px": self.resolutions}
        else:
            own |= {"phi": self.phi, "target": self.target}
        if "compound" in self.compare:
            own |= {"coefficients": str(self.coefficients)}
        race: dict[str, Any] = {"finalists": self.race.finalists, "stop_share": self.race.stop_share}
        if self.race.last_epochs is not None:
            race["last_epochs"] = self.race.last_epochs
        if self.race.criterion != ACCURACY:
            race["criterion"] = self.race.criterion
        groups = {
            "grid": {} if self.compare else asdict(self.grid),
            "rounding": self.rules.identity(min(self.widths) if self.is_table else 1.0),
            "race": race,
            **self.shared_identity(device),
        }
        return own | dotted_names(groups)


def _rounding_overrides(config: object) -> RoundingOverrides:
    """The group ``rounding`` of a configuration.

    Settings that an earlier version kept lack ``round_limit``; it rounded every family by the limit of EfficientNet.
    """
    if isinstance(config, Mapping):
        config = {"round_limit": RoundingRules().round_limit, **config}
    return from_mapping(RoundingOverrides, config, "rounding")
