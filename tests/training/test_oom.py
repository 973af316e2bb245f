"""Detection of out-of-memory errors, as raised or documented by the libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas.training.oom import is_out_of_memory, named_out_of_memory
from nas.training.results import OutOfMemoryError


def test_errors_raised_here_are_detected() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**50)
    with pytest.raises(MemoryError) as of_numpy:
        np.zeros(2**50)
    assert is_out_of_memory(of_torch.value) and is_out_of_memory(of_numpy.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=str,
)
def test_errors_of_cuda_and_others_are_classified(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_out_of_memory_is_named_and_other_errors_pass() -> None:
    with (
        pytest.raises(OutOfMemoryError, match=r"^out of memory at proxy\.batch_size 8: lower it\.$"),
        named_out_of_memory("proxy.batch_size 8", "lower it"),
    ):
        torch.empty(2**50)
    with pytest.raises(RuntimeError, match="inconsistent"), named_out_of_memory("proxy.batch_size 8", "lower it"):
        raise RuntimeError("inconsistent tensor sizes")
