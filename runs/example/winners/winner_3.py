"""winner_3: 2,392,332 parameters, 312,912,024 multiply-adds at 224 px; needs torch and timm alone."""

from collections.abc import Sequence
from functools import partial

import torch
from timm.layers import create_conv2d, get_act_layer
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, efficientnet_init_weights
from timm.models.efficientnet import EfficientNet
from torch import nn

RESOLUTION_PX = 224
ARCH_DEF = [
    ["ds_r1_k3_s1_c24_nre"],
    ["ir_r1_k3.5.7_p1.1_s2_e3_c24_se0.5_nre", "ir_r1_k3.5.7.9_a1.1_p1.1_s1_e6_c24_se0.5_nre"],
    ["ir_r1_k3.5.7.9.11_s2_e3_c40_nsw", "ir_r3_k3.5.7_s1_e6_c40_nsw"],
    ["ir_r1_k3.5.7.9_a1.1_p1.1_s2_e6_c80_se0.5_nsw", "ir_r1_k3.5.7.9.11_p1.1_s1_e6_c80_se0.5_nsw"],
    ["ir_r1_k3_p1.1_s1_e3_c120_se0.25_nsw", "ir_r3_k3.5.7_a1.1_p1.1_s1_e6_c120_se0.25_nsw"],
    ["ir_r1_k3_a1.1_s2_e3_c200_nre", "ir_r3_k3.5.7.9_p1.1_s1_e6_c200_nre"],
]
# Depthwise convolutions beyond timm's notation, by block: channels, kernels and dilations of the groups; the stride.
DEPTHWISE = {
    "blocks.1.0": ((36, 18, 18), (3, 5, 7), (1, 1, 1), 2),
    "blocks.3.0": ((120, 60, 30, 30), (3, 5, 7, 9), (1, 1, 1, 1), 2),
    "blocks.5.1": ((600, 300, 150, 150), (3, 5, 7, 9), (1, 1, 1, 1), 1),
    "blocks.5.2": ((600, 300, 150, 150), (3, 5, 7, 9), (1, 1, 1, 1), 1),
    "blocks.5.3": ((600, 300, 150, 150), (3, 5, 7, 9), (1, 1, 1, 1), 1),
}


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


def build(num_classes=10, in_chans=1):
    """The network with random weights."""
    block_args = decode_arch_def(ARCH_DEF)
    model = EfficientNet(
        block_args,
        num_classes=num_classes,
        in_chans=in_chans,
        stem_size=16,
        fix_stem=True,
        num_features=1536,
        round_chs_fn=lambda channels: channels,
        pad_type="",
        act_layer=get_act_layer("relu"),
        norm_layer=partial(nn.BatchNorm2d, eps=1e-05, momentum=0.1),
        se_layer=SqueezeExcite,
        drop_rate=0.2,
        drop_path_rate=0.0,
    )
    for path, plan in DEPTHWISE.items():
        model.get_submodule(path).conv_dw = depthwise_conv(*plan, padding="")
    efficientnet_init_weights(model)
    return model


if __name__ == "__main__":
    model = build().eval()
    images = torch.zeros(1, 1, RESOLUTION_PX, RESOLUTION_PX)
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters, output", tuple(model(images).shape))
