"""Latency settings: backend, precision, calibration budget.

They are validated in milliseconds, without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import MAX_SEED, MAX_THREADS, check_number

# Runtimes of exported files other than ONNX Runtime; each is a format of ``nas.exporters``.
EXPORTED_BACKENDS: Final = ("litert", "openvino", "ncnn")
MEASURED_BACKENDS: Final = ("onnxruntime", *EXPORTED_BACKENDS, "torch", "cuda", "cuda_graph")
# Backends that run exported files, whose blocks may be rewritten.
REWRITTEN_BACKENDS: Final = ("onnxruntime", *EXPORTED_BACKENDS)
WHEN_BUSY: Final = ("wait", "warn")
SPEEDS: Final = ("typical", "now")
REWRITES: Final = ("auto", "none")
BACKENDS: Final = (*MEASURED_BACKENDS, "macs", "table")
GPU_BACKENDS: Final = ("cuda", "cuda_graph")
_ONE_IMAGE: Final = ("ncnn",)  # backends without batches
# Precisions of each backend, the default first. Backends that are not listed run float32 only.
PRECISIONS: Final = {
    "onnxruntime": ("float32", "int8"),
    "litert": ("float32", "int8"),
    "openvino": ("float32", "int8"),
    "cuda": ("float32", "float16", "bfloat16"),
    "cuda_graph": ("float32", "float16", "bfloat16"),
}
# On one server core, the minimum number of networks for a calibration, with the held-out ones, takes 9 to 11 s.
LEAST_BUDGET_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySettings:
    """Settings of the latency that a search optimises.

    ``backend``: runtime of the network; ``macs`` runs nothing and costs ``ms_per_gmac`` ms per 10^9 multiply-adds.
    ``precision``: of weights and activations, see ``PRECISIONS``. ``threads`` and ``batch``: the protocol of the
    MobileNetV3 paper is one of each; kernels of a GPU are launched by one thread. ``budget_s``: CPU seconds that a
    first calibration may take, at least 15 (a slower machine needs more; the error then names the amount). ``seed``:
    of the random networks that are measured. ``recalibrate``: measure again even if a saved calibration exists.
    ``calibration``: file of a calibration to use instead. ``allow_other_device``: accept a calibration of another
    device. ``refine``: measure each candidate that meets the limits before it is trained, and refine the predictor
    with the result. ``path``: CSV file of the block table, for backend ``table`` only. ``when_busy``: a calibration
    beside other programs either says so (``warn``), or waits for a quiet machine for at most ``wait_s`` seconds.
    ``speed``: latencies are predicted for the machine's typical speed during the calibration, or for the one that it
    has ``now``, which takes one to three seconds to measure. ``rewrite``: ``auto`` prices every block in the form that
    is fastest in the backend, as it is exported, where the calibration knows these forms (of versions that do, and of
    runtimes of exported files); ``none`` prices plain blocks.

    Raises: NasError for values out of range.
    """

    backend: str = "onnxruntime"
    precision: str = "float32"
    threads: int = 1
    batch: int = 1
    budget_s: float = 60.0
    seed: int = 0
    recalibrate: bool = False
    calibration: str | None = None
    allow_other_device: bool = False
    ms_per_gmac: float = 30.0
    refine: bool = False
    path: str | None = None
    when_busy: str = "warn"
    wait_s: float = 600.0
    speed: str = "typical"
    rewrite: str = "auto"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise unknown_choice("latency.backend", self.backend, BACKENDS)
        check_number("latency.threads", self.threads, low=1, high=MAX_THREADS, whole=True)
        check_number("latency.batch", self.batch, low=1, high=1_000_000, whole=True)
        check_combination(self.backend, self.precision, self.threads, self.batch)
        check_number("latency.seed", self.seed, low=0, high=MAX_SEED, whole=True)
        check_number("latency.budget_s", self.budget_s, low=LEAST_BUDGET_S, high=1e7)
        if self.when_busy not in WHEN_BUSY:
            raise unknown_choice("latency.when_busy", self.when_busy, WHEN_BUSY)
        check_number("latency.wait_s", self.wait_s, low=0, high=1e7)
        if self.speed not in SPEEDS:
            raise unknown_choice("latency.speed", self.speed, SPEEDS)
        if self.rewrite not in REWRITES:
            raise unknown_choice("latency.rewrite", self.rewrite, REWRITES)
        check_number("latency.ms_per_gmac", self.ms_per_gmac, low=0, high=1e9, open_low=True)
        if (self.backend == "table") != (self.path is not None):
            raise NasError(
                f"latency.path {quoted(self.path)}: latency=table requires the path of a CSV table; other backends "
                "do not accept one."
            )
        for name, value, is_measuring in (
            ("refine", "true", self.refine),
            ("speed", "now", self.speed == "now"),
        ):
            if is_measuring and self.backend not in MEASURED_BACKENDS:
                raise NasError(
                    f"latency.{name} {value}: with latency.backend={self.backend} there is nothing to measure; leave "
                    f"it out, or choose from latency={', latency='.join(MEASURED_BACKENDS)}."
                )

    def identity(self) -> dict[str, str]:
        """What changes predictions besides backend and device; nothing by default.

        Studies of older versions do not have it.
        """
        values = {"speed": (self.speed, "typical"), "rewrite": (self.rewrite, "auto")}
        return {name: value for name, (value, usual) in values.items() if value != usual}


def check_combination(backend: str, precision: str, threads: int, batch: int) -> None:
    """Validate precision, threads and batch against what ``backend`` supports.

    Raises: NasError for a precision, a thread count or a batch that the backend does not run.
    """
    supported = PRECISIONS.get(backend, ("float32",))
    if precision not in supported:
        others = [name for name, precisions in PRECISIONS.items() if precision in precisions]
        remedy = f" {precision} is for {', '.join(others)}." if others else ""
        raise NasError(f"latency.precision {precision!r}: {backend} runs {', '.join(supported)}.{remedy}")
    if backend in GPU_BACKENDS and threads != 1:
        raise NasError(f"latency.threads {threads}: {backend} launches its kernels from one thread; set it to 1.")
    if backend in _ONE_IMAGE and batch != 1:
        raise NasError(f"latency.batch {batch}: {backend} runs one image at a time; set it to 1.")
