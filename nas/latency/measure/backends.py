"""Make a spec runnable: for every backend, a function that runs the network once on one batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, unknown_choice
from nas.latency.settings import MEASURED_BACKENDS, check_combination

Runner = Callable[[], Any]
ImageBatch = npt.NDArray[np.float32]

# First runs on a GPU load kernels and let libraries choose among them; PyTorch's own example of a graph takes three.
_GPU_WARM_UPS: Final = 5


def runner(
    spec: ArchSpec, *, backend: str, precision: str = "float32", threads: int = 1, batch: int = 1, seed: int = 0
) -> Runner:
    """A function that runs ``spec`` once, on one batch of ``noise``.

    What it returns is the backend's own. A GPU may still be at work when it returns.

    Raises: NasError if the backend is missing or does not run ``precision``.
    """
    check_combination(backend, precision, threads)
    images = random_images(spec, batch, seed)
    if backend == "onnxruntime":
        return _onnxruntime(spec, images, precision, threads, seed)
    if backend == "torch":
        return _torch(spec, images, threads)
    if backend == "cuda":
        return _cuda(spec, images, precision)
    if backend == "cuda_graph":
        return _captured(_cuda(spec, images, precision))
    raise unknown_choice("latency.backend", backend, MEASURED_BACKENDS)


def random_images(spec: ArchSpec, batch: int, seed: int) -> ImageBatch:
    """A seeded batch of normal noise: zeros can be unduly fast or slow."""
    shape = (batch, spec.in_channels, spec.resolution_px, spec.resolution_px)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def onnx_session(model: bytes, threads: int, profile_prefix: str | None = None) -> Any:
    """A session of ONNX Runtime on the CPU; with one thread it has no pool and works on the calling thread.

    ``profile_prefix``: path that the name of a profile begins with, if its runs are to be profiled.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if profile_prefix is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _onnxruntime(spec: ArchSpec, images: ImageBatch, precision: str, threads: int, seed: int) -> Runner:
    """The spec's graph in a session."""
    try:
        from nas.export.onnx.graph import INPUT, to_onnx
        from nas.export.onnx.static_int8 import quantize_int8

        model = to_onnx(spec, batch=len(images), seed=seed)
        if precision == "int8":
            model = quantize_int8(model, [images])
        made = onnx_session(model.SerializeToString(), threads)
    except ImportError as error:
        raise _missing("onnxruntime", error, "onnx onnxruntime") from None
    feed = {INPUT: images}
    return lambda: made.run(None, feed)


def _torch(spec: ArchSpec, images: ImageBatch, threads: int) -> Runner:
    """Eager float32 in the default memory layout, in inference mode; torch's thread count is the caller's after it."""
    try:
        import torch

        from nas.model.build import build
    except ImportError as error:
        raise _missing("torch", error, "torch timm") from None
    model, batch = build(spec).eval(), torch.from_numpy(images)

    def run() -> object:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return model(batch)
        finally:
            torch.set_num_threads(before)

    return run


def eager_runner(spec: ArchSpec, images: ImageBatch, device: str, precision: str) -> Runner:
    """``spec`` on torch's ``device`` in inference mode, weights and images in ``precision`` and channels last.

    That is the layout of tensor cores. TF32 and the choice of algorithms are as torch is set.
    """
    try:
        import torch

        from nas.model.build import build
    except ImportError as error:
        raise _missing("torch", error, "torch timm") from None
    placed = {"device": device, "dtype": getattr(torch, precision), "memory_format": torch.channels_last}
    model, batch = build(spec).eval().to(**placed), torch.from_numpy(images).to(**placed)

    def run() -> object:
        with torch.inference_mode():
            return model(batch)

    return run


def _cuda(spec: ArchSpec, images: ImageBatch, precision: str) -> Runner:
    """Eager on torch's current GPU, warmed up."""
    run = eager_runner(spec, images, "cuda", precision)
    import torch

    for _ in range(_GPU_WARM_UPS):
        run()
    torch.cuda.synchronize()
    return run


def _captured(source: Runner) -> Runner:
    """All kernels of ``source`` as one CUDA graph: a replay costs one launch, where eager pays for every kernel.

    Captured as PyTorch documents it ("CUDA semantics"): warmed up on a side stream, then recorded on another. Capture
    begins outside of inference mode, which would leave torch's own random state a tensor that no later capture of
    the process, inside or outside of that mode, could count on (pytorch issue 166792).
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
    """``output``, computed anew; ``source`` is held because a graph reads weights and images where they lay."""
    graph.replay()
    return output


def _missing(backend: str, error: ImportError, packages: str) -> NasError:
    return NasError(f"latency.backend: {backend} cannot be used: {error.msg}. pip install {packages}.")
