"""Networks of timm's EfficientNet builder as specs: read from the module, and proved by building them again."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Final

import timm
import torch
from timm.layers import Conv2dSame, DropPath
from timm.models import is_model_in_modules
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn

from nas.arch.parts import HeadSpec, NormSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, suggestion
from nas.model.build import build
from nas.model.timm_import.blocks import find_blocks, merged, squeeze_excite
from nas.model.timm_import.modules import function_of

# timm's modules whose networks its EfficientNet builder makes, and what they call them.
TIMM_MODULES: Final = ("efficientnet", "mobilenetv3", "hardcorenas")
FAMILIES: Final = (
    "efficientnet*, mixnet*, mnasnet*, semnasnet*, spnasnet*, fbnet*, tinynet*, lcnet*, hardcorenas*, mobilenetv1* to "
    "mobilenetv4*, mobilenet_edgetpu* and their tf_ variants"
)
_DEFAULT_RESOLUTION_PX: Final = 224
# What these networks may have and a spec has not, by the type of the module that shows it.
_BEYOND: Final = {
    "CondConv2d": "convolutions mixed from experts",
    "BlurPool2d": "blur pooling in place of strides",
    "AvgPool2d": "average pooling in place of strides",
    "GlobalContext": "global context in place of squeeze-excite",
    "GroupNormAct": "group norms",
    "LayerNormAct2d": "layer norms",
    "EvoNorm2dS0": "evolved norms",
}


def from_timm(model: nn.Module) -> ArchSpec:
    """The spec of ``model``, one of timm's EfficientNet or MobileNetV3 class, at the input side of its ``default_cfg``.

    The spec is exact: ``build`` of it has the same modules and state-dict keys and, with the same weights, the same
    outputs. Ratios are read back from channels and may be written otherwise than timm writes them (an ``er`` block
    with e4 and fc24 on 32 channels is e3).

    Raises: NasError naming what the network has and a spec cannot express.
    """
    if type(model) not in (EfficientNet, MobileNetV3):
        raise NasError(f"{type(model).__name__}: only timm's EfficientNet and MobileNetV3 classes can be read.")
    name = str((getattr(model, "default_cfg", None) or {}).get("architecture") or type(model).__name__)
    try:
        _check_expressible(model)
        spec = _read(name, model)
        _check_same(model, spec)
    except NasError as error:
        raise NasError(f"{name} cannot be read exactly: {error}") from None
    except AttributeError as error:  # of modules that someone put in place of timm's
        raise NasError(f"{name} cannot be read exactly: it is not as timm builds it ({error}).") from None
    return spec


def timm_arch(name: str) -> ArchSpec:
    """``from_timm`` of timm's network of that name, such as ``fbnetc_100``; no weights are made or downloaded.

    Raises: NasError for an unknown name, one of another family, and what ``from_timm`` raises.
    """
    if not timm.is_model(name):
        known = [each for module in TIMM_MODULES for each in timm.list_models(module=module)]
        raise NasError(f"arch {f'timm/{name}'!r}: timm has no such network.{suggestion(name, known)}")
    if not is_model_in_modules(name, TIMM_MODULES):
        raise NasError(f"arch {f'timm/{name}'!r}: not of a family that can be read; those are {FAMILIES}.")
    with torch.device("meta"):
        return from_timm(timm.create_model(name, pretrained=False))


def _check_expressible(model: nn.Module) -> None:
    for path, module in model.named_modules():
        kind = type(module).__name__
        if kind in _BEYOND:
            raise NasError(f"it has {_BEYOND[kind]} ({kind} at {path}), which a spec has not.")
        if getattr(module, "conv_s2d", None) is not None:
            raise NasError(f"it has a convolution from space to depth (at {path}), which a spec has not.")
        if isinstance(module, nn.Conv2d) and max(module.dilation) > 1:
            raise NasError(f"it has dilation in place of strides (at {path}), which a spec has not.")


def _read(name: str, model: Any) -> ArchSpec:
    if not isinstance(model.classifier, nn.Linear):
        raise NasError("it has no classifier; create it with num_classes of at least 1.")
    stem, activation = model.conv_stem, function_of(model.bn1.act)
    found = find_blocks(model.blocks, stem.out_channels, activation)
    se = squeeze_excite(found, activation)
    scales = {module.init_values for module in model.modules() if type(module).__name__ == "LayerScale2d"}
    return ArchSpec(
        name=name,
        stem=StemSpec(channels=stem.out_channels, kernel=stem.kernel_size[0], stride=stem.stride[0]),
        stages=tuple(merged(stage, se) for stage in found),
        head=_head(model),
        resolution_px=_resolution_px(model),
        in_channels=stem.in_channels,
        classes=model.classifier.out_features,
        activation=activation,
        squeeze_excite=se,
        norm=NormSpec(eps=model.bn1.eps, momentum=model.bn1.momentum),
        padding="same" if any(isinstance(module, Conv2dSame) for module in model.modules()) else "symmetric",
        layer_scale=min(scales, default=None),
        dropout=model.drop_rate,
        drop_path=_drop_path(model),
    )


def _head(model: Any) -> HeadSpec:
    if isinstance(model.conv_head, nn.Identity):
        return HeadSpec(channels=0)
    channels = model.conv_head.out_channels
    if isinstance(model, EfficientNet):
        return HeadSpec(channels=channels)
    if not isinstance(model.norm_head, nn.Identity):
        return HeadSpec(channels=channels, kind="pool_conv_norm")
    return HeadSpec(channels=channels, kind="pool_conv_plain" if model.conv_head.bias is None else "pool_conv")


def _resolution_px(model: Any) -> int:
    size = (getattr(model, "default_cfg", None) or {}).get("input_size")
    if not size:
        return _DEFAULT_RESOLUTION_PX
    if size[-1] != size[-2]:
        raise NasError(f"its input is {size[-2]} x {size[-1]} px; a spec's is square.")
    return int(size[-1])


def _drop_path(model: Any) -> float:
    """timm's rate: that of block i of n is rate * i / n."""
    blocks = [block for stage in model.blocks for block in stage]
    last = blocks[-1].drop_path
    return round(last.drop_prob * len(blocks) / (len(blocks) - 1), 9) if isinstance(last, DropPath) else 0.0


def _check_same(model: nn.Module, spec: ArchSpec) -> None:
    """Refuse a ``spec`` whose network is not ``model``, module by module and tensor by tensor."""
    with torch.device("meta"):
        rebuilt = build(spec)
    for theirs, ours in zip_longest(_facts(model), _facts(rebuilt), fillvalue="nothing"):
        if theirs != ours:
            raise NasError(f"it has {theirs} where its spec would have {ours}.")


def _facts(model: nn.Module) -> list[str]:
    """Everything that makes two networks compute the same from the same weights, a line each."""
    skips = [f"a shortcut at {path}" for path, module in model.named_modules() if getattr(module, "has_skip", False)]
    tensors = [f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()]
    return [*tensors, *skips, *(line.strip() for line in repr(model).splitlines())]
