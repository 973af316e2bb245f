"""This machine as a ``Device``: its processor or GPU, and runtime versions."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from nas.core.errors import NasError, unknown_choice
from nas.latency.device import Device
from nas.latency.settings import GPU_BACKENDS, MEASURED_BACKENDS, check_combination

_DRIVER: Final = Path("/proc/driver/nvidia/version")
_PACKAGES: Final = {"litert": "ai-edge-litert"}  # of backends whose package has another name


def describe(backend: str, threads: int = 1, batch: int = 1, precision: str = "float32") -> Device:
    """Description of this machine running networks with ``backend``.

    Raises: NasError if the backend is unknown or not installed, does not run ``precision``, or needs a GPU and there is
    none.
    """
    if backend not in MEASURED_BACKENDS:
        raise unknown_choice("latency.backend", backend, MEASURED_BACKENDS)
    check_combination(backend, precision, threads, batch)
    if backend in GPU_BACKENDS:
        processor, cores, version = _gpu(backend)
    else:
        processor, cores, version = _processor(), os.cpu_count() or 1, backend_version(_PACKAGES.get(backend, backend))
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
