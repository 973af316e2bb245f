"""Device description: hardware, runtime and run settings of a latency."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from nas.core.dataclass_io import from_mapping
from nas.core.errors import NasError, quoted
from nas.core.validation import check_number
from nas.latency.settings import GPU_BACKENDS

MIN_MS: Final = 1e-9
MAX_MS: Final = 1e9  # of a latency: eleven days
MAX_LANE: Final = 1024  # channels of one block of a kernel
MAX_COUNT: Final = 10**9  # of cores, threads or images in a batch
_MAX_TEXT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A processor, and the runtime and settings by which networks run on it.

    ``processor``: model name, of the GPU where the backend runs on one. ``cores``: of the machine; multiprocessors of
    a GPU. ``backend``: one of ``latency.backend``, or the runtime used on another machine. ``backend_version``:
    includes the versions of CUDA, cuDNN and the driver on a GPU. ``precision``: of weights and activations.

    Raises: NasError for an empty backend, or cores, threads or batch below 1.
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
            raise NasError(f"device {quoted(self.processor)}: backend is empty; give the runtime of the networks.")
        if min(self.cores, self.threads, self.batch) < 1:
            raise NasError(f"device {self}: cores, threads and batch must be at least 1.")
        for name in ("cores", "threads", "batch"):
            check_number(name, getattr(self, name), low=1, high=MAX_COUNT, whole=True)
        for name in ("processor", "backend", "backend_version", "precision", "os"):
            if len(getattr(self, name)) > _MAX_TEXT:
                raise NasError(f"{name} {quoted(getattr(self, name))}: must have at most {_MAX_TEXT} characters.")

    @property
    def key(self) -> str:
        """File name stem, equal for two devices exactly if all their fields are."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
        return f"{self.backend}-{self.precision}-t{self.threads}-b{self.batch}-{digest[:10]}"

    def to_dict(self) -> dict[str, Any]:
        """The device as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Device:
        """Device from the plain data of ``to_dict``.

        Raises: NasError for missing or unknown fields.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != names:
            data = data if isinstance(data, Mapping) else {}
            mismatched = ", ".join(sorted(names ^ set(map(str, data))))
            raise NasError(
                f"device: field {mismatched} is missing or unknown; the fields are {', '.join(sorted(names))}."
            )
        return from_mapping(cls, data, "device")

    def __str__(self) -> str:
        if self.backend == "macs":
            return f"no device: {self.backend_version}, a formula"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        cores = f"{'multiprocessor' if self.backend in GPU_BACKENDS else 'core'}{'s' if self.cores > 1 else ''}"
        return (
            f"{self.processor} ({self.cores} {cores}, {self.os}), {self.backend} {self.backend_version}, {threads}, "
            f"batch {self.batch}, {self.precision}"
        )
