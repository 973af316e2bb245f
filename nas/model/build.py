"""Build the timm module of an ``ArchSpec``.

Parameters, state-dict keys and outputs are those of timm's own model of the same network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from timm.layers import create_conv2d, get_act_layer
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import EfficientNetBuilder, efficientnet_init_weights
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn

from nas.arch.blocks import BlockSpec, BlockType
from nas.arch.heads.attach import backbone
from nas.arch.spec import ArchSpec, PlacedBlock
from nas.model.mixconv import DepthwisePlan, custom_depthwise_plan, depthwise_conv

# Our paddings to timm's ``pad_type``.
PAD_TYPES: Final = {"symmetric": "", "same": "same"}
# Kernel and stride of the stem that both timm classes build, and the output stride beyond which MobileNetV3 dilates
# whatever its arguments.
TIMM_STEM: Final = (3, 2)
TIMM_OUTPUT_STRIDE: Final = 32


def build(spec: ArchSpec, *, dropout: float | None = None, drop_path: float | None = None) -> nn.Module:
    """Build the timm module of ``spec`` with random weights.

    It maps float images (N, in_channels, H, W), for any H and W in px, to logits (N, classes); a detector or segmenter
    to the outputs of ``nas.arch.ops.output_ops``, see ``nas.model.dense``. ``dropout`` and ``drop_path`` override the
    spec's rates; None keeps them. Under ``torch.device("meta")`` it has no storage and
    serves for counting.

    Raises: SpecError for rates outside [0, 1).
    """
    spec = replace(
        spec,
        dropout=spec.dropout if dropout is None else dropout,
        drop_path=spec.drop_path if drop_path is None else drop_path,
    )
    if spec.task != "classification":
        from nas.model.dense.network import build_dense

        return build_dense(spec)
    return build_variant(spec, classes=spec.classes)


def build_variant(
    spec: ArchSpec, *, classes: int, global_pool: str = "avg", output_stride: int | None = None
) -> nn.Module:
    """Build a spec's timm module with another classifier, pooling or stride.

    ``classes``: 0 for none, which leaves the pooled features. ``global_pool``: timm's name of the pooling; "" for none,
    with 0 classes only. ``output_stride``: largest ratio of the input side to a map's side, a power of two from the
    stem's stride; later strides become dilations (DeepLab, arXiv:1706.05587, section 3.1) and the state dict stays the
    same. None is that of a detector or segmenter, and keeps all strides of a classifier.
    """
    trunk = backbone(spec)
    counted = max(TIMM_OUTPUT_STRIDE, counted_stride(trunk))
    output_stride = output_stride or spec.output_stride
    if output_stride is not None:
        counted = output_stride * TIMM_STEM[1] // spec.stem.stride
    head = {"num_classes": classes, "global_pool": global_pool}
    model = (_pool_conv if trunk.head.pools_first else _conv_pool)(trunk, head, counted)
    _set_stem(model, trunk)
    _set_depthwise(model, spec)  # of a detector or segmenter with the strides that are left
    return model


def counted_stride(spec: ArchSpec) -> int:
    """Return the total stride as timm's builder counts it.

    The builder assumes a stem stride of 2.
    """
    return spec.total_stride // spec.stem.stride * TIMM_STEM[1]


def _conv_pool(spec: ArchSpec, head: Mapping[str, Any], output_stride: int) -> nn.Module:
    model: Any = EfficientNet(_block_args(spec), **_class_args(spec), **head, output_stride=output_stride)
    if spec.layer_scale is not None:
        _set_trunk(model, spec, output_stride)  # EfficientNet does not pass layer scale to its blocks
    return cast(nn.Module, model)


def _pool_conv(spec: ArchSpec, head: Mapping[str, Any], output_stride: int) -> nn.Module:
    model: Any = MobileNetV3(
        _block_args(spec),
        **_class_args(spec),
        **head,
        head_bias=spec.head.kind == "pool_conv",
        head_norm=spec.head.kind == "pool_conv_norm",
        layer_scale_init_value=spec.layer_scale,
    )
    if output_stride != TIMM_OUTPUT_STRIDE:
        _set_trunk(model, spec, output_stride)  # MobileNetV3 has no such argument
    return cast(nn.Module, model)


def _set_trunk(model: Any, spec: ArchSpec, output_stride: int) -> None:
    """Rebuild the blocks with builder arguments that the model class does not expose."""
    builder = EfficientNetBuilder(
        output_stride=output_stride,
        pad_type=PAD_TYPES[spec.padding],
        round_chs_fn=_unrounded,
        act_layer=get_act_layer(spec.activation),
        norm_layer=_norm_layer(spec),
        drop_path_rate=spec.drop_path,
        layer_scale_init_value=spec.layer_scale,
    )
    model.blocks = nn.Sequential(*builder(spec.stem.channels, _block_args(spec)))
    model.feature_info = builder.features
    model.stage_ends = [feature["stage"] for feature in builder.features]
    efficientnet_init_weights(model)


def _class_args(spec: ArchSpec) -> dict[str, Any]:
    """Return the constructor arguments that timm's two classes share."""
    return {
        "in_chans": spec.in_channels,
        "stem_size": spec.stem.channels,
        "fix_stem": True,
        "num_features": spec.head.channels,
        "round_chs_fn": _unrounded,
        "pad_type": PAD_TYPES[spec.padding],
        "act_layer": get_act_layer(spec.activation),
        "norm_layer": _norm_layer(spec),
        "drop_rate": spec.dropout,
        "drop_path_rate": spec.drop_path,
    }


def _unrounded(channels: int) -> int:
    """Return ``channels``: those of a spec are already scaled and rounded."""
    return channels


def _norm_layer(spec: ArchSpec) -> partial[nn.BatchNorm2d]:
    return partial(nn.BatchNorm2d, eps=spec.norm.eps, momentum=spec.norm.momentum)


def _block_args(spec: ArchSpec) -> list[list[dict[str, Any]]]:
    """Return timm's keyword arguments of every block, stage by stage.

    The format is that of timm's ``decode_arch_def``. timm's builder modifies them, so that every build needs its own.
    """
    placed = spec.placed_blocks()
    return [[_block_kwargs(next(placed), spec) for _ in range(stage.depth)] for stage in spec.stages]


def _block_kwargs(placed: PlacedBlock, spec: ArchSpec) -> dict[str, Any]:
    block = placed.block
    arguments: dict[str, Any] = {
        "block_type": block.type,
        "out_chs": block.channels,
        "stride": placed.stride,
        "act_layer": get_act_layer(block.activation) if block.activation else None,
    }
    if block.group_size is not None:
        arguments["group_size"] = block.group_size
    if block.type == "cn":
        return arguments | {"kernel_size": block.kernels[0], "skip": bool(block.skip)}
    arguments["noskip"] = not block.skip or block.type == "dsa"
    if block.has_expansion:
        arguments["exp_ratio"] = block.expansion
    arguments |= _TYPE_ARGUMENTS[block.type](block)
    if block.se_ratio:
        # A complete layer instead of se_ratio: timm's EfficientNet has no option for what the ratio is relative to.
        se = spec.squeeze_excite
        squeeze = se.squeeze_channels(block, placed.hidden_channels)
        inner = get_act_layer(se.activation) if se.activation else None
        arguments["se_layer"] = partial(SqueezeExcite, rd_channels=squeeze, gate_layer=se.gate, force_act_layer=inner)
    return arguments


def _inverted_arguments(block: BlockSpec) -> dict[str, Any]:
    expand, depthwise, project = map(_kernel_size, (block.expand_kernels, block.kernels, block.project_kernels))
    return {"exp_kernel_size": expand, "dw_kernel_size": depthwise, "pw_kernel_size": project}


def _separable_arguments(block: BlockSpec) -> dict[str, Any]:
    depthwise, project = map(_kernel_size, (block.kernels, block.project_kernels))
    return {"dw_kernel_size": depthwise, "pw_kernel_size": project, "pw_act": block.type == "dsa"}


def _fused_arguments(block: BlockSpec) -> dict[str, Any]:
    arguments = {"exp_kernel_size": block.kernels[0], "pw_kernel_size": _kernel_size(block.project_kernels)}
    return arguments | ({} if block.base_channels is None else {"force_in_chs": block.base_channels})


def _universal_arguments(block: BlockSpec) -> dict[str, Any]:
    sides = block.start_kernel, block.kernels[0], block.end_kernel
    return {f"dw_kernel_size_{where}": side for where, side in zip(("start", "mid", "end"), sides, strict=True)}


def _attention_arguments(block: BlockSpec) -> dict[str, Any]:
    return {
        "dw_kernel_size": block.kernels[0],
        "num_heads": block.heads,
        "key_dim": block.key_channels,
        "value_dim": block.key_channels,
        "kv_stride": block.kv_stride,
    }


_TYPE_ARGUMENTS: Final[Mapping[BlockType, Callable[[BlockSpec], dict[str, Any]]]] = {
    "ir": _inverted_arguments,
    "ds": _separable_arguments,
    "dsa": _separable_arguments,
    "er": _fused_arguments,
    "uir": _universal_arguments,
    "mqa": _attention_arguments,
}


def _kernel_size(kernels: tuple[int, ...]) -> int | list[int]:
    """Return kernel sizes in timm's notation: an int, or a list for a MixConv."""
    return kernels[0] if len(kernels) == 1 else list(kernels)


def _set_stem(model: Any, spec: ArchSpec) -> None:
    """Replace the stem convolution where it differs from the one of timm's classes."""
    stem = spec.stem
    if (stem.kernel, stem.stride) == TIMM_STEM:
        return
    model.conv_stem = create_conv2d(
        spec.in_channels, stem.channels, stem.kernel, stride=stem.stride, padding=PAD_TYPES[spec.padding]
    )
    efficientnet_init_weights(model.conv_stem)
    for feature in model.feature_info:
        feature["reduction"] = feature["reduction"] * stem.stride // TIMM_STEM[1]


def _set_depthwise(model: nn.Module, spec: ArchSpec) -> None:
    """Replace the depthwise convolutions that timm cannot build."""
    for placed in spec.placed_blocks():
        plan = custom_depthwise_plan(placed.block, placed.stride, placed.hidden_channels)
        if plan is not None:
            block = model.get_submodule(placed.path)
            plan = _dilated(plan, block.get_submodule("conv_dw"))
            conv = depthwise_conv(*plan, padding=PAD_TYPES[spec.padding])
            efficientnet_init_weights(conv)
            block.conv_dw = conv


def _dilated(plan: DepthwisePlan, built: nn.Module) -> DepthwisePlan:
    """Return ``plan`` with the stride and dilation of timm's own convolution.

    They differ from the spec's where an output stride has turned strides into dilations.
    """
    conv = next(module for module in built.modules() if isinstance(module, nn.Conv2d))
    dilations = tuple(dilation * conv.dilation[0] for dilation in plan.dilations)
    return plan._replace(dilations=dilations, stride=conv.stride[0])
