"""Networks as specs: block notation, exact cost, scaling and published networks.

Does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.arch import zoo
    from nas.arch.blocks import (
        ACTIVATIONS,
        BLOCK_TYPES,
        DEPTHWISE_TYPES,
        EXPANDING_TYPES,
        BlockSpec,
        BlockType,
        format_block,
        format_kernels,
        format_number,
    )
    from nas.arch.complexity import BYTES_PER_ELEMENT, Complexity, LayerCost, layers
    from nas.arch.files import SpecFile, dump_scaled_spec, dump_spec, load_spec, load_spec_file, parse_spec, save_spec
    from nas.arch.inputs import input_facts
    from nas.arch.limits import MAX_CHANNELS, MAX_FACTOR, MAX_GROUPS, MAX_PHI, MAX_RESOLUTION_PX
    from nas.arch.notation import first_in_channels, is_block_string, parse_block, split_stages
    from nas.arch.option_values import parse_kernels
    from nas.arch.parts import MOBILENET_V3_SE, HeadKind, HeadSpec, NormSpec, SqueezeExcite, StemSpec
    from nas.arch.rewrites import HEAD_REWRITES, Rewrites, RewriteStep
    from nas.arch.rounding import scale_repeats, split_channels
    from nas.arch.spec import (
        NETWORK_ACTIVATIONS,
        TASKS,
        ArchSpec,
        Padding,
        PlacedBlock,
        StageSpec,
        can_skip,
        hidden_channels,
        spatial_groups,
    )
    from nas.arch.tensorflow_notation import format_tensorflow_block, is_tensorflow_block, parse_tensorflow_block
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "inputs": ["input_facts"],
            "limits": ["MAX_CHANNELS", "MAX_FACTOR", "MAX_GROUPS", "MAX_PHI", "MAX_RESOLUTION_PX"],
            "blocks": [
                "ACTIVATIONS",
                "BLOCK_TYPES",
                "DEPTHWISE_TYPES",
                "EXPANDING_TYPES",
                "BlockSpec",
                "BlockType",
                "format_block",
                "format_kernels",
                "format_number",
            ],
            "complexity": ["BYTES_PER_ELEMENT", "Complexity", "LayerCost", "layers"],
            "option_values": ["parse_kernels"],
            "files": [
                "SpecFile",
                "dump_scaled_spec",
                "dump_spec",
                "load_spec",
                "load_spec_file",
                "parse_spec",
                "save_spec",
            ],
            "notation": ["first_in_channels", "is_block_string", "parse_block", "split_stages"],
            "parts": ["MOBILENET_V3_SE", "HeadKind", "HeadSpec", "NormSpec", "SqueezeExcite", "StemSpec"],
            "rewrites": ["HEAD_REWRITES", "RewriteStep", "Rewrites"],
            "rounding": ["scale_repeats", "split_channels"],
            "spec": [
                "NETWORK_ACTIVATIONS",
                "ArchSpec",
                "Padding",
                "PlacedBlock",
                "StageSpec",
                "can_skip",
                "hidden_channels",
                "spatial_groups",
                "TASKS",
            ],
            "tensorflow_notation": ["format_tensorflow_block", "is_tensorflow_block", "parse_tensorflow_block"],
        },
        submodules=["zoo"],
    )

__all__ = [
    "TASKS",
    "MAX_RESOLUTION_PX",
    "MAX_PHI",
    "MAX_GROUPS",
    "MAX_FACTOR",
    "MAX_CHANNELS",
    "ACTIVATIONS",
    "BLOCK_TYPES",
    "BYTES_PER_ELEMENT",
    "DEPTHWISE_TYPES",
    "EXPANDING_TYPES",
    "HEAD_REWRITES",
    "MOBILENET_V3_SE",
    "NETWORK_ACTIVATIONS",
    "ArchSpec",
    "BlockSpec",
    "BlockType",
    "Complexity",
    "HeadKind",
    "HeadSpec",
    "LayerCost",
    "NormSpec",
    "Padding",
    "PlacedBlock",
    "RewriteStep",
    "Rewrites",
    "SpecFile",
    "SqueezeExcite",
    "StageSpec",
    "StemSpec",
    "can_skip",
    "dump_scaled_spec",
    "dump_spec",
    "first_in_channels",
    "format_block",
    "format_kernels",
    "format_number",
    "format_tensorflow_block",
    "hidden_channels",
    "input_facts",
    "is_block_string",
    "is_tensorflow_block",
    "layers",
    "load_spec",
    "load_spec_file",
    "parse_block",
    "parse_kernels",
    "parse_spec",
    "parse_tensorflow_block",
    "save_spec",
    "scale_repeats",
    "spatial_groups",
    "split_channels",
    "split_stages",
    "zoo",
]
