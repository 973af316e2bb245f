"""Block strings of TensorFlow's MnasNet, EfficientNet and MixNet releases.

tensorflow/tpu: ``mnasnet_models.py``, ``efficientnet_builder.py``, ``mixnet_builder.py``. Parsing is strict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from nas.arch.blocks import BlockSpec, format_block, format_kernels, format_number
from nas.arch.option_values import check_length, parse_kernels, real_option, whole_option
from nas.core.errors import SpecError, suggestion

_START: Final = re.compile(r"r\d+(_|$)")
_TOKEN: Final = re.compile(r"([a-z]+)(\d.*)")
_REQUIRED: Final = ("r", "k", "s", "e", "i", "o")
_VALUED: Final = (*_REQUIRED, "se", "a", "p")
_FLAGS: Final = ("noskip", "sw", "dilated")
_UNSUPPORTED: Final = {
    "c": "a block without a depthwise convolution",
    "f": "a fused block",
    "cc": "a conditional convolution",
}


def is_tensorflow_block(text: str) -> bool:
    """Whether ``text`` begins as a block string of TensorFlow: with its repeats."""
    return _START.match(text.strip()) is not None


def parse_tensorflow_block(text: str) -> tuple[BlockSpec, int]:
    """Parse ``r2_k3.5_a1.1_p1.1_s22_e6_i16_o24_se0.25_sw``.

    The result is the block and its input channels.

    ``e1`` has no expansion convolution, timm's ``ds``; other ratios are ``ir``. ``s22`` is stride 2 in both directions,
    ``i`` and ``o`` are input and output channels, ``a`` and ``p`` (MixNet, always both) the groups of the expansion and
    the projection, ``sw`` swish. Without ``sw``, the activation is the network's.

    Raises: SpecError naming the token.
    """
    check_length(text)
    options: dict[str, str] = {}
    for token in text.strip().split("_"):
        match = _TOKEN.fullmatch(token)
        key, value = (match[1], match[2]) if match else (token, "")
        if key in options:
            raise SpecError(f"block {text!r}: option {key!r} is given twice; keep one.")
        if match and key in _UNSUPPORTED:
            raise SpecError(
                f"block {text!r}: option {token!r}, {_UNSUPPORTED[key]}, exists in TensorFlow's notation but is not "
                "supported here; use timm's notation."
            )
        if key not in (_VALUED if match else _FLAGS):
            names = ", ".join((*_VALUED, *_FLAGS))
            raise SpecError(
                f"block {text!r}: unknown option {token!r}; the options of TensorFlow's notation are {names}."
                f"{suggestion(token, _FLAGS)}"
            )
        options[key] = value
    missing = [key for key in _REQUIRED if key not in options]
    if missing:
        raise SpecError(
            f"block {text!r}: option {missing[0]!r} is missing; TensorFlow's notation needs {', '.join(_REQUIRED)}."
        )
    if ("a" in options) != ("p" in options):
        raise SpecError(f"block {text!r}: options 'a' and 'p' (MixNet) come together; add the other, a1 or p1 for one.")
    try:
        return _build(options)
    except SpecError as error:
        raise SpecError(f"block {text!r}: {error}") from None


def _build(options: dict[str, str]) -> tuple[BlockSpec, int]:
    stride = options["s"]
    if stride not in ("11", "22"):
        raise SpecError(f"option {'s' + stride!r}: must be s11 or s22, the strides in both directions.")
    expansion = whole_option("e", options["e"])
    in_channels = whole_option("i", options["i"])
    if not in_channels:
        raise SpecError("option 'i0': input channels must be at least 1.")
    block = BlockSpec(
        type="ds" if expansion == 1 else "ir",
        repeats=whole_option("r", options["r"]),
        kernels=parse_kernels(options["k"]),
        stride=int(stride[0]),
        channels=whole_option("o", options["o"]),
        expansion=float(expansion),
        se_ratio=real_option("se", options.get("se", "0")),
        expand_kernels=parse_kernels(options.get("a", "1")),
        project_kernels=parse_kernels(options.get("p", "1")),
        activation="swish" if "sw" in options else None,
        skip="noskip" not in options,
        dilated="dilated" in options,
    )
    return block, in_channels


def format_tensorflow_block(block: BlockSpec, in_channels: int) -> str:
    """Format ``block`` in TensorFlow's notation.

    Inverse of ``parse_tensorflow_block``.

    Raises: SpecError naming what the notation cannot say.
    """
    problems = (
        (block.type not in ("ir", "ds"), f"type {block.type}"),
        (block.type == "ir" and block.expansion == 1, "an expansion convolution of ratio 1"),
        (block.expansion != int(block.expansion), f"expansion {block.expansion:g}, not a whole number"),
        (block.activation not in (None, "swish"), f"activation {block.activation}"),
        (block.partition != "equal", f"partition {block.partition}"),
        (block.group_size is not None, f"group_size {block.group_size}"),
        (block.skip is None, "that a shortcut is not known"),
    )
    for found, what in problems:
        if found:
            raise SpecError(f"block {format_block(block)!r}: TensorFlow's notation cannot say {what}; use timm's.")
    parts = [f"r{block.repeats}", f"k{format_kernels(block.kernels)}"]
    if (block.expand_kernels, block.project_kernels) != ((1,), (1,)):
        parts += [f"a{format_kernels(block.expand_kernels)}", f"p{format_kernels(block.project_kernels)}"]
    parts += [f"s{block.stride}{block.stride}", f"e{format_number(block.expansion)}"]
    parts += [f"i{in_channels}", f"o{block.channels}"]
    if block.se_ratio:
        parts.append(f"se{format_number(block.se_ratio)}")
    flags = (("sw", block.activation is not None), ("noskip", not block.skip), ("dilated", block.dilated))
    return "_".join([*parts, *(flag for flag, is_set in flags if is_set)])


def group_stages(strings: Sequence[str]) -> list[list[str]]:
    """Stages of TensorFlow's list of blocks, which names none.

    A stage begins with a stride, with other output channels than before, and after a block that repeats: as timm groups
    the published networks.

    Raises: SpecError for a string that cannot be parsed.
    """
    stages: list[list[str]] = []
    before: BlockSpec | None = None
    for text in strings:
        block, _ = parse_tensorflow_block(text)
        if before is None or block.stride != 1 or block.channels != before.channels or before.repeats > 1:
            stages.append([])
        stages[-1].append(text)
        before = block
    return stages
