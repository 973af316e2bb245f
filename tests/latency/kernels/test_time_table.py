"""Tests of the table of kernel times: evaluated once each, in batches, at any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.latency.arrays import FloatArray, Indices
from nas.latency.kernels.kernel import Context
from nas.latency.kernels.ort_lowering import Kernel
from nas.latency.kernels.time_table import TimeTable


def time_of(kernel: Kernel, context: Context) -> float:
    return kernel.in_channels + 1e-3 * context.moved


class Recorder:
    """Evaluates ``time_of``, and remembers what was asked in each batch."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, float]]] = []

    def __call__(
        self, kernels: Sequence[Kernel], contexts: Sequence[Context], rows: Indices, columns: Indices
    ) -> FloatArray:
        asked = [(kernels[row], contexts[column]) for row, column in zip(rows, columns, strict=True)]
        self.batches.append([(kernel.in_channels, context.moved) for kernel, context in asked])
        return np.array([time_of(kernel, context) for kernel, context in asked])


def test_each_kernel_is_evaluated_once_per_context_and_only_where_it_is_needed() -> None:
    recorder = Recorder()
    table = TimeTable(recorder)
    kernels = [Kernel("pool", channels, channels, 7, 1, True) for channels in range(1, 5001)]  # more than there is room
    contexts = [Context(0.0, moved / 2) for moved in range(20)]
    rng = np.random.default_rng(0)
    known: set[tuple[int, float]] = set()
    for most in (10, 3000, 5000):
        while len(table_kernels := kernels[:most]) > table.kernels:
            table.add_kernel(table_kernels[table.kernels])
        rows, columns = rng.integers(0, most, 400), rng.integers(0, len(contexts), 400)
        numbers = np.array([table.context_number(context) for context in contexts])[columns]
        found = table.times(rows.astype(np.int32), numbers)
        expected = [time_of(kernels[row], contexts[column]) for row, column in zip(rows, columns, strict=True)]
        assert found.tolist() == expected
        asked = {(kernels[row].in_channels, contexts[column].moved) for row, column in zip(rows, columns, strict=True)}
        assert sorted(recorder.batches[-1]) == sorted(asked - known)
        known |= asked
    table.times(rows.astype(np.int32), numbers)
    assert len(recorder.batches) == 3
