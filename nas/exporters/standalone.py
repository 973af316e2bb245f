"""Deployment files of a winner: safetensors weights and a standalone Python file.

The Python file needs torch and timm only.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from nas.arch.blocks import format_block
from nas.arch.complexity import complexity
from nas.arch.inputs import input_facts
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.model import mixconv
from nas.model.build import PAD_TYPES, TIMM_OUTPUT_STRIDE, TIMM_STEM, counted_stride

_HEADER_AT: Final = 8  # bytes, which hold the length of the header
_MAX_HEADER_BYTES: Final = 10_000_000  # of a safetensors file: names, shapes and metadata


def save_weights(model: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the state dict of ``model`` to ``path`` as safetensors.

    timm's ``checkpoint_path=`` reads it too. Shapes and dtypes are unchanged. ``metadata``: text by name. The same
    weights and metadata give the same bytes.

    Raises: NasError if the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # Not by save_file, whose files are readable by their owner only.
    content = save(tensors, metadata={**(metadata or {}), "format": "pt"})
    write_bytes_atomically(Path(path), _with_sorted_metadata(content))


def _with_sorted_metadata(content: bytes) -> bytes:
    """Sort the metadata in the header of a safetensors file.

    safetensors 0.8 writes them in another order each time: with four entries 50 files of equal content had 24 different
    hashes, by which a user or a cache would take them for different weights.
    """
    start, end = _HEADER_AT, _HEADER_AT + int.from_bytes(content[:_HEADER_AT], "little")
    header = json.loads(content[start:end])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _HEADER_AT)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(_HEADER_AT, "little") + text + content[end:]


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load all weights of ``model`` from a safetensors file.

    Raises: NasError for an unreadable file, or names and shapes other than the model's.
    """
    most = sum(8 * tensor.numel() for tensor in model.state_dict().values()) + _MAX_HEADER_BYTES
    try:
        if Path(path).stat().st_size > most:
            raise NasError(f"weights {str(path)!r}: larger than the {most:,} bytes that the network's can have.")
        tensors = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise NasError(f"weights {str(path)!r}: not a readable safetensors file ({error}).") from None
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    mismatched = [name for name in (*expected, *stored) if expected.get(name) != stored.get(name)]
    if mismatched:
        name, summary = mismatched[0], f"{len(set(mismatched))} tensors do not fit the network"
        raise NasError(
            f"weights {str(path)!r}: {summary}, first {name!r}: the file has {stored.get(name, 'none')}, "
            f"the network {expected.get(name, 'none')}; build it from the spec that the weights were saved with."
        )
    model.load_state_dict(tensors)


def standalone_source(spec: ArchSpec, provenance: Mapping[str, Any] | None = None) -> str:
    """Generate Python source that builds the network of ``spec`` with timm's classes.

    It defines ``build(num_classes=, in_chans=)``, whose module has the state-dict keys and, with the same weights,
    the outputs of ``nas.model.build.build``. ``provenance``: of the spec file; its class names and normalisation become
    constants.

    Raises: NasError for a faulty provenance, and for networks that timm's classes cannot build: detectors and
    segmenters, too large a total stride for MobileNetV3, or layer scale in EfficientNet.
    """
    if spec.task != "classification":
        raise NasError(
            f"{spec.name}: timm's classes build classifiers, and this network is for {spec.task}; load the spec file "
            "with nas.load_spec and build it with nas.model.build.build, or export another format."
        )
    exceeds_stride = counted_stride(spec) > TIMM_OUTPUT_STRIDE
    if spec.head.pools_first and exceeds_stride:
        raise NasError(
            f"{spec.name}: timm's MobileNetV3 class supports a total stride of at most {TIMM_OUTPUT_STRIDE}, this "
            f"network has {counted_stride(spec)}; load the spec file instead."
        )
    if spec.layer_scale is not None and not spec.head.pools_first:
        raise NasError(
            f"{spec.name}: timm's EfficientNet class does not support layer scale; load the spec file instead."
        )
    values: dict[str, Any] = {
        "spec": spec,
        "facts": input_facts(spec, provenance),
        "name": " ".join(spec.name.replace("\\", "/").replace('"', "'").split()),
        "cost": complexity(spec),
        "stages": _timm_strings(spec),
        "plans": _plans(spec),
        "source": inspect.getsource(mixconv.depthwise_conv) + "\n\n" + inspect.getsource(mixconv.MixConv2d),
        "class_name": "MobileNetV3" if spec.head.pools_first else "EfficientNet",
        "se_layer": _se_layer(spec),
        "output_stride": counted_stride(spec) if exceeds_stride else None,
        "pad_type": PAD_TYPES[spec.padding],
        "other_stem": (spec.stem.kernel, spec.stem.stride) != TIMM_STEM,
    }
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    docstring, body = environment.from_string(_TEMPLATE).render(values).split("\n", 1)
    return f"{docstring}\n\n{_imports(body)}\n{body}"


def _timm_strings(spec: ArchSpec) -> list[list[str]]:
    """Return block strings without the tokens that timm does not support."""
    return [
        [format_block(replace(block, partition="equal", dilated=False)) for block in stage.blocks]
        for stage in spec.stages
    ]


def _plans(spec: ArchSpec) -> dict[str, mixconv.DepthwisePlan]:
    """Return the depthwise convolutions that timm's notation lacks, by block path."""
    plans = {}
    for placed in spec.placed_blocks():
        plan = mixconv.custom_depthwise_plan(placed.block, placed.stride, placed.hidden_channels)
        if plan is not None:
            plans[placed.path] = plan
    return plans


def _se_layer(spec: ArchSpec) -> str:
    """Return the Python expression of the squeeze-excite layer; empty if unused."""
    se = spec.squeeze_excite
    squeezes = [
        se.squeeze_channels(placed.block, placed.hidden_channels)
        for placed in spec.placed_blocks()
        if placed.block.se_ratio
    ]
    if not squeezes:
        return ""
    arguments = [] if se.gate == "sigmoid" else [f'gate_layer="{se.gate}"']
    if se.activation:
        arguments.append(f'force_act_layer="{se.activation}"')
    if se.divisor == 8:
        is_usual = se.round_limit == SqueezeExcite().round_limit
        rounding = "round_channels" if is_usual else f"partial(round_channels, round_limit={se.round_limit})"
        arguments.append(f"rd_round_fn={rounding}")
    elif min(squeezes) == 1:  # perhaps rounded up from 0, which timm would not do
        arguments.append("rd_round_fn=lambda channels: max(1, round(channels))")
    return f"partial(SqueezeExcite, {', '.join(arguments)})" if arguments else "SqueezeExcite"


def _imports(body: str) -> str:
    lines = ["from collections.abc import Sequence"] if "Sequence[" in body else []
    lines += ["from functools import partial", "", "import torch"]
    for module, names in _IMPORTS:
        used = [name for name, usage in names if usage in body]
        if used:
            lines.append(f"from {module} import {', '.join(used)}")
    return "\n".join([*lines, "from torch import nn"])


# Modules and names that a standalone file may import, each name with the text by which its use is detected.
_IMPORTS: Final = (
    ("timm.layers", (("create_conv2d", "create_conv2d("), ("get_act_layer", "get_act_layer("))),
    ("timm.models._efficientnet_blocks", (("SqueezeExcite", "SqueezeExcite"),)),
    (
        "timm.models._efficientnet_builder",
        (
            ("decode_arch_def", "decode_arch_def("),
            ("efficientnet_init_weights", "efficientnet_init_weights("),
            ("round_channels", "round_channels"),
        ),
    ),
    ("timm.models.efficientnet", (("EfficientNet", "= EfficientNet("),)),
    ("timm.models.mobilenetv3", (("MobileNetV3", "= MobileNetV3("),)),
)

_TEMPLATE: Final = '''\
"""{{ name }}: {{ "{:,}".format(cost.params) }} parameters, {{ "{:,}".format(cost.macs) }} multiply-adds at \
{{ spec.resolution_px }} px; needs torch and timm only."""

RESOLUTION_PX = {{ spec.resolution_px }}
{% if "class_names" in facts %}
CLASS_NAMES = {{ facts.class_names | pprint }}  # in label order
{% endif %}
{% if "normalisation" in facts %}
MEAN, STD = {{ facts.normalisation.mean }}, {{ facts.normalisation.std }}  # per channel, for pixels scaled to 0..1
{% endif %}
ARCH_DEF = [
{% for strings in stages %}
    ["{{ strings | join('", "') }}"],
{% endfor %}
]
{% if plans %}
# Depthwise convolutions that timm's notation lacks, by block: channels, kernels and dilations per group; the stride.
DEPTHWISE = {
{% for path, plan in plans.items() %}
    "{{ path }}": ({{ plan.channels }}, {{ plan.kernels }}, {{ plan.dilations }}, {{ plan.stride }}),
{% endfor %}
}


{{ source }}{% endif %}


def build(num_classes={{ spec.classes }}, in_chans={{ spec.in_channels }}):
    """Build the network with random weights."""
    block_args = decode_arch_def(ARCH_DEF)
{% if se_layer and class_name == "EfficientNet" and spec.squeeze_excite.relative_to == "expanded" %}
    for args in sum(block_args, []):  # timm's class takes the ratio relative to the block's input channels
        if ratio := args.pop("se_ratio", 0):
            args["se_layer"] = partial({{ se_layer }}, rd_ratio=ratio)
{% endif %}
    model = {{ class_name }}(
        block_args,
        num_classes=num_classes,
        in_chans=in_chans,
        stem_size={{ spec.stem.channels }},
        fix_stem=True,
        num_features={{ spec.head.channels }},
{% if spec.head.kind == "pool_conv_plain" %}
        head_bias=False,
{% elif spec.head.kind == "pool_conv_norm" %}
        head_norm=True,
{% endif %}
{% if spec.layer_scale is not none %}
        layer_scale_init_value={{ spec.layer_scale }},
{% endif %}
        round_chs_fn=lambda channels: channels,
{% if output_stride %}
        output_stride={{ output_stride }},
{% endif %}
        pad_type="{{ pad_type }}",
        act_layer=get_act_layer("{{ spec.activation }}"),
        norm_layer=partial(nn.BatchNorm2d, eps={{ spec.norm.eps }}, momentum={{ spec.norm.momentum }}),
{% if se_layer %}
        se_layer={{ se_layer }},
{% if class_name == "MobileNetV3" %}
        se_from_exp={{ spec.squeeze_excite.relative_to == "expanded" }},
{% endif %}
{% endif %}
        drop_rate={{ spec.dropout }},
        drop_path_rate={{ spec.drop_path }},
    )
{% if other_stem %}
    stem = {{ spec.stem.channels }}, {{ spec.stem.kernel }}
    model.conv_stem = create_conv2d(in_chans, *stem, stride={{ spec.stem.stride }}, padding="{{ pad_type }}")
{% endif %}
{% if plans %}
    for path, plan in DEPTHWISE.items():
        model.get_submodule(path).conv_dw = depthwise_conv(*plan, padding="{{ pad_type }}")
{% endif %}
{% if plans or other_stem %}
    efficientnet_init_weights(model)
{% endif %}
    return model


if __name__ == "__main__":
    model = build().eval()
    images = torch.zeros(1, {{ spec.in_channels }}, RESOLUTION_PX, RESOLUTION_PX)
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters, output", tuple(model(images).shape))
'''
