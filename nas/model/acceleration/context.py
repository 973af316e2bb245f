"""Context in which the layers of a module are computed in cheaper forms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from timm.layers import Conv2dSame, MixedConv2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from nas.model.acceleration.depthwise import convolve_depthwise
from nas.model.acceleration.pointwise import convolve_pointwise
from nas.model.acceleration.squeeze_excite import squeeze_excite
from nas.model.mixconv import MixConv2d

_Form: TypeAlias = Callable[[Tensor], Tensor | None]


@contextmanager
def fast_layers(model: nn.Module) -> Iterator[None]:
    """Context in which the layers of ``model`` are computed in cheaper forms.

    Those of depthwise and 1x1 convolutions, MixConv and squeeze-excite; results are the same up to rounding. Applies to
    batches of float32 and float64 on CPU without autocast; others are computed as before. Parameters and names in the
    state dict are unchanged, gradients can be differentiated again. Copies of the model made in the context keep the
    forms. Hooks of a MixConv's convolutions are not called. There is no forward-mode differentiation and no vmap.
    """
    forms = [(module, form) for module in model.modules() if (form := _form(module)) is not None]
    try:
        for module, form in forms:
            layer: Any = module
            layer.forward = functools.partial(_forward, module, form)  # of this module alone, not of its class
        yield
    finally:
        for module, _ in forms:
            module.__dict__.pop("forward", None)


def _forward(module: nn.Module, form: _Form, x: Tensor) -> Tensor:
    """Compute ``module`` in its cheaper form where that applies to ``x``."""
    y: Tensor | None = None
    is_float = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    if x.device.type == "cpu" and x.ndim == 4 and is_float:
        y = form(x)
    if y is None:
        plain: Any = type(module)
        y = plain.forward(module, x)
    return y


def _form(module: nn.Module) -> _Form | None:
    """Return the cheaper form of ``module``, or None.

    A form is a function of the input that returns None where it is no gain.
    """
    if "forward" in module.__dict__:
        return None
    if type(module) is SqueezeExcite:
        return functools.partial(squeeze_excite, module)
    if type(module) in (MixedConv2d, MixConv2d):
        convs: list[Any] = list(module.children())
    elif type(module) in (nn.Conv2d, Conv2dSame):
        convs = [module]
    else:
        return None
    if all(map(_is_depthwise, convs)):
        return functools.partial(convolve_depthwise, convs)
    return functools.partial(convolve_pointwise, convs) if all(map(_is_pointwise, convs)) else None


def _is_depthwise(conv: Any) -> bool:
    return (
        type(conv) in (nn.Conv2d, Conv2dSame)
        and conv.groups == conv.in_channels == conv.out_channels > 1
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


def _is_pointwise(conv: Any) -> bool:
    return (
        type(conv) in (nn.Conv2d, Conv2dSame)
        and conv.groups == 1
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.padding == (0, 0)
    )
