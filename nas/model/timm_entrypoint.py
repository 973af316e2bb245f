"""``timm.create_model("nas_arch", spec="winner.yaml")``: the entry point that makes every spec a timm model.

``import nas`` loads this module as soon as timm is loaded. What needs torch is imported in the functions: timm may
be loading because ``nas.model.build`` is, and that module then is not there yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from timm.models import register_model

from nas.arch import zoo
from nas.arch.files import SpecFile, load_spec_file
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, suggestion, unknown_choice

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
    """The network of ``spec``, an ArchSpec, a name of ``nas.arch.zoo`` or the path of a spec file, with random weights.

    ``num_classes`` (0: no classifier), ``in_chans``, ``drop_rate`` and ``drop_path_rate`` override the spec's. Weights
    come by timm's ``checkpoint_path=``. A file's ``provenance.normalisation`` (``mean`` and ``std`` of the training
    images on the 0..1 scale, one number per input channel) becomes the model's; else they are ImageNet's.

    Raises: NasError for a missing spec, an unknown argument, ``pretrained=True`` or a faulty normalisation; SpecError
    for a faulty spec file. timm hands ``cache_dir`` to every entry point.
    """
    from nas.model.build import build

    if spec is None:
        raise NasError('nas_arch needs a spec: timm.create_model("nas_arch", spec="winner.yaml").')
    if pretrained or pretrained_cfg or pretrained_cfg_overlay:
        raise NasError("pretrained: a spec has no published weights; load a file with checkpoint_path=...")
    classes = kwargs.pop("num_classes", None)
    for name in kwargs:
        if name not in FIELDS:
            raise unknown_choice("nas_arch argument", name, ("spec", "num_classes", *FIELDS))
    file = _spec_file(spec)
    arch = replace(file.arch, **{FIELDS[name]: value for name, value in kwargs.items()})
    if classes:
        arch = replace(arch, classes=classes)
    cfg = _default_cfg(arch, _normalisation(file, arch, f"{spec}: provenance.normalisation"))
    model = build(arch)
    if classes == 0:
        model.reset_classifier(0)  # type: ignore[operator]
    model.pretrained_cfg = model.default_cfg = cfg  # type: ignore[assignment]
    return model


register_model(nas_arch)


def _spec_file(spec: object) -> SpecFile:
    """The network that ``spec`` means, with its provenance where it is a file's."""
    if isinstance(spec, ArchSpec):
        return SpecFile(arch=spec)
    if not isinstance(spec, str | Path):
        raise NasError(f"spec {spec!r}: must be an ArchSpec, the path of a spec file, or a name such as mixnet_s.")
    if isinstance(spec, str) and spec in zoo.names():
        return SpecFile(arch=zoo.get(spec))
    if not Path(spec).suffix and not Path(spec).is_file():
        near = suggestion(str(spec), zoo.names())
        raise NasError(f"spec {str(spec)!r}: neither a published network nor a spec file.{near}")
    return load_spec_file(spec)


def _normalisation(file: SpecFile, arch: ArchSpec, where: str) -> dict[str, tuple[float, ...]]:
    """``mean`` and ``std`` that the file gives; empty where it gives none, or ``arch`` takes other channels than it.

    Raises: NasError where they are not one number per channel.
    """
    given = file.provenance.get("normalisation")
    if given is None or arch.in_channels != file.arch.in_channels:
        return {}
    if not isinstance(given, Mapping) or set(given) != {"mean", "std"}:
        raise NasError(f"{where} {given!r}: must be a mapping of mean and std.")
    for word, values in given.items():
        numbers = isinstance(values, list) and all(_is_number(value) for value in values)
        if not numbers or len(values) != arch.in_channels or (word == "std" and min(values) <= 0):
            kind = "positive numbers" if word == "std" else "numbers"
            channels = f"one per input channel ({arch.in_channels})"
            raise NasError(f"{where}.{word} {values!r}: must be a list of {kind}, {channels}.")
    return {word: tuple(map(float, given[word])) for word in ("mean", "std")}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _default_cfg(arch: ArchSpec, normalisation: Mapping[str, tuple[float, ...]]) -> dict[str, Any]:
    """timm's description of a model's input and ends, from which it makes transforms; by default ImageNet's colours."""
    from timm.models import PretrainedCfg

    side = arch.resolution_px
    cfg: dict[str, Any] = PretrainedCfg(
        architecture="nas_arch",
        input_size=(arch.in_channels, side, side),
        num_classes=arch.classes,
        first_conv="conv_stem",
        classifier="classifier",
        **normalisation,
    ).to_dict()
    return cfg
