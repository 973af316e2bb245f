"""timm entry point: ``timm.create_model("nas_arch", spec="winner.yaml")``.

``import nas`` loads this module as soon as timm is loaded. Modules that need torch are imported inside functions:
timm may be loading because ``nas.model.build`` imports it, and that module is then not yet initialised.
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

# timm's argument names to fields of the spec. num_classes is not one: 0 (no classifier) is not a valid spec value.
FIELDS: Final = {"in_chans": "in_channels", "drop_rate": "dropout", "drop_path_rate": "drop_path"}


def nas_arch(
    pretrained: bool = False,
    spec: ArchSpec | str | Path | None = None,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,  # passed by timm to every entry point
    **kwargs: Any,
) -> nn.Module:
    """Build the network of ``spec`` with random weights, as a timm model.

    ``spec`` is an ArchSpec, a name of ``nas.arch.zoo`` or the path of a spec file. The model maps float images (N,
    in_channels, H, W) to logits (N, classes). ``num_classes`` (0: no classifier), ``in_chans``, ``drop_rate`` and
    ``drop_path_rate`` override the spec's values. Weights are loaded with timm's ``checkpoint_path=``. A file's
    ``provenance.normalisation`` (``mean`` and ``std`` of the training images on the 0..1 scale, one number per input
    channel) becomes the model's; otherwise ImageNet's is used.

    Raises: NasError for a missing spec, an unknown argument, ``pretrained=True`` or a faulty normalisation; SpecError
    for a faulty spec file.
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
    """Resolve ``spec`` to a network, with provenance if it is a file."""
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
    """Return ``mean`` and ``std`` of the file's provenance.

    Both have one number per input channel. Empty if the file has none, or if ``arch`` has another number of input
    channels than the file's network.

    Raises: NasError where they are not one number per channel.
    """
    statistics = file.provenance.get("normalisation")
    if statistics is None or arch.in_channels != file.arch.in_channels:
        return {}
    if not isinstance(statistics, Mapping) or set(statistics) != {"mean", "std"}:
        raise NasError(f"{where} {statistics!r}: must be a mapping of mean and std.")
    for name, values in statistics.items():
        numbers = isinstance(values, list) and all(_is_number(value) for value in values)
        if not numbers or len(values) != arch.in_channels or (name == "std" and min(values) <= 0):
            kind = "positive numbers" if name == "std" else "numbers"
            channels = f"one per input channel ({arch.in_channels})"
            raise NasError(f"{where}.{name} {values!r}: must be a list of {kind}, {channels}.")
    return {name: tuple(map(float, statistics[name])) for name in ("mean", "std")}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _default_cfg(arch: ArchSpec, normalisation: Mapping[str, tuple[float, ...]]) -> dict[str, Any]:
    """Return timm's ``default_cfg``; without ``normalisation``, ImageNet's statistics."""
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
