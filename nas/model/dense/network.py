"""Detector and segmenter: the trunk of a timm module, and a head on its maps."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional

from nas.arch.heads.feature_taps import STEM, FeatureTap, taps
from nas.arch.heads.parts import LRASPPHead, SSDLiteHead
from nas.arch.ops import BOX_VALUES
from nas.arch.spec import ArchSpec
from nas.model.build import PAD_TYPES, build_variant
from nas.model.dense.layers import ExtraBlock, NormAct, init_predictions, prediction_layers

__all__ = ["DenseNetwork", "Detector", "Segmenter", "build_dense", "expansion_and_output"]

_STEM_PLACE: Final = (-1, 0, False)  # before all stages


class DenseNetwork(nn.Module):
    """Stem, stages and 1x1 convolution of a network, whose maps a head reads.

    The state dict has timm's names for these, so that weights of the classifier of the same trunk fit.
    """

    def __init__(self, spec: ArchSpec) -> None:
        super().__init__()
        model: Any = build_variant(spec, classes=0, global_pool="")
        self.conv_stem, self.bn1, self.blocks = model.conv_stem, model.bn1, model.blocks
        self.has_last_conv = spec.head.channels > 0
        if self.has_last_conv:
            self.conv_head, self.bn2 = model.conv_head, model.bn2
        tapped = taps(spec)
        self.last_channels = spec.head.channels or spec.stages[-1].blocks[-1].channels
        self.tap_channels = [tap.channels for tap in tapped]
        self._taps = [_place(tap) for tap in tapped]

    def maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (N, C, H, W) to the maps that the head taps, and the last one."""
        x = self.bn1(self.conv_stem(x))
        found = {_STEM_PLACE: x}
        for stage_index, stage in enumerate(self.blocks):
            for index, block in enumerate(stage):
                expansion, output = (stage_index, index, True), (stage_index, index, False)
                if expansion in self._taps:
                    found[expansion], x = expansion_and_output(block, x)
                else:
                    x = block(x)
                if output in self._taps:
                    found[output] = x
        if self.has_last_conv:
            x = self.bn2(self.conv_head(x))
        return (*[found[place] for place in self._taps], x)


def _place(tap: FeatureTap) -> tuple[int, int, bool]:
    """Stage and position of the block of a map, and whether it is its expansion."""
    if tap.block == STEM:
        return _STEM_PLACE
    _, stage, position = tap.block.split(".")
    return int(stage), int(position), bool(tap.inner)


def expansion_and_output(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Map (N, C, H, W) to the expansion and the output of an ``InvertedResidual``.

    Both are computed in timm's ``forward``, which returns the output alone.
    """
    expanded: Tensor = block.bn1(block.conv_pw(x))
    y = block.bn2(block.conv_dw(expanded))
    y = block.bn3(block.conv_pwl(block.se(block.aa(y))))
    return expanded, block.drop_path(y) + x if block.has_skip else y


class Detector(DenseNetwork):
    """A network with the head of SSDLite.

    Maps images (N, C, H, W) to the tensors of ``nas.arch.ops.output_ops``: class logits of every map of features, (N,
    anchors * (classes + 1), h, w), then box offsets, (N, anchors * 4, h, w).
    """

    def __init__(self, spec: ArchSpec) -> None:
        super().__init__(spec)
        head: Any = spec.head
        padding = PAD_TYPES[spec.padding]
        channels = [self.tap_channels[-1], self.last_channels]
        self.extra = nn.ModuleList()
        for width in head.extra_channels:
            self.extra.append(ExtraBlock(channels[-1], width, spec, head.activation, padding))
            channels.append(width)
        channels += self.tap_channels[:-1]
        classes, boxes = (
            [anchors * count for anchors in head.level_anchors] for count in (spec.classes + 1, BOX_VALUES)
        )
        self.class_heads = prediction_layers(channels, classes, spec, head.activation, padding)
        self.box_heads = prediction_layers(channels, boxes, spec, head.activation, padding)
        init_predictions(self.extra, self.class_heads, self.box_heads)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Predict classes, then boxes, on every map of features."""
        *finer, c4, last = self.maps(x)
        features = [c4, last]
        for block in self.extra:
            features.append(block(features[-1]))
        features += finer
        classes = [head(one) for head, one in zip(self.class_heads, features, strict=True)]
        boxes = [head(one) for head, one in zip(self.box_heads, features, strict=True)]
        return (*classes, *boxes)


class Segmenter(DenseNetwork):
    """A network with the head of LR-ASPP.

    Maps images (N, C, H, W) to logits (N, classes, h, w) at the stride of the tapped map.
    """

    def __init__(self, spec: ArchSpec) -> None:
        super().__init__(spec)
        head: Any = spec.head
        self.aspp_conv = nn.Conv2d(self.last_channels, head.filters, 1, bias=False)
        self.aspp_bn = NormAct(head.filters, spec, head.activation)
        self.aspp_gate = nn.Conv2d(self.last_channels, head.filters, 1, bias=False)
        self.high_classifier = nn.Conv2d(head.filters, spec.classes, 1)
        self.low_classifier = nn.Conv2d(self.tap_channels[0], spec.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify every position of the tapped map."""
        low, high = self.maps(x)
        gate = self.aspp_gate(high.mean((2, 3), keepdim=True)).sigmoid()
        logits = self.high_classifier(self.aspp_bn(self.aspp_conv(high)) * gate)
        if logits.shape[2:] != low.shape[2:]:
            logits = functional.interpolate(logits, size=low.shape[2:], mode="bilinear", align_corners=False)
        y: Tensor = logits + self.low_classifier(low)
        return y


def build_dense(spec: ArchSpec) -> DenseNetwork:
    """Build the module of a detector or segmenter with random weights."""
    if isinstance(spec.head, SSDLiteHead):
        return Detector(spec)
    if isinstance(spec.head, LRASPPHead):
        return Segmenter(spec)
    raise TypeError(f"{spec.name}: its head is a classifier's.")
