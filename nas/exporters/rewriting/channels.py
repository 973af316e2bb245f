"""Logical channels of the tensors of a rewritten block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple


class ChannelRun(NamedTuple):
    """Range of logical channels of a tensor, and the channels of zeros after it.

    Channels from ``start`` on, then ``zeros`` channels of zeros.
    """

    start: int
    size: int
    zeros: int = 0


Channels = tuple[ChannelRun, ...]  # of a tensor, in order; runs, because tuples of hundreds of channels are slow


def width(channels: Channels) -> int:
    """Number of channels, with zeros."""
    return sum([run.size + run.zeros for run in channels])


def all_channels(count: int) -> Channels:
    """``count`` channels in order."""
    return (ChannelRun(0, count),)


def ranges_of(sizes: Iterable[int]) -> list[range]:
    """Neighbouring ranges of ``sizes`` numbers, from 0."""
    stops = list(accumulate(sizes))
    return [range(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def are_plain(channels: Channels) -> bool:
    """Whether the channels are all in order, without zeros."""
    starts = accumulate([run.size for run in channels], initial=0)
    return all(run.start == start and not run.zeros for run, start in zip(channels, starts, strict=False))


def home_of(channels: Channels, ranges: Sequence[range]) -> int | None:
    """Index of the range that has all of ``channels``, None if several have."""
    first, last = channels[0].start, channels[-1].start + channels[-1].size - 1
    for index, candidate in enumerate(ranges):
        if first in candidate:
            return index if last in candidate else None
    return None


def fill_groups(channels: Channels, ranges: Sequence[range]) -> bool:
    """Whether equal parts of ``channels`` are ``ranges``, which are equal, and zeros."""
    share, rest = divmod(width(channels), len(ranges))
    if rest:
        return False
    if are_plain(channels):
        return True
    filled, position = [0] * len(ranges), 0  # channels of each range
    for run in channels:
        group, inside = divmod(position, share)
        position += run.size + run.zeros
        if inside + run.size + run.zeros > share or home_of((run,), ranges) != group:
            return False
        filled[group] += run.size
    return all(size == len(part) for size, part in zip(filled, ranges, strict=True))
