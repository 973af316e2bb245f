"""Large depthwise kernels as sums of small ones, which XNNPACK has routines for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

# XNNPACK's depthwise routines, on x86 and ARM, have 3, 4, 9 or 25 taps; fewer taps than a routine's cost as many. A
# kernel of more taps than the largest is run as a grouped convolution, at eight times the cost per tap (AVX-512).
ROUTINE_TAPS: Final = (9, 25)
MOST_TAPS: Final = ROUTINE_TAPS[-1]
_MOST_PIECES: Final = 16  # enough for kernels up to 15x15
_ADDITION_TAPS: Final = 4  # how many taps an element-wise addition takes as long as


class Taps(NamedTuple):
    """Taps of a kernel along one side: ``length`` from ``first``, ``step`` apart.

    Those before ``new`` belong to another piece already and have the weight 0 here.
    """

    first: int
    step: int
    length: int
    new: int = 0

    @property
    def last(self) -> int:
        """The last tap."""
        return self.first + self.step * (self.length - 1)

    @property
    def indices(self) -> list[int]:
        """All taps in order."""
        return list(range(self.first, self.last + 1, self.step))


KernelPiece = tuple[Taps, Taps]  # rows and columns


@lru_cache(maxsize=1024)
def kernel_pieces(kernel: int, dilation: int, before: int, after: int) -> tuple[KernelPiece, ...]:
    """Divide a depthwise kernel into pieces of at most ``MOST_TAPS`` taps.

    The sum of their outputs is that of the kernel: ``kernel`` taps along each side, ``dilation`` px apart, on a map
    that is padded by ``before`` px at the top and left, by ``after`` px at the bottom and right. Each piece is a
    convolution of the same map: its taps have equal distances, and its padding (``piece_pads``) is not negative. Of
    the divisions, the one that takes least time; the whole kernel, if there is none or it has few enough taps.
    """
    whole = Taps(0, 1, kernel)
    if kernel**2 <= MOST_TAPS:
        return ((whole, whole),)
    sides = [
        side
        for side in _divisions(kernel)
        if all(min(piece_pads(taps, kernel, dilation, before, after)) >= 0 for taps in side)
    ]
    # Few rows of many columns are read from fewer places at a time than the reverse.
    best = min(product(sides, sides), key=lambda pair: (_cost(*pair), len(pair[1])))
    return tuple(product(*best)) if _cost(*best) < float("inf") else ((whole, whole),)


def piece_pads(taps: Taps, kernel: int, dilation: int, before: int, after: int) -> tuple[int, int]:
    """Padding in px before and after the map, of a piece with ``taps`` along a side."""
    return before - taps.first * dilation, after - (kernel - 1 - taps.last) * dilation


def _divisions(kernel: int) -> Iterator[tuple[Taps, ...]]:
    """Divisions of the taps along one side into pieces of equal distances.

    Most lie symmetrically around the middle, so that they need no negative padding.
    """
    middle = kernel // 2
    yield (Taps(0, 1, kernel),)
    yield Taps(0, 2, middle + 1), Taps(1, 2, middle)
    pairs = [Taps(first, kernel - 1 - 2 * first, 2) for first in range(middle)]
    yield Taps(0, middle, 3), *pairs[1:]
    yield *pairs, Taps(middle - 1, 1, 2, new=1)


def _cost(rows: Sequence[Taps], columns: Sequence[Taps]) -> float:
    """Cost of a division in taps per output; infinite if it is not possible."""
    counts = [row.length * column.length for row, column in product(rows, columns)]
    if max(counts) > MOST_TAPS or len(counts) > _MOST_PIECES:
        return float("inf")
    return sum(_routine(count) for count in counts) + _ADDITION_TAPS * (len(counts) - 1)


def _routine(taps: int) -> float:
    """Taps of the smallest routine that has as many."""
    return next((routine for routine in ROUTINE_TAPS if taps <= routine), float("inf"))
