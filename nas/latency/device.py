"""Device description: hardware, runtime and run settings of a latency."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from nas.core.errors import NasError, unknown_choice
from nas.latency.settings import GPU_BACKENDS, MEASURED_BACKENDS, check_combination

_DRIVER: Final = Path("/proc/driver/nvidia/version")


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
            raise NasError(f"device {self.processor}: backend is empty; give the runtime of the networks.")
        if min(self.cores, self.threads, self.batch) < 1:
            raise NasError(f"device {self}: cores, threads and batch must be at least 1.")

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
        if set(data) != names:
            mismatched = ", ".join(sorted(names ^ set(data)))
            raise NasError(
                f"device: field {mismatched} is missing or unknown; the fields are {', '.join(sorted(names))}."
            )
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


def describe(backend: str, threads: int = 1, batch: int = 1, precision: str = "float32") -> Device:
    """Description of this machine running networks with ``backend``.

    Raises: NasError if the backend is unknown or not installed, does not run ``precision``, or needs a GPU and there is
    none.
    """
    if backend not in MEASURED_BACKENDS:
        raise unknown_choice("latency.backend", backend, MEASURED_BACKENDS)
    check_combination(backend, precision, threads)
    if backend in GPU_BACKENDS:
        processor, cores, version = _gpu(backend)
    else:
        processor, cores, version = _processor(), os.cpu_count() or 1, backend_version(backend)
    return Device(
        processor=processor,
        cores=cores,
        backend=backend,
        backend_version=version,
        threads=threads,
        batch=batch,
        precision=precision,
        os=f"{platform.system()} {platform.machine()}",
    )


def backend_version(package: str) -> str:
    """Version of an installed package, read without importing it.

    Raises: NasError if the package is not installed.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise NasError(
            f"latency.backend: {package} is not installed; pip install {package}, or latency=macs."
        ) from None


def _gpu(backend: str) -> tuple[str, int, str]:
    """Name, multiprocessor count and software versions of torch's current GPU.

    The versions are those of torch, CUDA, cuDNN and the driver. Raises: NasError if torch sees no GPU.
    """
    version = backend_version("torch")
    import torch

    cudnn: Any = torch.backends.cudnn  # its functions have no types
    if not torch.cuda.is_available():
        raise NasError(
            f"latency.backend {backend!r}: torch {version} sees no GPU here (torch.cuda.is_available() is false); run "
            f"it on a machine with one and a torch built for CUDA, or choose latency=onnxruntime."
        )
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver = driver_version(_DRIVER.read_text(errors="replace") if _DRIVER.is_file() else "")
    versions = f"torch {version}, CUDA {torch.version.cuda}, cuDNN {cudnn.version()}, driver {driver}"
    return properties.name, properties.multi_processor_count, versions


def driver_version(text: str) -> str:
    """NVIDIA driver version (such as 570.86.15) in the text of ``/proc``.

    ``text``: content of ``/proc/driver/nvidia/version``. ``unknown`` if it holds no version.
    """
    version = re.search(r"\d+(?:\.\d+)+", text)
    return version.group() if version else "unknown"


def _processor() -> str:
    """Model name of the processor.

    Python's portable ``platform.processor()`` is often empty on Linux, so ``/proc/cpuinfo`` comes first.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"
