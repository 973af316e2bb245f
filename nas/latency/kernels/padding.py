"""Padding of channels to full vectors, and kernel taps lost at borders."""

from __future__ import annotations

from functools import lru_cache


def padded(channels: int, lane: int) -> int:
    """``channels`` rounded up to a multiple of ``lane``."""
    return -(-channels // lane) * lane


@lru_cache(maxsize=4096)
def valid_taps(kernel: int, stride: int, dilation: int, in_px: int) -> int:
    """Kernel taps inside the map, summed over the positions of one row.

    Padding is symmetric.
    """
    reach = dilation * (kernel - 1) // 2
    taps = range(-reach, reach + 1, dilation)
    return sum(0 <= centre + tap < in_px for centre in range(0, in_px, stride) for tap in taps)
