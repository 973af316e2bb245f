"""What a latency was measured on: without this line a figure in ms means nothing."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from nas.arch.errors import NasError, unknown
from nas.latency.settings import BACKENDS, MEASURED_BACKENDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A processor and the way networks run on it.

    ``processor``: model name. ``cores``: of the machine. ``backend``: ``onnxruntime``, ``torch`` or
    ``macs`` (a formula). ``precision``: of weights and activations.
    """

    processor: str
    cores: int
    backend: str
    backend_version: str
    threads: int = 1
    batch: int = 1
    precision: str = "float32"
    os: str = ""

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise unknown("device backend", self.backend, BACKENDS)
        if min(self.cores, self.threads, self.batch) < 1:
            raise NasError(f"device {self}: cores, threads and batch must be at least 1.")

    @property
    def key(self) -> str:
        """A file name that two devices share exactly if all their fields are equal."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
        return f"{self.backend}-t{self.threads}-b{self.batch}-{digest[:10]}"

    def to_dict(self) -> dict[str, Any]:
        """The device as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Device:
        """The device that ``to_dict`` wrote. Raises: NasError for missing or unknown fields."""
        names = {field.name for field in fields(cls)}
        if set(data) != names:
            odd = ", ".join(sorted(names ^ set(data)))
            raise NasError(f"device: field {odd} is missing or unknown; the fields are {', '.join(sorted(names))}.")
        return cls(**data)

    def __str__(self) -> str:
        if self.backend == "macs":
            return f"no device: {self.backend_version}, a formula"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return (
            f"{self.processor} ({self.cores} cores, {self.os}), {self.backend} {self.backend_version}, {threads}, "
            f"batch {self.batch}, {self.precision}"
        )


def describe(backend: str, threads: int = 1, batch: int = 1) -> Device:
    """This machine running networks by ``backend``. Raises: NasError if the backend is not installed."""
    return Device(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        backend=backend,
        backend_version=backend_version(backend),
        threads=threads,
        batch=batch,
        os=f"{platform.system()} {platform.machine()}",
    )


def backend_version(backend: str) -> str:
    """Version of the installed backend, found without importing it. Raises: NasError if it is missing."""
    if backend not in MEASURED_BACKENDS:
        raise unknown("latency.backend", backend, MEASURED_BACKENDS)
    try:
        return metadata.version(backend)
    except metadata.PackageNotFoundError:
        raise NasError(
            f"latency.backend: {backend} is not installed; pip install {backend}, or latency=macs."
        ) from None


def _processor() -> str:
    """Model name of the processor; Python has a portable call, but on Linux it often answers with nothing."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"
