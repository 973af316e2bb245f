"""Runtimes of kits: file format, benchmark tool, and what to install."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nas.core.errors import NasError, unknown_choice
from nas.latency.kits.tool_outputs import (
    ToolReading,
    read_benchmark_model,
    read_benchncnn,
    read_perf_test,
    read_trtexec,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KitRuntime:
    """A runtime whose own benchmark tool measures the networks of a kit.

    ``format``: of ``nas.exporters``. ``tool``: its file name. ``modules``: Python packages, any of which ``bench.py``
    can use instead. ``install``: what to install where both are missing. ``modes``: pairs of accelerator and precision
    that the tool runs, the default first; ``note`` says why there are no others. ``most_images``: of a batch; None for
    any. ``passes``: how often each network is measured. ``read``: reader of the tool's output.
    """

    name: str
    format: str
    tool: str
    modules: tuple[str, ...]
    install: str
    modes: tuple[tuple[str, str], ...]
    note: str
    most_images: int | None
    passes: int
    read: Callable[[Sequence[str]], ToolReading]

    def mode(self, accelerator: str | None, precision: str | None) -> tuple[str, str]:
        """Accelerator and precision, completed by the defaults.

        Raises: NasError for what the tool does not run.
        """
        for own_accelerator, own_precision in self.modes:
            if accelerator in (None, own_accelerator) and precision in (None, own_precision):
                return own_accelerator, own_precision
        asked = [f"{name}={value}" for name, value in (("accelerator", accelerator), ("precision", precision)) if value]
        runs = " or ".join(f"accelerator={one} precision={other}" for one, other in self.modes)
        raise NasError(f"{' '.join(asked)}: runtime={self.name} runs {runs}: {self.note}.")


_RUNTIMES: Final = (
    KitRuntime(
        name="litert",
        format="litert",
        tool="benchmark_model",
        modules=("ai_edge_litert", "tflite_runtime"),
        install="put benchmark_model of LiteRT beside run.sh (for Android: into /data/local/tmp, from "
        "https://ai.google.dev/edge/litert/models/measurement), or pip install ai-edge-litert numpy.",
        modes=(("cpu", "float32"), ("gpu", "float16")),
        note="LiteRT computes in float16 on a GPU, and its CPU kernels in float32",
        most_images=None,
        passes=2,
        read=read_benchmark_model,
    ),
    KitRuntime(
        name="onnxruntime",
        format="onnx",
        tool="onnxruntime_perf_test",
        modules=("onnxruntime",),
        install="put onnxruntime_perf_test (a build of ONNX Runtime makes it) beside run.sh, or pip install "
        "onnxruntime numpy.",
        modes=(("cpu", "float32"),),
        note="the files are in float32, for the CPU",
        most_images=None,
        passes=2,
        read=read_perf_test,
    ),
    KitRuntime(
        name="ncnn",
        format="ncnn",
        tool="benchncnn",
        modules=("ncnn",),
        install="put benchncnn of 2023 or later (a build of ncnn makes it) beside run.sh, or pip install ncnn numpy.",
        modes=(("cpu", "float16"),),
        note="benchncnn stores weights and maps in float16 and has no option for float32",
        most_images=1,
        passes=2,
        read=read_benchncnn,
    ),
    KitRuntime(
        name="tensorrt",
        format="onnx",
        tool="trtexec",
        modules=(),
        install="trtexec comes with TensorRT (JetPack has it as /usr/src/tensorrt/bin/trtexec); put it beside run.sh.",
        modes=(("gpu", "float32"), ("gpu", "float16")),
        note="TensorRT runs on NVIDIA GPUs",
        most_images=None,
        passes=1,  # an engine takes up to a minute to build, and a GPU measures its own time
        read=read_trtexec,
    ),
)
KIT_RUNTIMES: Final = {runtime.name: runtime for runtime in _RUNTIMES}


def kit_runtime(name: object) -> KitRuntime:
    """Runtime of that name. Raises: NasError that lists the known ones."""
    if name not in KIT_RUNTIMES:
        raise unknown_choice("runtime", name, tuple(KIT_RUNTIMES))
    return KIT_RUNTIMES[str(name)]
