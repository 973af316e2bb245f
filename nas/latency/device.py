"""What a latency was measured on: without this line a figure in ms means nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from nas.core.errors import NasError
from nas.latency.settings import GPU_BACKENDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A processor and the way networks run on it.

    ``processor``: model name, of the GPU where the backend runs on one. ``cores``: of the machine; multiprocessors of
    a GPU. ``backend``: one of ``latency.backend``, or what ran the networks on a device elsewhere. ``backend_version``:
    with CUDA's and the driver's on a GPU. ``precision``: of weights and activations.
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
        if not self.backend:
            raise NasError(f"device {self.processor}: backend is empty; give the program that ran the networks.")
        if min(self.cores, self.threads, self.batch) < 1:
            raise NasError(f"device {self}: cores, threads and batch must be at least 1.")

    @property
    def key(self) -> str:
        """A file name that two devices share exactly if all their fields are equal."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
        return f"{self.backend}-{self.precision}-t{self.threads}-b{self.batch}-{digest[:10]}"

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
        cores = f"{'multiprocessor' if self.backend in GPU_BACKENDS else 'core'}{'s' if self.cores > 1 else ''}"
        return (
            f"{self.processor} ({self.cores} {cores}, {self.os}), {self.backend} {self.backend_version}, {threads}, "
            f"batch {self.batch}, {self.precision}"
        )
