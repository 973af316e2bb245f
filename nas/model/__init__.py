"""Conversion between an ``ArchSpec`` and a timm module; MixConv; initialisation.

The only package that uses timm's private names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.model import mixconv
    from nas.model.acceleration import fast_layers
    from nas.model.build import PAD_TYPES, TIMM_OUTPUT_STRIDE, TIMM_STEM, counted_stride
    from nas.model.initialization import zero_init_residual
    from nas.model.layers import activation_layers, linear_activations, without_shortcuts, without_squeeze_excite
    from nas.model.timm_folder import TIMM_CONFIG, write_timm_folder
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "build": ["PAD_TYPES", "TIMM_OUTPUT_STRIDE", "TIMM_STEM", "counted_stride"],
            "acceleration": ["fast_layers"],
            "initialization": ["zero_init_residual"],
            "timm_folder": ["TIMM_CONFIG", "write_timm_folder"],
            "layers": ["activation_layers", "linear_activations", "without_shortcuts", "without_squeeze_excite"],
        },
        submodules=["mixconv"],
    )

__all__ = [
    "PAD_TYPES",
    "TIMM_CONFIG",
    "TIMM_OUTPUT_STRIDE",
    "TIMM_STEM",
    "activation_layers",
    "counted_stride",
    "fast_layers",
    "linear_activations",
    "mixconv",
    "without_shortcuts",
    "without_squeeze_excite",
    "write_timm_folder",
    "zero_init_residual",
]
