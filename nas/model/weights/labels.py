"""Choice of the channels to keep where layers divide them into groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeAlias

# Label of a channel: its groups in grouped convolutions, and its kernels (side, dilation) in depthwise ones.
_Label: TypeAlias = tuple[tuple[Hashable, ...], tuple[tuple[int, int], ...]]


class ChannelLabels(NamedTuple):
    """Labels of the channels of a source and a target by one layer that both have.

    A channel continues one with the same label; labels that are ``kernels`` may differ where there is none.
    """

    before: Sequence[Hashable]
    after: Sequence[Hashable]
    kernels: bool


def choose_channels(labels: Sequence[ChannelLabels], scores: Sequence[float]) -> list[int]:
    """Choose the source channel of each target channel, -1 for none.

    ``labels``: of all layers that divide the channels. Channels first continue those with equal labels, then, of those
    in the same groups, the ones with the largest kernels. The channels with the highest ``scores`` are kept, in their
    order; new ones come last.
    """
    before, after = _joined(labels, "before"), _joined(labels, "after")
    sources = [-1] * len(after)
    places, free = _by_label(after), _by_label(before)
    for label, positions in places.items():
        places[label], free[label] = _fill(sources, positions, free.get(label, []), scores)
    rest: dict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for which, labelled in enumerate((places, free)):
        for label in sorted(labelled, key=_spans, reverse=True):
            rest[label[0]][which].extend(labelled[label])
    for positions, channels in rest.values():
        _fill(sources, positions, channels, scores)
    for positions in _by_label(after).values():
        found = sorted([sources[position] for position in positions])
        new = sum([source < 0 for source in found])
        for position, source in zip(positions, found[new:] + found[:new], strict=True):
            sources[position] = source
    return sources


def _joined(labels: Sequence[ChannelLabels], side: str) -> list[_Label]:
    """Label of each channel of one side, ``before`` or ``after``, by all layers."""
    size = len(getattr(labels[0], side))
    parts = []
    for kernels in (False, True):
        found = [getattr(one, side) for one in labels if one.kernels is kernels]
        parts.append(list(zip(*found, strict=True)) if found else [()] * size)
    return list(zip(*parts, strict=True))


def _fill(
    sources: list[int], positions: Sequence[int], channels: Sequence[int], scores: Sequence[float]
) -> tuple[Sequence[int], Sequence[int]]:
    """Put the ``channels`` with the highest scores, in their order, on ``positions``.

    Returns the positions and channels that are left.
    """
    best = set(sorted(range(len(channels)), key=lambda index: -scores[channels[index]])[: len(positions)])
    chosen = [channel for index, channel in enumerate(channels) if index in best]
    for position, channel in zip(positions, chosen, strict=False):
        sources[position] = channel
    return positions[len(best) :], [channel for index, channel in enumerate(channels) if index not in best]


def _by_label(labels: Sequence[_Label]) -> dict[_Label, Sequence[int]]:
    found: dict[_Label, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        found[label].append(index)
    return dict(found)


def _spans(label: _Label) -> int:
    """Sum of the sides in px that the kernels of ``label`` span."""
    return sum([dilation * (side - 1) + 1 for side, dilation in label[1]])
