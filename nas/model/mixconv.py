"""Depthwise MixConv with what timm's lacks: the exponential partition and dilated kernels.

``depthwise_conv`` and ``MixConv2d`` take plain numbers and need torch and timm alone: ``nas.export.standalone`` writes
their source into standalone files.
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
    """Numbers of one depthwise convolution, a value per group: channels, kernel side in px, dilation; and its stride.

    A kernel is what the weights hold: 3 with dilation (k-1)/2 for a dilated k.
    """

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    stride: int


def beyond_timm(block: BlockSpec, stride: int, hidden: int) -> DepthwisePlan | None:
    """The depthwise convolution of ``block`` on ``hidden`` channels, or None where timm's own is the same."""
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
    """Depthwise convolution whose channel groups have kernels of their own: N x C x H x W to N x C x H' x W'.

    Paper: MixConv: Mixed Depthwise Convolutional Kernels (https://arxiv.org/abs/1907.09595), section 3.2. Group i
    takes ``channels[i]`` channels through a ``kernels[i]`` px kernel of dilation ``dilations[i]``. Children are named
    "0", "1", ... as in timm's MixedConv2d, whose state dict with the same groups this loads. ``padding`` is timm's
    pad_type.
    """

    def __init__(
        self, channels: Sequence[int], kernels: Sequence[int], dilations: Sequence[int], stride: int, padding: str
    ) -> None:
        super().__init__()
        self.splits = list(channels)
        self.in_channels = self.out_channels = sum(channels)
        for index, (width, kernel, dilation) in enumerate(zip(channels, kernels, dilations, strict=True)):
            group = depthwise_conv([width], [kernel], [dilation], stride, padding)
            self.add_module(str(index), group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.split(x, self.splits, dim=1)
        # By index: torch.fx and exporters that trace cannot iterate over what split returns.
        return torch.cat([conv(parts[index]) for index, conv in enumerate(self.values())], dim=1)


def depthwise_conv(
    channels: Sequence[int], kernels: Sequence[int], dilations: Sequence[int], stride: int, padding: str
) -> nn.Module:
    """A depthwise convolution: plain for one group, otherwise a ``MixConv2d``."""
    if len(channels) > 1:
        return MixConv2d(channels, kernels, dilations, stride, padding)
    (width,), (kernel,), (dilation,) = channels, kernels, dilations
    conv: nn.Module = create_conv2d(
        width, width, kernel, stride=stride, dilation=dilation, padding=padding, depthwise=True
    )
    return conv
