"""winner_4: 3,492,320 parameters, 332,233,024 multiply-adds at 224 px; needs torch and timm alone."""

from functools import partial

import torch
from timm.layers import get_act_layer
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

RESOLUTION_PX = 224
ARCH_DEF = [
    ["ds_r1_k3_s1_c24_nre"],
    ["ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c32_nre", "ir_r1_k3_a1.1_p1.1_s1_e3_c32_nre"],
    ["ir_r1_k3.5.7.9_s2_e6_c40_se0.5_nsw", "ir_r3_k3.5_a1.1_p1.1_s1_e6_c40_se0.5_nsw"],
    ["ir_r1_k3.5.7_s2_e6_c80_se0.25_nsw", "ir_r3_k3.5.7.9_a1.1_p1.1_s1_e6_c80_se0.25_nsw"],
    ["ir_r1_k3_s1_e6_c120_se0.5_nsw", "ir_r3_k3.5.7.9_a1.1_p1.1_s1_e3_c120_se0.5_nsw"],
    ["ir_r1_k3.5.7.9_s2_e6_c200_se0.5_nsw", "ir_r3_k3.5.7.9_p1.1_s1_e6_c200_se0.5_nsw"],
]


def build(num_classes=10, in_chans=1):
    """The network with random weights."""
    block_args = decode_arch_def(ARCH_DEF)
    model = EfficientNet(
        block_args,
        num_classes=num_classes,
        in_chans=in_chans,
        stem_size=24,
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
    return model


if __name__ == "__main__":
    model = build().eval()
    images = torch.zeros(1, 1, RESOLUTION_PX, RESOLUTION_PX)
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters, output", tuple(model(images).shape))
