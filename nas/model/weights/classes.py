"""Weights fitted to other classes and input channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from timm.models import adapt_input_conv
from torch import Tensor

from nas.arch.spec import ArchSpec
from nas.model.weights.layers import class_predictions
from nas.model.weights.source import SourceWeights

_STEM: Final = "conv_stem.weight"


def classifier_rows(source: SourceWeights, classes: int, class_names: Sequence[str]) -> list[int] | None:
    """Rows of the classifier of ``source`` for the classes of the images, or None.

    By name, where both know their ``class_names``: None unless the weights know all of them. Otherwise all rows, if the
    numbers of classes are equal.
    """
    if not (source.class_names and class_names):
        return list(range(classes)) if source.arch.classes == classes else None
    row_of = {name: row for row, name in enumerate(source.class_names)}
    return [row_of[name] for name in class_names] if row_of.keys() >= set(class_names) else None


def fitted_weights(
    source: SourceWeights, in_channels: int, rows: Sequence[int] | None
) -> tuple[ArchSpec, dict[str, Tensor]]:
    """Network and weights of ``source`` for other input channels and classes.

    The stem is adapted as timm does. ``rows``: of the classifier, or of the predictions of classes of a detector or
    segmenter, in their new order; None keeps them. A detector's background stays.
    """
    state, network = dict(source.state), source.arch
    if network.in_channels != in_channels:
        state[_STEM] = adapt_input_conv(in_channels, state[_STEM], base_chans=network.in_channels)
        network = replace(network, in_channels=in_channels)
    if rows is not None:
        for path, boxes in class_predictions(network).items():
            for name in (name for name in (f"{path}.weight", f"{path}.bias") if name in state):
                by_class = state[name].reshape(boxes, -1, *state[name].shape[1:])
                background = by_class.shape[1] - network.classes
                kept = [*range(background), *[row + background for row in rows]]
                state[name] = by_class[:, kept].flatten(0, 1)
        network = replace(network, classes=len(rows))
    return network, state


def channel_statistics(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return mean or deviation per channel for another number of channels.

    One channel stands for all others and gets their mean, as a grey image has the same value in all; where neither
    number is 1, they are unknown: empty.
    """
    if len(values) in (0, channels):
        return values
    if channels == 1:
        return (sum(values) / len(values),)
    return values * channels if len(values) == 1 else ()
