"""Everything that a grid of compound scalings is told, as checked plain data; loads neither torch nor Optuna."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from nas.arch.checks import check_number
from nas.arch.compound import ALPHAS, BETAS, GAMMAS
from nas.arch.directions import DIRECTIONS, fast
from nas.arch.errors import NasError, shown, unknown
from nas.arch.families import Rules
from nas.arch.scaling import Compound
from nas.arch.spec import ArchSpec
from nas.latency.settings import LatencySettings
from nas.proxy.settings import ProxySettings
from nas.proxy.sources import DataSettings
from nas.study.constraints import Constraints
from nas.study.plan import EngineSettings, RecordSettings

TARGETS: Final = ("macs", "latency")
COMPARED: Final = (*DIRECTIONS, "compound", "dwr")


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSettings:
    """The triples: all of ``alpha`` x ``beta`` x ``gamma`` whose growth is within ``tolerance`` of 2 per unit of phi.

    ``realised_tolerance``: the same of the growth that is left after rounding; triples beyond it are not trained,
    because a costlier network wins for its cost (None: train them all).
    """

    alpha: tuple[float, ...] = ALPHAS
    beta: tuple[float, ...] = BETAS
    gamma: tuple[float, ...] = GAMMAS
    tolerance: float = 0.1
    realised_tolerance: float | None = 0.25

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or not values:
                raise NasError(f"grid.{name} {shown(values)}: must be a list of factors, such as [1.0, 1.1, 1.2].")
            for value in values:
                check_number(f"grid.{name}", value, low=1)
            object.__setattr__(self, name, tuple(sorted({float(value) for value in values})))
        check_number("grid.tolerance", self.tolerance, low=0)
        check_number("grid.realised_tolerance", self.realised_tolerance, low=0, optional=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceSettings:
    """How many trainings a triple gets: one each, then ``seeds`` in all for those that may be the best.

    ``finalists``: the best of the first round, which get a second training whatever the noise; from the third on, only
    those that the noise does not tell apart from the best. ``stop_share``: in the first round a training ends half way
    if its accuracy is below that share of the others' there, from the fifth on; 0 is never.
    """

    seeds: int = 3
    finalists: int = 4
    stop_share: float = 0.25

    def __post_init__(self) -> None:
        check_number("race.seeds", self.seeds, low=1, whole=True)
        check_number("race.finalists", self.finalists, low=2, whole=True)
        check_number("race.stop_share", self.stop_share, low=0, high=1, open_high=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompoundPlan:
    """One grid, or with ``compare`` one comparison of rules, complete: picklable, so that workers get it whole.

    ``baseline``: the network, still with its own classes. ``target``: what is to grow by 2^phi. ``coefficients``: of
    the compound rule in a comparison. ``rules``: how channels, repeats and sides are rounded.
    """

    baseline: ArchSpec
    phi: float
    target: str
    compare: tuple[str, ...]
    coefficients: Compound
    rules: Rules
    grid: GridSettings
    race: RaceSettings
    data: DataSettings
    proxy: ProxySettings
    latency: LatencySettings
    constraints: Constraints
    engine: EngineSettings
    study: RecordSettings
    runs_dir: Path
    command: str = ""
    directions: tuple[str, ...] = field(default=("maximize",), init=False)
    metric_names: tuple[str, ...] = field(default=("accuracy",), init=False)

    def __post_init__(self) -> None:
        check_number("phi", self.phi, low=0, open_low=True)
        if self.target not in TARGETS:
            raise unknown("target", self.target, TARGETS)
        for name in self.compare:
            if name not in COMPARED:
                raise unknown("compare", name, COMPARED)
        if len(set(self.compare)) < len(self.compare):
            raise NasError(f"compare [{', '.join(self.compare)}]: each rule once.")
        if self.latency.refine:
            raise NasError("latency.refine true: a grid measures nothing; leave it out, and measure with nas.search.")

    @property
    def name(self) -> str:
        """The study's name: as given, or from baseline, data and what is asked."""
        kinds = (["compare"] if self.compare else []) + ([] if self.target == "macs" else [self.target])
        text = "-".join([self.baseline.name, self.data.name, f"phi{self.phi:g}", *kinds])
        return self.study.name or re.sub(r"[^A-Za-z0-9._-]", "_", text)

    @property
    def folder(self) -> Path:
        """Where the results of this study stand."""
        return self.runs_dir / self.name

    @property
    def storage_url(self) -> str:
        """The database of trials."""
        return self.study.url(self.runs_dir)

    @property
    def growth(self) -> float:
        """What the target is to grow by: 2^phi."""
        return float(2**self.phi)

    @property
    def compared(self) -> dict[str, Compound]:
        """The rules of a comparison by name, as coefficients."""
        known = {**DIRECTIONS, "compound": self.coefficients, "dwr": fast()}
        return {name: known[name] for name in self.compare}

    def identity(self, device: str) -> dict[str, Any]:
        """What must not change within a study, by dotted names; more ``race.seeds`` may be asked for later."""
        own = {"baseline": self.baseline.arch_id, "phi": self.phi, "target": self.target}
        if self.compare:
            own |= {"compare": list(self.compare), "coefficients": str(self.coefficients)}
        groups = {
            "grid": {} if self.compare else asdict(self.grid),
            "rounding": asdict(self.rules),
            "race": {"finalists": self.race.finalists, "stop_share": self.race.stop_share},
            "data": asdict(self.data),
            "proxy": self.proxy.identity(),
            "constraint": asdict(self.constraints),
            "study": {"seed": self.study.seed},
            "latency": {"backend": self.latency.backend, "device": device},
        }
        return own | {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}


def coefficients_of(value: object) -> Compound:
    """``published`` or ``[alpha, beta, gamma]``. Raises: NasError for anything else."""
    if value == "published":
        return Compound()
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise NasError(f"coefficients {shown(value)}: must be published, or three numbers such as [1.2,1.1,1.15].")
    for number in value:
        check_number("coefficients", number, low=1)
    alpha, beta, gamma = (float(number) for number in value)
    return Compound(alpha=alpha, beta=beta, gamma=gamma)
