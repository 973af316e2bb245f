"""torchvision's detector and segmenter as oracles, and their weights in our names."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor
from torchvision.models.segmentation.lraspp import LRASPP

from nas.arch.parts import NormSpec

SSD_NORM: Final = NormSpec(eps=1e-3, momentum=0.03)  # of torchvision's ssdlite320
BACKBONES: Final = {"large": mobilenet_v3_large, "small": mobilenet_v3_small}
_EXTRA: Final = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))
_LRASPP: Final = {
    "cbr.0": "aspp_conv",
    "cbr.1": "aspp_bn",
    "scale.1": "aspp_gate",
    "low_classifier": "low_classifier",
    "high_classifier": "high_classifier",
}


class DetectorMaps(nn.Module):
    """torchvision's SSDLite without transform and post-processing.

    Maps images (N, 3, H, W) to its maps of class logits, then those of boxes, as ``output_ops`` orders them.
    """

    def __init__(self, size: str, outputs: int, *, halved: bool) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=SSD_NORM.eps, momentum=SSD_NORM.momentum)
        network = BACKBONES[size](weights=None, norm_layer=norm, reduced_tail=halved)
        self.backbone = _mobilenet_extractor(network, 6, norm)
        boxes = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
        channels = retrieve_out_channels(self.backbone, (320, 320))
        self.head = SSDLiteHead(channels, boxes.num_anchors_per_location(), outputs, norm)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = list(self.backbone(images).values())
        heads = (self.head.classification_head, self.head.regression_head)
        return tuple(module(one) for head in heads for module, one in zip(head.module_list, maps, strict=True))


def ssd_maps(model: SSD) -> DetectorMaps:
    """The maps of a whole torchvision detector."""
    maps = DetectorMaps.__new__(DetectorMaps)
    nn.Module.__init__(maps)
    maps.backbone, maps.head = model.backbone, model.head
    return maps


def segmenter_logits(size: str, classes: int, filters: int = 128, *, low: str = "last") -> nn.Module:
    """torchvision's LR-ASPP at output stride 16, its logits not enlarged to the image.

    ``low``: ``first`` block of stride 8, which torchvision taps, or the ``last``. torchvision dilates the block
    whose stride is removed as well; here it is not dilated, as in TensorFlow and timm.
    """
    network = BACKBONES[size](weights=None, norm_layer=nn.BatchNorm2d, dilated=True).features
    strided = [index for index, block in enumerate(network) if getattr(block, "_is_cn", False)]
    depthwise = next(one for one in network[strided[-1]].modules() if isinstance(one, nn.Conv2d) and one.groups > 1)
    depthwise.dilation, depthwise.padding = (1, 1), tuple(side // 2 for side in depthwise.kernel_size)
    low_at = strided[-3] if low == "first" else strided[-2] - 1
    channels = network[low_at].out_channels, network[-1].out_channels
    getter = IntermediateLayerGetter(network, {str(low_at): "low", str(len(network) - 1): "high"})
    return _Logits(LRASPP(getter, *channels, classes, filters))


class _Logits(nn.Module):
    def __init__(self, model: LRASPP) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model.classifier(self.model.backbone(images))
        return logits


def renamed(theirs: nn.Module, ours: nn.Module) -> dict[str, Tensor]:
    """The state dict of a torchvision model in our names.

    The head's by name. Stem and blocks in execution order, which both have, as their outputs tell.
    """
    state = theirs.state_dict()
    prefix = "model." if isinstance(theirs, _Logits) else ""
    head = {name: _head_name(name.removeprefix(prefix)) for name in state}
    result = {new: state[name] for name, new in head.items() if new}
    trunk = [name for name, new in head.items() if not new]
    own = [name for name in ours.state_dict() if name not in result]
    return result | {name: state[other] for name, other in zip(own, trunk, strict=True)}


def _head_name(name: str) -> str:
    """Our name of a tensor of the head, "" for one of the network before it."""
    parts = name.split(".")
    if parts[:2] == ["backbone", "extra"]:
        _, _, index, layer, which, leaf = parts
        return f"extra.{index}.{_EXTRA[int(layer)][int(which)]}.{leaf}"
    if parts[0] == "head":
        kind = "class_heads" if parts[1] == "classification_head" else "box_heads"
        index, rest = parts[3], parts[4:]
        module = {"0.0": "conv_dw", "0.1": "bn"}.get(".".join(rest[:2]), "conv")
        return f"{kind}.{index}.{module}.{rest[-1]}"
    if parts[0] == "classifier":
        module, leaf = name.removeprefix("classifier.").rsplit(".", 1)
        return f"{_LRASPP[module]}.{leaf}"
    return ""


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Draw norms and biases, so that equal outputs mean equal networks."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            tensors: tuple[Any, ...] = (module.weight, module.bias, module.running_mean, module.running_var)
            for tensor, (low, high) in zip(tensors, ((0.8, 1.2), (-0.2, 0.2), (-0.2, 0.2), (0.8, 1.2)), strict=True):
                tensor.data.uniform_(low, high, generator=generator)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.data.uniform_(-0.2, 0.2, generator=generator)
