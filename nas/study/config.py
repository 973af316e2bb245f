"""Settings of a study by group, as checked plain data.

Loads neither torch nor Optuna.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import MAX_SEED, check_number
from nas.data.dense.settings import DENSE_TASKS, DenseDataSettings
from nas.data.sources import DataSettings
from nas.estimators.proxy.settings import ProxySettings
from nas.latency.settings import LatencySettings
from nas.study.constraints import Constraints
from nas.study.objective import Objective
from nas.study.storage.urls import checked_url

ENGINE_NAMES: Final = ("local", "ray")
MAX_RETRIES: Final = 2
_ADDRESS: Final = re.compile(r"auto|[^:/\s]+:\d+")
_RESERVED: Final = {  # folders and files of runs_dir that are no study's
    "latency": "the folder of calibrations",
    "artifacts": "the folder of the dashboard's files",
    "families": "the folder of scaled families",
    "benchmarks": "the folder of benchmarks",
    "optuna.db": "the database of trials",
}
_MAX_NAME: Final = 200  # characters: names of files and folders have at most 255 bytes
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_run_name(field: str, name: str) -> None:
    """Refuse a ``name`` that cannot be that of a folder in ``runs_dir``.

    ``field``: the setting's name, for errors. Raises: NasError.
    """
    if not _NAME.fullmatch(name):
        raise NasError(f"{field} {quoted(name)}: may hold letters, digits, '.', '_' and '-' (it names a folder).")
    if len(name) > _MAX_NAME:
        raise NasError(f"{field} {quoted(name)}: must have at most {_MAX_NAME} characters.")
    if name in _RESERVED:
        raise NasError(f"{field} {name!r}: is taken by {_RESERVED[name]}; choose another.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """Name, seed and storage of a study.

    ``name``, the ``seed`` of its random draws, and the ``storage`` URL (None: a file below ``runs_dir``).

    ``patience_s``: how long a storage that is locked, full or gone is waited for before the study stops.
    """

    name: str | None = None
    seed: int = 0
    storage: str | None = None
    patience_s: float = 600.0

    def __post_init__(self) -> None:
        if self.name is not None:
            check_run_name("study.name", self.name)
        check_number("study.seed", self.seed, low=0, high=MAX_SEED, whole=True)
        if self.storage is not None:
            checked_url(self.storage)
        check_number("study.patience_s", self.patience_s, low=0)

    def url(self, runs_dir: Path) -> str:
        """The database of trials."""
        return self.storage or f"sqlite:///{runs_dir / 'optuna.db'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Where trials run, and how many at a time.

    ``workers`` at a time (None: one per core, with Ray as many as the cluster has room for).

    ``local``: in as many processes on this machine (1: in this process), each of ``proxy.threads``. ``trial_timeout_s``
    and ``trial_memory_mb``: a training that takes longer, or whose process holds more resident memory (MB of 10^6
    bytes, libraries and images included), is ended and fails; None is no limit.

    ``ray``: on the cluster at ``address`` (auto: the one this machine is part of; None: this machine alone), with
    ``cpus_per_trial`` and ``gpus_per_trial`` reserved for each.

    ``max_retries``: how often a trial is tried again whose worker was killed at the same epoch, before it fails.
    """

    name: str = "local"
    workers: int | None = 1
    max_retries: int = MAX_RETRIES
    trial_timeout_s: float | None = None
    trial_memory_mb: float | None = None
    address: str | None = None
    cpus_per_trial: float = 1
    gpus_per_trial: float = 0

    def __post_init__(self) -> None:
        if self.name not in ENGINE_NAMES:
            raise unknown_choice("engine.name", self.name, ENGINE_NAMES)
        check_number("engine.workers", self.workers, low=1, high=10_000, whole=True, optional=True)
        check_number("engine.max_retries", self.max_retries, low=0, high=1000, whole=True)
        check_number("engine.trial_timeout_s", self.trial_timeout_s, low=0, open_low=True, optional=True)
        check_number("engine.trial_memory_mb", self.trial_memory_mb, low=0, open_low=True, optional=True)
        for field, amount in (("cpus_per_trial", self.cpus_per_trial), ("gpus_per_trial", self.gpus_per_trial)):
            # Ray shares one CPU or GPU between trials, but gives no trial one and a half.
            check_number(f"engine.{field}", amount, low=0, open_low=field == "cpus_per_trial", whole=amount > 1)
        if self.address is not None and not _ADDRESS.fullmatch(str(self.address)):
            raise NasError(
                f"engine.address {self.address!r}: must be null, auto or HOST:PORT; ray:// is not for searches: run "
                "the command on a machine of the cluster."
            )
        if self.name == "ray" and self.limits_trials:
            raise NasError("engine.trial_timeout_s, engine.trial_memory_mb: are for engine=local; leave them out.")

    @property
    def processes(self) -> int:
        """Workers on this machine."""
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def limits_trials(self) -> bool:
        """Whether a training may have to be ended from outside."""
        return self.trial_timeout_s is not None or self.trial_memory_mb is not None

    def __str__(self) -> str:
        return f"{self.name}, {self.workers or 'as many as there is room for'} at a time"


# Groups of a configuration: the field of the plan that each becomes, and the class that checks it.
SettingsGroups = Mapping[str, tuple[str, type[Any]]]


def dotted_names(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings by group as one mapping by dotted names, such as ``data.seed``."""
    return {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}


class StudyPlan:
    """A study to run, as checked plain data: what every kind of study has.

    Picklable, so that workers get it whole.

    ``command``: what the user typed, to be repeated for going on. ``GROUPS``: groups of the configuration, with the
    field of the plan that each becomes and the class that checks it.
    """

    __slots__ = ()
    GROUPS: ClassVar[SettingsGroups]
    objective: Objective
    data: DataSettings | DenseDataSettings
    proxy: ProxySettings
    latency: LatencySettings
    constraints: Constraints
    engine: EngineSettings
    study: RecordSettings
    runs_dir: Path
    command: str

    @classmethod
    def read_groups(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that the groups of ``config`` become. Raises: NasError."""
        groups = cls.groups_of(config)
        data = config.get("data")
        if groups["data"][1] is DataSettings and isinstance(data, Mapping) and data.get("name") in DENSE_TASKS:
            raise NasError(
                f"data.name {data['name']!r}: this command trains classifiers only, which need one class per image; "
                f"take data=imagefolder or another image data set. nas.train and nas.search take data={data['name']}."
            )
        return {field: from_mapping(kind, config.get(name), name) for name, (field, kind) in groups.items()}

    @classmethod
    def groups_of(cls, config: Mapping[str, Any]) -> SettingsGroups:
        """The groups of ``config`` with their classes.

        ``GROUPS`` unless they depend on it.
        """
        return cls.GROUPS

    @property
    def group_settings(self) -> dict[str, Any]:
        """The groups as plain data, by name; what ``read_groups`` reads."""
        return {name: asdict(getattr(self, field)) for name, (field, _) in self.GROUPS.items()}

    def shared_identity(self, device: str) -> dict[str, Mapping[str, Any]]:
        """The part of ``identity`` that studies of all methods have, by group."""
        data = self.data.identity()
        if isinstance(self.data, DataSettings) and self.data.train == "." and self.data.val is None:
            del data["train"]  # what version 0.1 did with folders that are refused without it now
        return {
            "data": data,
            "proxy": self.proxy.identity(),
            "constraint": asdict(self.constraints),
            "study": {"seed": self.study.seed},
            "latency": {"backend": self.latency.backend, "device": device, **self.latency.identity()},
        }

    @property
    def settings(self) -> dict[str, Any]:
        """All of it as plain data, by the groups of its configuration."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The study's name."""
        raise NotImplementedError

    @property
    def task(self) -> str:
        """What the networks are for: classification unless a plan says otherwise."""
        return "classification"

    @property
    def largest_kernel(self) -> int:
        """Of all networks of the study, to which proxies are fitted."""
        raise NotImplementedError

    @property
    def base_resolution_px(self) -> int | None:
        """Resolution in px that proxy resolutions are proportional to.

        None where all networks have the same resolution.
        """
        raise NotImplementedError

    @property
    def image_side_px(self) -> int | None:
        """The side that images are kept at; None leaves them as they are."""
        raise NotImplementedError

    def identity(self, device: str) -> dict[str, Any]:
        """Settings that must not change within a study, by dotted names.

        These are the settings that trials would differ by.
        """
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        """The folder of the results of this study."""
        return self.runs_dir / self.name

    @property
    def storage_url(self) -> str:
        """The database of trials."""
        return self.study.url(self.runs_dir)
