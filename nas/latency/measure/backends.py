"""Runners: functions that run a network once on one batch, for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, unknown_choice
from nas.exporters.check import noise_images
from nas.exporters.reference import torch_runner
from nas.exporters.rewriting.forms import Forms
from nas.latency.settings import EXPORTED_BACKENDS, MEASURED_BACKENDS, check_combination

Runner = Callable[[], Any]
ImageBatch = npt.NDArray[np.float32]

# The first runs on a GPU load kernels and let libraries select algorithms; PyTorch's own graph example uses three.
_GPU_WARM_UPS: Final = 5


@contextmanager
def runtime_errors_as(text: str) -> Iterator[None]:
    """Context in which what a runtime raises is a NasError in one line.

    ``text``: what was to run, and did not.
    """
    try:
        yield
    except (NasError, MemoryError):
        raise
    except Exception as error:  # a runtime may raise anything
        raise NasError(f"latency: {text} ({' '.join(str(error).split())}).") from None


def runner(
    spec: ArchSpec,
    *,
    backend: str,
    precision: str = "float32",
    threads: int = 1,
    batch: int = 1,
    seed: int = 0,
    forms: Forms | None = None,
) -> Runner:
    """Function that runs ``spec`` once, on one batch of ``random_images``.

    ``forms``: of its blocks, in runtimes of exported files; None for plain ones. Its return value is the backend's own
    type. A GPU may still be running when it returns.

    Raises: NasError if the backend is unknown or not installed, or does not run ``precision``.
    """
    check_combination(backend, precision, threads, batch)
    images = random_images(spec, batch, seed)
    if backend == "onnxruntime":
        return _onnxruntime(spec, images, precision, threads, seed, forms)
    if backend in EXPORTED_BACKENDS:
        return _exported(spec, images, backend, precision, threads, seed, forms)
    if backend == "torch":
        return _torch(spec, images, threads)
    if backend == "cuda":
        return _cuda(spec, images, precision)
    if backend == "cuda_graph":
        return _captured(_cuda(spec, images, precision))
    raise unknown_choice("latency.backend", backend, MEASURED_BACKENDS)


def random_images(spec: ArchSpec, batch: int, seed: int) -> ImageBatch:
    """Batch of standard normal noise, float32 of shape (N, C, H, W).

    N is ``batch``; C, H and W are the input channels and the resolution of ``spec``.
    """
    return noise_images((batch, spec.in_channels, spec.resolution_px, spec.resolution_px), seed)


def _onnxruntime(
    spec: ArchSpec, images: ImageBatch, precision: str, threads: int, seed: int, forms: Forms | None
) -> Runner:
    """Runner in ONNX Runtime, on ``images`` of shape (N, C, H, W), float32.

    It returns a list of one array, the logits of shape (N, classes).
    """
    try:
        from nas.exporters.graph import inference_graph
        from nas.exporters.onnx.graph import INPUT, onnx_model
        from nas.exporters.onnx.session import onnx_session
        from nas.exporters.onnx.static_int8 import quantize_int8

        model = onnx_model(inference_graph(spec, batch=len(images), seed=seed, forms=forms))
        if precision == "int8":
            model = quantize_int8(model, [images])
        session = onnx_session(model.SerializeToString(), threads)
    except ImportError as error:
        raise _missing("onnxruntime", error, "onnx onnxruntime") from None
    feed = {INPUT: images}
    return lambda: session.run(None, feed)


def _exported(
    spec: ArchSpec, images: ImageBatch, backend: str, precision: str, threads: int, seed: int, forms: Forms | None
) -> Runner:
    """Runner in the runtime of the format ``backend``, as its exported file is run.

    ``images``: shape (N, C, H, W), float32; it returns logits of shape (N, classes).
    """
    from nas.exporters.formats import format_of
    from nas.exporters.graph import inference_graph

    file_format = format_of(backend, "latency.backend")
    session = file_format.module()
    if file_format.layout == "NHWC":  # images are in memory as the file takes them, and as they come from a camera
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    graph = inference_graph(spec, batch=len(images), seed=seed, forms=forms)
    if precision == "int8":
        run = import_module(f"nas.exporters.{backend}.int8").open_int8(graph, [images], threads)
    else:
        run = session.open_graph(graph, threads)
    return lambda: run(images)


def _torch(spec: ArchSpec, images: ImageBatch, threads: int) -> Runner:
    """Runner in eager PyTorch on the CPU: float32, default memory layout.

    ``images``: shape (N, C, H, W), float32; it returns logits of shape (N, classes). It runs in inference mode and
    restores the caller's thread count afterwards.
    """
    try:
        from nas.model.build import build
    except ImportError as error:
        raise _missing("torch", error, "torch timm") from None
    return partial(torch_runner(build(spec).eval(), threads), images)


def eager_runner(spec: ArchSpec, images: ImageBatch, device: str, precision: str) -> Runner:
    """Runner in eager PyTorch on ``device``, channels last, in inference mode.

    ``images``: shape (N, C, H, W), float32; they and the weights are converted to ``precision``. It returns logits of
    shape (N, classes). Channels last is the layout of tensor cores. TF32 and the selection of algorithms are as torch
    is set.
    """
    try:
        import torch

        from nas.model.build import build
    except ImportError as error:
        raise _missing("torch", error, "torch timm") from None
    target = {"device": device, "dtype": getattr(torch, precision), "memory_format": torch.channels_last}
    model, batch = build(spec).eval().to(**target), torch.from_numpy(images).to(**target)

    def run() -> object:
        with torch.inference_mode():
            return model(batch)

    return run


def _cuda(spec: ArchSpec, images: ImageBatch, precision: str) -> Runner:
    """Runner in eager PyTorch on the current GPU, warmed up."""
    run = eager_runner(spec, images, "cuda", precision)
    import torch

    for _ in range(_GPU_WARM_UPS):
        run()
    torch.cuda.synchronize()
    return run


def _captured(source: Runner) -> Runner:
    """Runner that replays all kernels of ``source`` as one CUDA graph.

    A replay costs one launch, where eager execution pays for every kernel. Captured as PyTorch documents it ("CUDA
    semantics"): warmed up on a side stream, then recorded on another. Capture starts outside of inference mode, which
    would leave in torch's random state a tensor that breaks every later capture of the process, inside or outside of
    that mode (pytorch issue 166792).
    """
    import torch

    cuda: Any = torch.cuda  # Stream has no types
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        for _ in range(_GPU_WARM_UPS):
            source()
    cuda.current_stream().wait_stream(side)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        output = source()
    run = partial(_replay, graph, output, source)
    run()
    cuda.synchronize()
    return run


def _replay(graph: Any, output: Any, source: Runner) -> Any:
    """Replay ``graph`` and return ``output``, recomputed in place.

    ``source`` is a parameter only to keep it alive: a graph reads weights and images from their original memory.
    """
    graph.replay()
    return output


def _missing(backend: str, error: ImportError, packages: str) -> NasError:
    return NasError(f"latency.backend {backend!r}: cannot be imported: {error.msg}; pip install {packages}.")
