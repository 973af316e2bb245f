"""``BlockSpec`` fields from the modules of timm's blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from timm.layers import MixedConv2d, MultiQueryAttention2d, get_act_layer
from timm.models import _efficientnet_blocks as timm_blocks
from torch import nn

from nas.arch.blocks import BlockSpec
from nas.arch.spec import NETWORK_ACTIVATIONS, hidden_channels
from nas.core.errors import NasError

# Keyed by class name, because timm defines some of torch's activations a second time.
_ACTIVATION_NAMES: Final = {
    get_act_layer(name).__name__: name for name in (*NETWORK_ACTIVATIONS, "sigmoid", "hard_sigmoid")
}
_MAX_DIGITS: Final = 6


def read_block(module: Any, channels: int) -> dict[str, Any]:
    """Return the ``BlockSpec`` fields of a timm block with ``channels`` inputs.

    Shortcut (``skip``) and squeeze-excite (``se_ratio``) are not included.

    Raises: NasError for a module that no spec can express.
    """
    reader = _READERS.get(type(module))
    if reader is None:
        raise NasError(f"a {type(module).__name__} is not a block type that a spec can express.")
    return reader(module, channels)


def activation_name(module: nn.Module) -> str:
    """Return the spec's name of an activation or gate module.

    Raises: NasError for one that no spec can express.
    """
    name = type(module).__name__
    if name not in _ACTIVATION_NAMES:
        raise NasError(f"activation {name}: a spec supports {', '.join(_ACTIVATION_NAMES.values())}.")
    return _ACTIVATION_NAMES[name]


def _kernels(conv: Any) -> tuple[int, ...]:
    return tuple(part.kernel_size[0] for part in _parts(conv))


def _parts(conv: Any) -> list[Any]:
    """Return the convolutions of a MixConv, or the single convolution in a list."""
    return list(conv.values()) if isinstance(conv, MixedConv2d) else [conv]


def _expansion(channels: int, hidden: int) -> float:
    """Return the shortest expansion ratio that turns ``channels`` into ``hidden``."""
    block = BlockSpec(type="ir", channels=hidden)
    for digits in range(_MAX_DIGITS + 1):
        ratio = round(hidden / channels, digits)
        if ratio > 0 and hidden_channels(replace(block, expansion=ratio), channels) == hidden:
            return ratio
    raise NasError(f"{hidden} hidden channels: a spec needs a multiple of 8 (was the network pruned?).")


def _group_size(conv: Any, channels: int, default: int) -> int | None:
    """Return ``channels`` per group; None for the ``default`` number of groups."""
    groups = _parts(conv)[0].groups
    return None if isinstance(conv, MixedConv2d) or groups == default else channels // groups


def _read_conv(module: Any, channels: int) -> dict[str, Any]:
    conv = module.conv
    return {
        "type": "cn",
        "channels": conv.out_channels,
        "kernels": _kernels(conv),
        "stride": conv.stride[0],
        "group_size": _group_size(conv, channels, 1),
        "activation": activation_name(module.bn1.act),
    }


def _read_separable(module: Any, channels: int) -> dict[str, Any]:
    return {
        "type": "dsa" if module.has_pw_act else "ds",
        "channels": module.conv_pw.out_channels,
        "kernels": _kernels(module.conv_dw),
        "stride": _parts(module.conv_dw)[0].stride[0],
        "project_kernels": _kernels(module.conv_pw),
        "group_size": _group_size(module.conv_dw, channels, channels),
        "activation": activation_name(module.bn1.act),
    }


def _read_inverted(module: Any, channels: int) -> dict[str, Any]:
    hidden = module.conv_pw.out_channels
    return {
        "type": "ir",
        "channels": module.conv_pwl.out_channels,
        "kernels": _kernels(module.conv_dw),
        "stride": _parts(module.conv_dw)[0].stride[0],
        "expansion": _expansion(channels, hidden),
        "expand_kernels": _kernels(module.conv_pw),
        "project_kernels": _kernels(module.conv_pwl),
        "group_size": _group_size(module.conv_dw, hidden, hidden),
        "activation": activation_name(module.bn1.act),
    }


def _read_fused(module: Any, channels: int) -> dict[str, Any]:
    hidden = module.conv_exp.out_channels
    return {
        "type": "er",
        "channels": module.conv_pwl.out_channels,
        "kernels": _kernels(module.conv_exp),
        "stride": module.conv_exp.stride[0],
        "expansion": _expansion(channels, hidden),
        "project_kernels": _kernels(module.conv_pwl),
        "group_size": _group_size(module.conv_exp, hidden, 1),
        "activation": activation_name(module.bn1.act),
    }


def _read_universal(module: Any, channels: int) -> dict[str, Any]:
    convs = {name: getattr(getattr(module, name), "conv", None) for name in ("dw_start", "dw_mid", "dw_end")}
    start, middle, end = (0 if conv is None else conv.kernel_size[0] for conv in convs.values())
    return {
        "type": "uir",
        "channels": module.pw_proj.conv.out_channels,
        "kernels": (middle,),
        "stride": max((conv.stride[0] for conv in convs.values() if conv is not None), default=1),
        "expansion": _expansion(channels, module.pw_exp.conv.out_channels),
        "start_kernel": start,
        "end_kernel": end,
        "activation": activation_name(module.pw_exp.bn.act),
    }


def _read_attention(module: Any, channels: int) -> dict[str, Any]:
    attention = module.attn
    if not isinstance(attention, MultiQueryAttention2d):
        raise NasError(f"a {type(attention).__name__}: a spec supports multi-query attention only.")
    conv = getattr(attention.key, "down_conv", None)
    return {
        "type": "mqa",
        "channels": attention.output.proj.out_channels,
        "kernels": (3,) if conv is None else _kernels(conv),
        "heads": attention.num_heads,
        "key_channels": attention.key_dim,
        "kv_stride": attention.kv_stride,
    }


_READERS: Final[dict[type, Callable[[Any, int], dict[str, Any]]]] = {
    timm_blocks.ConvBnAct: _read_conv,
    timm_blocks.DepthwiseSeparableConv: _read_separable,
    timm_blocks.InvertedResidual: _read_inverted,
    timm_blocks.EdgeResidual: _read_fused,
    timm_blocks.UniversalInvertedResidual: _read_universal,
    timm_blocks.MobileAttention: _read_attention,
}
