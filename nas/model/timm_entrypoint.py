"""timm entry point: ``timm.create_model("nas_arch", spec="winner.yaml")``.

``import nas`` loads this module as soon as timm is loaded. Modules that need torch are imported inside functions:
timm may be loading because ``nas.model.build`` imports it, and that module is then not yet initialised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from timm.models import register_model

from nas.arch import zoo
from nas.arch.files import SpecFile, load_spec_file, parse_spec
from nas.arch.heads import backbone, detector
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted, suggestion, unknown_choice
from nas.core.validation import check_number

if TYPE_CHECKING:
    from torch import nn

__all__ = ["nas_arch"]

# timm's argument names to fields of the spec. num_classes is not one: 0 (no classifier) is not a valid spec value.
FIELDS: Final = {"in_chans": "in_channels", "drop_rate": "dropout", "drop_path_rate": "drop_path"}
FEATURE_ARGUMENTS: Final = ("out_indices", "feature_cls", "feature_maps", "halve")  # these need features_only=True
ARGUMENTS: Final = ("spec", "num_classes", *FIELDS, "global_pool", "output_stride", "features_only", *FEATURE_ARGUMENTS)
# Arguments of timm's own models that a spec decides, and what to use instead.
INSTEAD: Final = {
    "act_layer": "set activation in the spec",
    "aa_layer": "a spec has no anti-aliasing layers; leave it out",
    "bn_eps": "set norm.eps in the spec",
    "bn_momentum": "set norm.momentum in the spec",
    "device": "move the model: timm.create_model(...).to(device)",
    "dtype": "convert the model: timm.create_model(...).to(dtype)",
    "feature_cfg": "use out_indices and feature_cls",
    "feature_location": "features are the outputs of blocks; choose them with out_indices",
    "fix_stem": "set stem.channels in the spec",
    "head_bias": "set head.kind in the spec",
    "head_norm": "set head.kind in the spec",
    "img_size": "images of any size are accepted; set resolution_px in the spec for the default",
    "layer_scale_init_value": "set layer_scale in the spec",
    "norm_layer": "set norm in the spec",
    "num_features": "set head.channels in the spec",
    "pad_type": "set padding in the spec",
    "pruned": "give the pruned network as the spec",
    "se_layer": "set squeeze_excite in the spec",
    "stem_kernel_size": "set stem.kernel in the spec",
    "stem_size": "set stem.channels in the spec",
}
POOLS: Final = ("avg", "max", "avgmax", "catavgmax", "fast", "fastavg", "fastmax", "fastavgmax", "fastcatavgmax", "")
FEATURE_CLASSES: Final = ("list", "dict", "hook", "fx", "getter")
WEIGHT_SOURCES: Final = ("file", "state_dict", "url", "hf_hub_id")  # entries of timm's pretrained_cfg
FEATURE_MAPS: Final = ("stages", "detection")
HEAD_MODULES: Final = (
    *("conv_head", "bn2", "norm_head", "classifier"),
    *("extra", "class_heads", "box_heads", "aspp_conv", "aspp_bn", "aspp_gate", "high_classifier", "low_classifier"),
)


def nas_arch(
    pretrained: bool = False,
    spec: ArchSpec | str | Path | Mapping[str, Any] | None = None,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: Any = None,  # passed by timm to every entry point
    pretrained_model_args: object = None,  # passed by timm for a folder: arguments that are among the others, too
    **kwargs: Any,
) -> nn.Module:
    """Build the network of ``spec`` with random weights, as a timm model.

    ``spec`` is an ArchSpec, a name of ``nas.arch.zoo``, the path of a spec file, or its content as plain data. The
    model maps float images (N, in_channels, H, W) to logits (N, classes). ``num_classes`` (0: no classifier),
    ``in_chans``, ``drop_rate`` and ``drop_path_rate`` override the spec's values, ``global_pool`` and ``output_stride``
    (a power of two from the stem's stride; later strides become dilations) mean the same as in timm. A file's
    ``provenance.normalisation`` (``mean`` and ``std`` of the training images on the 0..1 scale, one number per input
    channel) becomes the model's; otherwise ImageNet's is used. Its ``provenance.class_names``, in label order, become
    timm's ``label_names``.

    ``features_only=True`` returns a backbone: images to a list of maps (N, C, H, W), one per resolution or those of
    ``out_indices``, with timm's ``feature_info``. ``feature_cls`` (list, dict, hook, fx, getter) picks another of
    timm's feature extractors. ``feature_maps="detection"`` has C4 and C5 of detectors as its last two maps: the
    expansion of the block with the last stride, and the map before pooling; ``halve=True`` halves the channels between
    them (MobileNetV3, section 6.3). A detector's or segmenter's spec gives the maps of its trunk, with its output
    stride, a detector's with C4 and C5.

    Weights of the spec's own network are loaded with timm's ``checkpoint_path=``, or ``pretrained=True,
    pretrained_cfg_overlay={"file": ...}`` (with ``feature_cls``, this alone). They are converted as timm converts
    pretrained weights: the stem to ``in_chans``; a classifier of the spec's classes is left out where
    ``num_classes`` differs, the whole head for features. Halved channels have no such file: ``initial_state`` of
    ``nas.model.weights`` carries them over.

    Raises: NasError for a missing spec, an argument that a spec decides or that is unknown, a value out of range,
    ``pretrained=True`` without a source of weights, a faulty normalisation, or the spec of a detector or segmenter
    without ``features_only``; SpecError for a faulty spec file.
    """
    from timm.models import build_model_with_cfg

    from nas.model.build import build_variant

    if spec is None:
        raise NasError('nas_arch needs a spec: timm.create_model("nas_arch", spec="winner.yaml").')
    _check_arguments(kwargs)
    given = _given_cfg(pretrained_cfg, "pretrained_cfg") | _given_cfg(pretrained_cfg_overlay, "pretrained_cfg_overlay")
    if pretrained and not any(given.get(source) for source in WEIGHT_SOURCES):
        raise NasError(
            "pretrained: a spec has no published weights; load a file with checkpoint_path=..., "
            'or name one with pretrained_cfg_overlay={"file": ...}.'
        )
    file = _spec_file(spec)
    has_features = bool(kwargs.get("features_only"))
    if file.arch.task != "classification" and not has_features:
        raise NasError(
            f"network {quoted(file.arch.name)}: is for {file.arch.task}, and timm's models are classifiers; build it "
            "with nas.model.build.build, or add features_only=True for its backbone."
        )
    classes = kwargs.get("num_classes", file.arch.classes)
    fields = {FIELDS[name]: value for name, value in kwargs.items() if name in FIELDS}
    arch = replace(file.arch, **fields, classes=classes or file.arch.classes)
    cfg = _default_cfg(arch, _normalisation(file, arch, f"{spec}: provenance.normalisation"))
    cfg |= _label_names(file, classes, f"{spec}: provenance.class_names")
    options: dict[str, Any] = {name: kwargs[name] for name in ("global_pool", "output_stride") if name in kwargs}
    _check_options(arch, classes, **options)
    weights_shape = {
        "input_size": (file.arch.in_channels, *cfg["input_size"][1:]),
        "num_classes": file.arch.classes,
    }
    if kwargs.get("halve"):
        arch = _halved(arch)
    network: Any = build_variant(arch, classes=classes, **options)
    wrapper: dict[str, Any] = {}
    if has_features:
        network, wrapper = _features(network, arch, **{name: kwargs.get(name) for name in FEATURE_ARGUMENTS[:3]})
    network.register_load_state_dict_pre_hook(partial(_adapt_weights, file.arch.in_channels, file.arch.classes))
    model: nn.Module = build_model_with_cfg(
        lambda **_: network,
        "nas_arch",
        pretrained,
        pretrained_cfg=cfg | weights_shape | given,
        cache_dir=cache_dir,
        num_classes=classes,
        in_chans=arch.in_channels,
        **wrapper,
    )
    final = cfg | given
    if has_features:
        final = {name: value for name, value in final.items() if name not in ("num_classes", "classifier")}
    model.pretrained_cfg = model.default_cfg = final  # type: ignore[assignment]
    return model


register_model(nas_arch)


def _halved(arch: ArchSpec) -> ArchSpec:
    """Return the trunk of the detector of ``arch`` with halved channels."""
    return backbone(detector(arch, arch.classes, halve=True))


def _features(
    network: Any, arch: ArchSpec, out_indices: object, feature_cls: object, feature_maps: object
) -> tuple[Any, dict[str, Any]]:
    """Return a feature extractor, or the network with timm's arguments for one."""
    from nas.model.features import DetectionFeatures, NetworkFeatures, feature_levels

    levels = feature_levels(out_indices, len(network.feature_info))
    if feature_maps is None and feature_cls is None:
        feature_maps = "detection" if arch.task == "detection" else "stages"
    if feature_maps == "detection":
        return DetectionFeatures(network, levels, arch), {}
    if feature_cls is None:
        return NetworkFeatures(network, levels), {}
    wrapper: dict[str, Any] = {"features_only": True, "out_indices": levels, "feature_cls": feature_cls}
    if feature_cls in ("list", "dict"):  # these find the stages in a flattened network only
        wrapper["feature_cfg"] = {"flatten_sequential": True}
    return network, wrapper


def _adapt_weights(
    channels: int, classes: int, module: Any, state: dict[str, Any], prefix: str, *_: Any, **__: Any
) -> None:
    """Convert, in place, weights of ``channels`` and ``classes`` to ``module``'s.

    The same rules as timm's for pretrained weights. What does not fit for another reason stays as it is, for torch to
    report.
    """
    from timm.models import adapt_input_conv

    stem = state.get(f"{prefix}conv_stem.weight")
    if stem is not None and stem.shape[1] == channels != module.in_chans:
        state[f"{prefix}conv_stem.weight"] = adapt_input_conv(module.in_chans, stem, base_chans=channels)
    present = dict(module.named_children())
    for name in [name for name in state if name.startswith(prefix)]:
        part, _dot, leaf = name.removeprefix(prefix).partition(".")
        if part not in HEAD_MODULES:
            continue
        if part not in present:  # features
            del state[name]
        elif part == "classifier" and len(state[name]) == classes != module.num_classes:
            own = present[part].state_dict()
            if leaf in own:
                state[name] = own[leaf]
            else:
                del state[name]


def _check_arguments(kwargs: Mapping[str, Any]) -> None:
    """Check names and values of the arguments that need no network.

    Raises: NasError.
    """
    for name in kwargs:
        if name in INSTEAD:
            raise NasError(f"{name}: nas_arch builds what the spec says; {INSTEAD[name]}.")
        if name not in ARGUMENTS:
            raise unknown_choice("nas_arch argument", name, ARGUMENTS)
    for name in FEATURE_ARGUMENTS:
        if name in kwargs and not kwargs.get("features_only"):
            raise NasError(f"{name} {kwargs[name]!r}: needs features_only=True.")
    if kwargs.get("feature_cls") not in (None, *FEATURE_CLASSES):
        raise unknown_choice("feature_cls", kwargs["feature_cls"], FEATURE_CLASSES)
    for name in ("features_only", "halve"):
        if not isinstance(kwargs.get(name, False), bool):
            raise NasError(f"{name} {kwargs[name]!r}: must be True or False.")
    if kwargs.get("feature_maps") not in (None, *FEATURE_MAPS):
        raise unknown_choice("feature_maps", kwargs["feature_maps"], FEATURE_MAPS)
    if kwargs.get("feature_maps") == "detection" and kwargs.get("feature_cls") is not None:
        raise NasError(f"feature_cls {kwargs['feature_cls']!r}: leave it out with feature_maps='detection'.")
    # Here, not by the spec alone, so that messages have the names that the caller wrote.
    for name, low in (("num_classes", 0), ("in_chans", 1)):
        check_number(name, kwargs.get(name, low), low=low, whole=True)
    for name in ("drop_rate", "drop_path_rate"):
        check_number(name, kwargs.get(name, 0), low=0, high=1, open_high=True)


def _check_options(arch: ArchSpec, classes: int, global_pool: object = "avg", output_stride: object = None) -> None:
    """Check the arguments whose allowed values depend on the network.

    Raises: NasError.
    """
    if global_pool not in POOLS:
        raise unknown_choice("global_pool", global_pool, POOLS)
    if not global_pool and classes:
        raise NasError(f"global_pool '': a classifier needs pooled features; add num_classes=0 (is {classes}).")
    stem = arch.stem.stride
    allowed = [stem << power for power in range(6)]
    if output_stride is not None and (output_stride not in allowed or isinstance(output_stride, bool)):
        choices = ", ".join(map(str, allowed))
        raise NasError(f"output_stride {output_stride!r}: choose from {choices} (the stem's stride is {stem}).")


def _given_cfg(cfg: object, name: str) -> dict[str, Any]:
    """Return the entries of timm's ``pretrained_cfg`` that the caller gives."""
    from timm.models import PretrainedCfg

    if not cfg:
        return {}
    if isinstance(cfg, PretrainedCfg):
        return dict(cfg.to_dict())
    if not isinstance(cfg, Mapping):
        raise NasError(f'{name} {cfg!r}: a spec has no published weights; must be a mapping such as {{"file": ...}}.')
    known = [field.name for field in dataclass_fields(PretrainedCfg)]
    for key in cfg:
        if key not in known:
            raise unknown_choice(f"{name} entry", key, known)
    return dict(cfg)


def _spec_file(spec: object) -> SpecFile:
    """Resolve ``spec`` to a network, with provenance if it is a file."""
    if isinstance(spec, ArchSpec):
        return SpecFile(arch=spec)
    if isinstance(spec, Mapping):
        return parse_spec(yaml.safe_dump(dict(spec)))
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


def _label_names(file: SpecFile, classes: int, where: str) -> dict[str, tuple[str, ...]]:
    """Return timm's ``label_names`` from a spec file, unless its classes are replaced.

    Raises: NasError where they are not one text per class.
    """
    names = file.provenance.get("class_names")
    if names is None or classes != file.arch.classes:
        return {}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != classes:
        raise NasError(f"{where}: must be a list of {classes} names, one per class in label order.")
    return {"label_names": tuple(names)}


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
