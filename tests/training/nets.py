"""Small networks and data sets for the training tests."""

from __future__ import annotations

from dataclasses import replace

import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

from nas.data.images import ImageData


def make_net(*, seed: int = 0, stem_stride: int = 1) -> nn.Module:
    """Build a MixNet-like network: (N, 1, H, W) to (N, 10), 30,000 parameters.

    Its total stride is 4 times ``stem_stride``.
    """
    torch.manual_seed(seed)
    stages = [["ds_r1_k3_s1_e1_c16"], ["ir_r2_k3.5_s2_e3_c24_se0.25"], ["ir_r1_k3.5.7_s2_e4_c40_se0.25"]]
    net = EfficientNet(
        decode_arch_def(stages), num_classes=10, num_features=96, in_chans=1, stem_size=16, act_layer=nn.SiLU
    )
    net.conv_stem.stride = (stem_stride, stem_stride)
    return net


def first_images(data: ImageData, count: int, val_count: int = 40) -> ImageData:
    """Return ``data`` cut to the first ``count`` train and ``val_count`` images."""
    return replace(
        data,
        train_images=data.train_images[:count],
        train_labels=data.train_labels[:count],
        val_images=data.val_images[:val_count],
        val_labels=data.val_labels[:val_count],
    )
