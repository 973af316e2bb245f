"""``timm.create_model("nas_arch", spec="winner.yaml")``: the entry point that makes every spec a timm model.

``import nas`` loads this module as soon as timm is loaded. What needs torch is imported in the functions: timm may
be loading because ``nas.model.build`` is, and that module then is not there yet.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from timm.models import register_model

from nas.arch.errors import NasError, unknown
from nas.arch.files import load
from nas.arch.spec import ArchSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["nas_arch"]

# Fields of the spec by timm's names for them; num_classes 0 (no classifier) is not among a spec's classes.
FIELDS: Final = {"in_chans": "in_channels", "drop_rate": "dropout", "drop_path_rate": "drop_path"}


def nas_arch(
    pretrained: bool = False,
    spec: ArchSpec | str | Path | None = None,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    **kwargs: Any,
) -> nn.Module:
    """The network of ``spec``, an ArchSpec or the path of a spec file, with random weights.

    ``num_classes`` (0: no classifier), ``in_chans``, ``drop_rate`` and ``drop_path_rate`` override the spec's. Weights
    come by timm's ``checkpoint_path=``. Raises: NasError for a missing spec, an unknown argument or
    ``pretrained=True``; SpecError for a faulty spec file. timm hands ``cache_dir`` to every entry point.
    """
    from nas.model.build import build

    if spec is None:
        raise NasError('nas_arch needs a spec: timm.create_model("nas_arch", spec="winner.yaml").')
    if pretrained or pretrained_cfg or pretrained_cfg_overlay:
        raise NasError("pretrained: a spec has no published weights; load a file with checkpoint_path=...")
    classes = kwargs.pop("num_classes", None)
    for name in kwargs:
        if name not in FIELDS:
            raise unknown("nas_arch argument", name, ("spec", "num_classes", *FIELDS))
    arch = spec if isinstance(spec, ArchSpec) else load(spec)
    arch = replace(arch, **{FIELDS[name]: value for name, value in kwargs.items()})
    if classes:
        arch = replace(arch, classes=classes)
    model = build(arch)
    if classes == 0:
        model.reset_classifier(0)  # type: ignore[operator]
    model.pretrained_cfg = model.default_cfg = _default_cfg(arch)  # type: ignore[assignment]
    return model


register_model(nas_arch)


def _default_cfg(arch: ArchSpec) -> dict[str, Any]:
    """timm's description of a model's input and ends, from which it makes transforms; ImageNet's mean and spread."""
    from timm.models import PretrainedCfg

    side = arch.resolution_px
    cfg: dict[str, Any] = PretrainedCfg(
        architecture="nas_arch",
        input_size=(arch.in_channels, side, side),
        num_classes=arch.classes,
        first_conv="conv_stem",
        classifier="classifier",
    ).to_dict()
    return cfg
