"""Layers of the heads of detectors and segmenters, named as their operations."""

from __future__ import annotations

from functools import partial
from typing import Final

from timm.layers import BatchNormAct2d, create_conv2d, get_act_layer
from torch import Tensor, nn

from nas.arch.spec import ArchSpec

_STD: Final = 0.03  # of first weights, as in torchvision's SSDLite


class NormAct(BatchNormAct2d):  # type: ignore[misc]
    """Batch norm of a spec's conventions, and an activation. Shapes (N, C, H, W)."""

    def __init__(self, channels: int, spec: ArchSpec, activation: str) -> None:
        super().__init__(
            channels, eps=spec.norm.eps, momentum=spec.norm.momentum, act_layer=get_act_layer(activation), inplace=True
        )


class ExtraBlock(nn.Module):
    """Extra block of SSDLite, which makes the next smaller map.

    A 1x1 convolution to half of the channels, a depthwise one of stride 2, a 1x1 one; each with norm and activation.
    Maps (N, C, H, W) to (N, channels, H/2, W/2), rounded up.
    """

    def __init__(self, in_channels: int, channels: int, spec: ArchSpec, activation: str, padding: str) -> None:
        super().__init__()
        half, norm = channels // 2, partial(NormAct, spec=spec, activation=activation)
        self.conv_pw = create_conv2d(in_channels, half, 1)
        self.bn1 = norm(half)
        self.conv_dw = create_conv2d(half, half, 3, stride=2, padding=padding, depthwise=True)
        self.bn2 = norm(half)
        self.conv_pwl = create_conv2d(half, channels, 1)
        self.bn3 = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the next smaller map."""
        x = self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))
        y: Tensor = self.bn3(self.conv_pwl(x))
        return y


class SeparablePrediction(nn.Module):
    """A depthwise 3x3 convolution and a 1x1 one: (N, C, H, W) to (N, channels, H, W)."""

    def __init__(self, in_channels: int, channels: int, spec: ArchSpec, activation: str, padding: str) -> None:
        super().__init__()
        self.conv_dw = create_conv2d(in_channels, in_channels, 3, padding=padding, depthwise=True)
        self.bn = NormAct(in_channels, spec, activation)
        self.conv = nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predict at every position of a map (N, C, H, W)."""
        y: Tensor = self.conv(self.bn(self.conv_dw(x)))
        return y


def prediction_layers(
    channels: list[int], outputs: list[int], spec: ArchSpec, activation: str, padding: str
) -> nn.ModuleList:
    """Make the predictions of every map; ``outputs``: channels that each predicts."""
    return nn.ModuleList(
        SeparablePrediction(width, count, spec, activation, padding)
        for width, count in zip(channels, outputs, strict=True)
    )


def init_predictions(*modules: nn.Module) -> None:
    """Draw first weights of convolutions as torchvision's SSDLite does; biases are 0."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=_STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
