"""Import of timm's EfficientNet and MobileNetV3 networks as specs.

A spec is read from the module and verified by building it again.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from typing import Any, Final

import timm
import torch
from timm.layers import Conv2dSame, DropPath
from timm.models import is_model_in_modules
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn

from nas.arch import zoo
from nas.arch.parts import HeadSpec, NormSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, suggestion
from nas.model.build import build
from nas.model.timm_import.blocks import defined_trunk, inferred_trunk, read_blocks
from nas.model.timm_import.definition import TIMM_MODULES, timm_definition
from nas.model.timm_import.modules import activation_name

FAMILIES: Final = (
    "efficientnet*, mixnet*, mnasnet*, semnasnet*, spnasnet*, fbnet*, tinynet*, lcnet*, hardcorenas*, mobilenetv1* to "
    "mobilenetv4*, mobilenet_edgetpu* and their tf_ variants"
)
_DEFAULT_RESOLUTION_PX: Final = 224
# Features that a spec cannot express, by the class name of the module that implements them.
_INEXPRESSIBLE: Final = {
    "CondConv2d": "convolutions mixed from experts",
    "BlurPool2d": "blur pooling in place of strides",
    "AvgPool2d": "average pooling in place of strides",
    "GlobalContext": "global context in place of squeeze-excite",
    "GroupNormAct": "group norms",
    "LayerNormAct2d": "layer norms",
    "EvoNorm2dS0": "evolved norms",
}


def from_timm(model: nn.Module) -> ArchSpec:
    """Return the spec of a timm ``EfficientNet`` or ``MobileNetV3`` module.

    Its resolution in px is that of the model's ``default_cfg`` (224 without one). The spec is exact: ``build(spec)``
    has the same modules and state-dict keys and, with the same weights, the same outputs.

    What a module does not show matters when the spec is scaled: the ratios that channels were rounded from, and
    whether repeats of a block have a shortcut. It is taken from timm's definition of the architecture that
    ``default_cfg`` names, where it fits the module; otherwise from the published network with the same ``arch_id``.
    Failing both, ratios are the shortest decimals that give the channels, and blocks without room for a shortcut have
    ``skip`` None: a scaling that would give them one is refused.

    Raises: NasError naming the feature of the network that a spec cannot express.
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
    except AttributeError as error:  # modules of timm replaced by others
        raise NasError(
            f"{name} cannot be read exactly: its modules differ from those that timm builds ({error})."
        ) from None
    return spec


def timm_arch(name: str, field: str = "arch") -> ArchSpec:
    """Return the spec of timm's network ``name``, such as ``fbnetc_100``.

    ``field``: the setting's name, for errors. No weights are allocated or downloaded.

    Raises: NasError for an unknown name or an unsupported family, and as ``from_timm`` does.
    """
    if not timm.is_model(name):
        known = [model_name for module in TIMM_MODULES for model_name in timm.list_models(module=module)]
        raise NasError(f"{field} {f'timm/{name}'!r}: timm has no such network.{suggestion(name, known)}")
    if not is_model_in_modules(name, TIMM_MODULES):
        raise NasError(f"{field} {f'timm/{name}'!r}: its family is not supported; supported are {FAMILIES}.")
    with torch.device("meta"):
        return from_timm(timm.create_model(name, pretrained=False))


def _check_expressible(model: nn.Module) -> None:
    for path, module in model.named_modules():
        kind = type(module).__name__
        if kind in _INEXPRESSIBLE:
            raise NasError(f"it has {_INEXPRESSIBLE[kind]} ({kind} at {path}), which a spec cannot express.")
        if getattr(module, "conv_s2d", None) is not None:
            raise NasError(f"it has a space-to-depth convolution (at {path}), which a spec cannot express.")
        if isinstance(module, nn.Conv2d) and max(module.dilation) > 1:
            raise NasError(f"it has dilation in place of strides (at {path}), which a spec cannot express.")


def _read(name: str, model: Any) -> ArchSpec:
    if not isinstance(model.classifier, nn.Linear):
        raise NasError("it has no classifier; create it with num_classes of at least 1.")
    stem, activation = model.conv_stem, activation_name(model.bn1.act)
    blocks = read_blocks(model.blocks, stem.out_channels, activation)
    definition = timm_definition(name)
    defined = defined_trunk(blocks, activation, definition) if definition else None
    trunk = defined or inferred_trunk(blocks, activation)
    scales = {module.init_values for module in model.modules() if type(module).__name__ == "LayerScale2d"}
    spec = ArchSpec(
        name=name,
        stem=StemSpec(channels=stem.out_channels, kernel=stem.kernel_size[0], stride=stem.stride[0]),
        stages=trunk.stages,
        head=_head(model),
        resolution_px=_resolution_px(model),
        in_channels=stem.in_channels,
        classes=model.classifier.out_features,
        activation=activation,
        squeeze_excite=trunk.squeeze_excite,
        norm=NormSpec(eps=model.bn1.eps, momentum=model.bn1.momentum),
        padding="same" if any(isinstance(module, Conv2dSame) for module in model.modules()) else "symmetric",
        layer_scale=min(scales, default=None),
        dropout=model.drop_rate,
        drop_path=_drop_path(model),
    )
    return spec if defined else _as_published(spec)


def _as_published(spec: ArchSpec) -> ArchSpec:
    """Return ``spec`` with the block strings of the published network it equals.

    Without one, it is unchanged. Norm, input and number of classes may differ: they do not matter to the blocks.
    """
    adaptable = {name: getattr(spec, name) for name in ("norm", "resolution_px", "in_channels", "classes")}
    for published in map(zoo.get, zoo.names()):
        if (published.stem, published.head, published.depth) != (spec.stem, spec.head, spec.depth):
            continue
        if replace(published, **adaptable).arch_id == spec.arch_id:
            return replace(spec, stages=published.stages, squeeze_excite=published.squeeze_excite)
    return spec


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
        raise NasError(f"its input is {size[-2]} x {size[-1]} px; a spec needs a square input.")
    return int(size[-1])


def _drop_path(model: Any) -> float:
    """Return timm's ``drop_path_rate``, from the rule rate * i / n for block i of n."""
    blocks = [block for stage in model.blocks for block in stage]
    last = blocks[-1].drop_path
    return round(last.drop_prob * len(blocks) / (len(blocks) - 1), 9) if isinstance(last, DropPath) else 0.0


def _check_same(model: nn.Module, spec: ArchSpec) -> None:
    """Raise NasError unless ``build(spec)`` equals ``model``, modules and tensors."""
    with torch.device("meta"):
        rebuilt = build(spec)
    for theirs, ours in zip_longest(_structure(model), _structure(rebuilt), fillvalue="nothing"):
        if theirs != ours:
            raise NasError(f"it has {theirs} where its spec would have {ours}.")


def _structure(model: nn.Module) -> list[str]:
    """Describe tensors, shortcuts and modules, one line each.

    Models with equal lines compute the same outputs from the same weights.
    """
    skips = [f"a shortcut at {path}" for path, module in model.named_modules() if getattr(module, "has_skip", False)]
    tensors = [f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()]
    return [*tensors, *skips, *(line.strip() for line in repr(model).splitlines())]
