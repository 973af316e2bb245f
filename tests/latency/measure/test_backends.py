"""Tests that every backend runs the given network in the requested precision."""

from __future__ import annotations

import time

import numpy as np
import pytest

from nas.core.errors import NasError
from nas.exporters.formats import FORMATS
from nas.latency.measure.backends import eager_runner, runner
from nas.latency.measure.timer import measure_many, stopwatch
from nas.latency.settings import EXPORTED_BACKENDS
from tests.latency.tiny import TINY


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def skip_without(backend: str) -> None:
    for package in FORMATS[backend].packages:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'nas[{backend}]'")


def test_onnxruntime_and_torch_give_the_output_of_the_batch() -> None:
    (outputs,) = runner(TINY, backend="onnxruntime", batch=2)()
    assert outputs.shape == (2, 3)
    assert np.ptp(outputs) > 0
    assert runner(TINY, backend="torch", batch=2)().shape == (2, 3)


@pytest.mark.parametrize("backend", EXPORTED_BACKENDS)
def test_other_runtimes_run_the_network_that_onnxruntime_runs(backend: str) -> None:
    skip_without(backend)
    (expected,) = runner(TINY, backend="onnxruntime", seed=3)()
    np.testing.assert_allclose(runner(TINY, backend=backend, seed=3)(), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("backend", EXPORTED_BACKENDS)
def test_one_thread_is_the_calling_one_whose_time_is_measured(backend: str) -> None:
    skip_without(backend)
    run, thread_s, process_s = runner(TINY, backend=backend), 0.0, 0.0
    run()
    for _ in range(20):
        thread, process = time.thread_time(), time.process_time()
        run()
        thread_s, process_s = thread_s + time.thread_time() - thread, process_s + time.process_time() - process
    # Nothing else runs in this process meanwhile; half would be missing with a second thread.
    assert thread_s > 0.8 * process_s


@pytest.mark.parametrize("backend", EXPORTED_BACKENDS)
def test_a_missing_runtime_is_one_line_that_names_the_extra(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.exporters.formats.is_installed", lambda package: False)
    with pytest.raises(NasError, match=rf"^format {backend}: .* is not installed; pip install 'nas\[{backend}\]'\.$"):
        runner(TINY, backend=backend)


def test_int8_is_the_same_network_a_little_rounded() -> None:
    (exact,) = runner(TINY, backend="onnxruntime", batch=4)()
    (rounded,) = runner(TINY, backend="onnxruntime", precision="int8", batch=4)()
    # Some ten tensors, each rounded to 1/255 of its range at most: a few hundredths of the outputs' range.
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.ptp(exact)


def test_torch_keeps_the_thread_count_of_its_caller() -> None:
    import torch

    before = torch.get_num_threads()
    runner(TINY, backend="torch", threads=before + 1)()
    assert torch.get_num_threads() == before


def test_eager_is_channels_last_and_in_the_requested_precision() -> None:
    import torch

    seen: list[torch.Tensor] = []
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        outputs = eager_runner(TINY, images, "cpu", "bfloat16")()
    finally:
        hook.remove()
    assert outputs.dtype == torch.bfloat16
    assert seen[0].dtype == torch.bfloat16
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("backend", "precision", "threads", "message"),
    [
        ("torch", "int8", 1, r"precision 'int8': torch runs float32\. int8 is for onnxruntime, litert, openvino\."),
        ("onnxruntime", "float16", 1, r"onnxruntime runs float32, int8\. float16 is for cuda, cuda_graph\."),
        ("cuda", "int8", 1, r"precision 'int8': cuda runs float32, float16, bfloat16\."),
        ("cuda_graph", "fp16", 1, r"precision 'fp16': cuda_graph runs float32, float16, bfloat16\.$"),
        ("cuda", "float32", 2, r"latency\.threads 2: cuda launches its kernels from one thread"),
        ("ncnn", "int8", 1, r"precision 'int8': ncnn runs float32\."),
        ("macs", "float32", 1, r"unknown latency\.backend 'macs'"),
    ],
)
def test_unsupported_precisions_and_threads_are_refused(
    backend: str, precision: str, threads: int, message: str
) -> None:
    with pytest.raises(NasError, match=message):
        runner(TINY, backend=backend, precision=precision, threads=threads)


@pytest.mark.parametrize("backend", ["cuda", "cuda_graph"])
def test_gpu_backends_are_refused_without_a_gpu(backend: str) -> None:
    if has_gpu():
        pytest.skip("there is a GPU here")
    with pytest.raises(NasError, match=rf"backend '{backend}': torch .* sees no GPU here.*latency=onnxruntime"):
        measure_many([TINY], backend=backend)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("backend", ["cuda", "cuda_graph"])
def test_a_gpu_times_what_the_wall_clock_sees(backend: str, precision: str) -> None:
    if not has_gpu():
        pytest.skip("no GPU here")
    import torch

    run, timer = runner(TINY, backend=backend, precision=precision, batch=8), stopwatch(backend, 1)
    timed_s, wall_s = [], []
    for _ in range(20):
        start = time.perf_counter()
        timed_s.append(timer(run))
        wall_s.append(time.perf_counter() - start)
    assert min(timed_s) > 0
    # The events lie within the wall clock's two readings; half a ms for the two clocks' own grain.
    assert np.median(timed_s) < np.median(wall_s) + 5e-4
    assert torch.isfinite(run()).all()


def test_a_replayed_graph_computes_what_eager_does() -> None:
    if not has_gpu():
        pytest.skip("no GPU here")
    import torch

    torch.manual_seed(0)  # both builds draw the same weights
    direct = runner(TINY, backend="cuda", batch=2)().clone()
    torch.manual_seed(0)
    replay = runner(TINY, backend="cuda_graph", batch=2)
    replay()
    replayed = replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(replayed.clone(), direct, rtol=1e-2, atol=1e-2)  # TF32 may sum in another order
