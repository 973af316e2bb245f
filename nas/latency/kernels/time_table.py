"""Table of the times of kernels in contexts, each evaluated once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from nas.latency.arrays import FloatArray, Indices
from nas.latency.kernels.kernel import Context
from nas.latency.kernels.ort_lowering import Kernel

Numbers = npt.NDArray[np.int32]

_ROOM: Final = (8, 1024)  # contexts and kernels of an empty table


class Evaluate(Protocol):
    """Evaluation of ``kernels[rows]`` in ``contexts[columns]`` in one batch."""

    def __call__(
        self, kernels: Sequence[Kernel], contexts: Sequence[Context], rows: Indices, columns: Indices
    ) -> FloatArray: ...


class TimeTable:
    """Times of distinct kernels in distinct contexts.

    They are evaluated in batches, when they are first needed. Kernels and contexts have numbers, by which times are
    looked up in arrays: networks of a search have hundreds of kernels each, few of them new.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._kernels: list[Kernel] = []
        self._contexts: dict[Context, int] = {}
        self._times = np.full(_ROOM, np.nan)  # (contexts, kernels); NaN: not evaluated

    @property
    def size(self) -> int:
        """Number of times that the table has room for."""
        return self._times.size

    @property
    def kernels(self) -> int:
        """Number of kernels that have been added."""
        return len(self._kernels)

    def add_kernel(self, kernel: Kernel) -> int:
        """Add a kernel that the table does not have, and return its number."""
        self._kernels.append(kernel)
        return len(self._kernels) - 1

    def context_number(self, context: Context) -> int:
        """Number of ``context`` in the table, a new one if it has none."""
        return self._contexts.setdefault(context, len(self._contexts))

    def times(self, kernels: Numbers, contexts: Indices) -> FloatArray:
        """Times of kernels in contexts, float64 of shape (kernels,).

        ``kernels``, ``contexts``: their numbers, of equal shape.
        """
        self._grow()
        found = self._times[contexts, kernels]
        missing = np.isnan(found)
        if missing.any():
            self._fill(kernels[missing], contexts[missing])
            found = self._times[contexts, kernels]
        return found

    def _fill(self, kernels: Numbers, contexts: Indices) -> None:
        needed = np.zeros(self._times.shape, dtype=bool)
        needed[contexts, kernels] = True
        used_contexts, used_kernels = np.flatnonzero(needed.any(axis=1)), np.flatnonzero(needed.any(axis=0))
        columns, rows = np.nonzero(needed[np.ix_(used_contexts, used_kernels)])
        contexts_by_number = list(self._contexts)
        self._times[used_contexts[columns], used_kernels[rows]] = self._evaluate(
            [self._kernels[number] for number in used_kernels],
            [contexts_by_number[number] for number in used_contexts],
            rows,
            columns,
        )

    def _grow(self) -> None:
        """Make room for all numbers that have been given."""
        contexts, kernels = self._times.shape
        while contexts < len(self._contexts):
            contexts *= 2
        while kernels < len(self._kernels):
            kernels *= 2
        if (contexts, kernels) != self._times.shape:
            grown = np.full((contexts, kernels), np.nan)
            grown[: self._times.shape[0], : self._times.shape[1]] = self._times
            self._times = grown
