"""Formats of exported networks: what each needs, writes, and is run by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from nas.core.errors import NasError, unknown_choice
from nas.exporters.graph import InferenceGraph

ImageBatch = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]
Outputs = Logits | tuple[Logits, ...]
# Runs a network on a batch of images, float32 (N, C, H, W) with the N of its graph: logits (N, classes), float32. Of a
# network with maps as outputs these are (N, C, H, W), and of one with several outputs a tuple in their order. A file
# with processing takes pixels, uint8 (N, H, W, C).
Run = Callable[[Any], Outputs]


class FormatModule(Protocol):
    """Functions of the module ``session`` in the folder of a format."""

    def write_model(self, graph: InferenceGraph, path: Path) -> tuple[Path, ...]:
        """Write ``graph`` to ``path``, and to files beside it; returns all of them.

        Files are written atomically. Raises: NasError for an operation that the format lacks.
        """

    def open_model(self, path: Path, threads: int = 1) -> Run:
        """Open the file that ``write_model`` wrote first, for runs on the CPU.

        Raises: NasError if the runtime cannot read it.
        """

    def open_graph(self, graph: InferenceGraph, threads: int = 1) -> Run:
        """Open ``graph`` as ``open_model`` opens its file, without a file that stays."""


class Int8Module(Protocol):
    """Functions of the module ``int8`` in the folder of a format."""

    def write_int8(
        self, graph: InferenceGraph, path: Path, batches: Iterable[ImageBatch], keep_float: Set[str] = frozenset()
    ) -> tuple[Path, ...]:
        """Write ``graph`` to ``path`` in int8; returns all files.

        ``batches``: of the calibration, normalised images, float32 (N, C, H, W) with the N of the graph.
        ``keep_float``: paths of operations that stay float32. ``open_model`` opens the first file.

        Raises: NasError for an operation that the format lacks.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format of networks.

    ``suffix``: of its first file. ``packages``: modules that are imported to write and run it; ``extra``: the extra of
    this project that installs them, "" where the base installation has them. ``tolerance``: largest accepted
    difference between its logits and those of torch, relative to the largest logit. ``backend``: of latencies that are
    measured in its runtime, "" for none. ``layout``: of the file's input; a ``Run`` takes NCHW whatever it is.
    ``stem``: name of the file without suffix, "" for the network's. ``is_folded``: norms are folded into convolutions;
    otherwise the state dict itself is written. ``has_processing``: a file can hold the processing of its graph.
    """

    name: str
    suffix: str
    packages: tuple[str, ...]
    extra: str
    tolerance: float
    backend: str = ""
    layout: str = "NCHW"
    stem: str = ""
    is_folded: bool = True
    has_processing: bool = False

    def check_installed(self) -> None:
        """Look for the packages, without importing them.

        Raises: NasError that names a missing one.
        """
        missing = [package for package in self.packages if not is_installed(package)]
        if missing:
            install = f"pip install 'nas[{self.extra}]'" if self.extra else f"pip install {' '.join(missing)}"
            raise NasError(f"format {self.name}: the package {missing[0]} is not installed; {install}.")

    def module(self) -> FormatModule:
        """Functions of the format. Raises: NasError as ``check_installed``."""
        self.check_installed()
        module: FormatModule = import_module(f"nas.exporters.{self.name}.session")
        return module

    def int8_module(self) -> Int8Module:
        """Functions that write int8.

        Raises: NasError if the format has none, and as ``module``.
        """
        self.module()
        name = f"nas.exporters.{self.name}.int8"
        if not is_installed(name):
            raise NasError(f"format {self.name}: has no int8; choose precision float32, or another format.")
        module: Int8Module = import_module(name)
        return module


def outputs_of(found: Outputs) -> tuple[Logits, ...]:
    """Return what a ``Run`` returns as a tuple, of one array for one output."""
    return found if isinstance(found, tuple) else (found,)


def as_outputs(arrays: Iterable[Logits]) -> Outputs:
    """Return arrays as a ``Run`` does: one alone, several as a tuple."""
    found = tuple(arrays)
    return found[0] if len(found) == 1 else found


def is_installed(package: str) -> bool:
    """Whether ``package`` can be imported; does not import it."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


_FORMATS: Final = (
    Format(
        name="onnx",
        suffix=".onnx",
        packages=("onnx", "onnxruntime"),
        extra="",
        tolerance=1e-4,
        backend="onnxruntime",
        has_processing=True,
    ),
    Format(
        name="openvino",
        suffix=".xml",
        packages=("openvino",),
        extra="openvino",
        tolerance=1e-4,
        backend="openvino",
        has_processing=True,
    ),
    Format(name="ncnn", suffix=".ncnn.param", packages=("ncnn",), extra="ncnn", tolerance=1e-4, backend="ncnn"),
    Format(
        name="litert",
        suffix=".tflite",
        packages=("ai_edge_litert",),
        extra="litert",
        tolerance=1e-4,
        backend="litert",
        layout="NHWC",
    ),
    Format(name="executorch", suffix=".pte", packages=("executorch",), extra="executorch", tolerance=1e-4),
    Format(name="torch_export", suffix=".pt2", packages=("torch",), extra="", tolerance=1e-4),
    Format(
        name="timm",
        suffix=".safetensors",
        packages=("torch", "timm"),
        extra="",
        tolerance=1e-5,
        stem="model",
        is_folded=False,
    ),
)
FORMATS: Final = {entry.name: entry for entry in _FORMATS}


def format_of(name: str, setting: str = "format") -> Format:
    """Format of that name.

    ``setting``: where the name stands, for errors. Raises: NasError that lists the known ones.
    """
    if name not in FORMATS:
        raise unknown_choice(setting, name, tuple(FORMATS))
    return FORMATS[name]
