"""Depthwise MixConv with exponential partition and dilated kernels.

timm's MixedConv2d has neither. ``depthwise_conv`` and ``MixConv2d`` take plain numbers and depend on torch and timm
only: ``nas.exporters.standalone`` writes their source into standalone files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from timm.layers import create_conv2d
from torch import nn

from nas.arch.blocks import BlockSpec
from nas.arch.rounding import split_channels


class DepthwisePlan(NamedTuple):
    """Parameters of one depthwise convolution: channels, kernel, dilation per group.

    ``kernels`` are sides in px of the weights: 3 with dilation (k-1)/2 for a dilated k. All groups share ``stride``.
    """

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    stride: int


def custom_depthwise_plan(block: BlockSpec, stride: int, hidden: int) -> DepthwisePlan | None:
    """Return the depthwise convolution of ``block`` that timm cannot build, or None.

    ``stride`` is that of the block's position, ``hidden`` its expanded channels. None: timm's layer is the same, or
    the block has no depthwise convolution.
    """
    if not block.has_depthwise:
        return None
    kernels = block.effective_kernels(stride)
    if all(dilation == 1 for _, dilation in kernels) and (block.partition == "equal" or len(kernels) == 1):
        return None
    return DepthwisePlan(
        channels=split_channels(hidden, len(kernels), block.partition),
        kernels=tuple(side for side, _ in kernels),
        dilations=tuple(dilation for _, dilation in kernels),
        stride=stride,
    )


class MixConv2d(nn.ModuleDict):
    """Depthwise convolution with one kernel size per channel group.

    Paper: MixConv: Mixed Depthwise Convolutional Kernels (https://arxiv.org/abs/1907.09595), section 3.2. Group i
    convolves ``channels[i]`` channels with a ``kernels[i]`` px kernel of dilation ``dilations[i]``. Maps
    (N, C, H, W) to (N, C, H', W') with C = sum(channels). Children are named "0", "1", ... as in timm's
    MixedConv2d, whose state dict with the same groups it loads. ``padding`` is timm's pad_type.
    """

    def __init__(
        self, channels: Sequence[int], kernels: Sequence[int], dilations: Sequence[int], stride: int, padding: str
    ) -> None:
        super().__init__()
        self.splits = list(channels)
        self.in_channels = self.out_channels = sum(channels)
        for index, (count, kernel, dilation) in enumerate(zip(channels, kernels, dilations, strict=True)):
            group = depthwise_conv([count], [kernel], [dilation], stride, padding)
            self.add_module(str(index), group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve ``x`` (N, C, H, W) to (N, C, H', W'), dtype unchanged."""
        parts = torch.split(x, self.splits, dim=1)
        # By index: torch.fx and tracing exporters cannot iterate over the result of split.
        return torch.cat([conv(parts[index]) for index, conv in enumerate(self.values())], dim=1)


def depthwise_conv(
    channels: Sequence[int], kernels: Sequence[int], dilations: Sequence[int], stride: int, padding: str
) -> nn.Module:
    """Build a depthwise convolution: ``MixConv2d``, or a plain one for a single group.

    Maps (N, C, H, W) to (N, C, H', W') with C = sum(channels); ``padding`` is timm's pad_type.
    """
    if len(channels) > 1:
        return MixConv2d(channels, kernels, dilations, stride, padding)
    (count,), (kernel,), (dilation,) = channels, kernels, dilations
    conv: nn.Module = create_conv2d(
        count, count, kernel, stride=stride, dilation=dilation, padding=padding, depthwise=True
    )
    return conv
