"""Strict parser of timm's block notation.

What timm would silently skip is an error that names it.
"""

from __future__ import annotations

import re
from typing import Final, cast

from nas.arch.blocks import (
    ACTIVATION_CODES,
    BLOCK_TYPES,
    EXPANDING_TYPES,
    BlockSpec,
    BlockType,
)
from nas.arch.option_values import check_length, parse_kernels, real_option, whole_option
from nas.arch.tensorflow_notation import group_stages, is_tensorflow_block, parse_tensorflow_block
from nas.core.errors import SpecError, suggestion

_SKIPS: Final = {"noskip": False, "skip": True, "unknownskip": None}
_FLAGS: Final = (*_SKIPS, "exponential", "dilated")
_OPTIONS: Final = ("r", "k", "s", "e", "c", "fc", "se", "a", "p", "n", "gs", "h", "d", "v")
_REQUIRED: Final = {"mqa": ("r", "k", "h", "s", "d", "c"), **dict.fromkeys(EXPANDING_TYPES, ("r", "k", "s", "e", "c"))}
# Options of timm without support here, listed so that their error differs from that for a typing error.
_TIMM_ONLY: Final = {"cc"}
_TIMM_ONLY_TYPES: Final = {"mha"}
_OPTION_PATTERN: Final = re.compile(r"([a-z]+)(\d.*)")


def parse_block(text: str) -> BlockSpec:
    """Parse one block string such as ``ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c40_se0.5_nsw``.

    The notation is timm's, with options of this project for what timm lacks: ``exponential``, ``dilated`` and
    ``unknownskip``.
    Unlike timm, which skips unknown options, an unknown, repeated or missing option is an error that names it. Strings
    of TensorFlow's releases (``tensorflow_notation``) are read too.

    Raises: SpecError.
    """
    check_length(text)
    if is_tensorflow_block(text):
        return parse_tensorflow_block(text)[0]
    kind, *tokens = text.strip().split("_")
    if kind in _TIMM_ONLY_TYPES:
        raise SpecError(
            f"block {text!r}: type {kind!r} exists in timm but is not supported; use {', '.join(BLOCK_TYPES)}."
        )
    if kind not in BLOCK_TYPES:
        raise SpecError(f"block {text!r}: unknown type {kind!r}; the types are {', '.join(BLOCK_TYPES)}.")
    options: dict[str, str] = {}
    for token in tokens:
        key, value = _split_token(token, text)
        if key in options:
            raise SpecError(f"block {text!r}: option {key!r} is given twice; keep one.")
        options[key] = value
    required = _REQUIRED.get(kind, ("r", "k", "s", "c"))
    missing = [key for key in required if key not in options]
    if missing:
        raise SpecError(f"block {text!r}: option {missing[0]!r} is missing; {kind} needs {', '.join(required)}.")
    flags = [flag for flag in _SKIPS if flag in options]
    if len(flags) > 1:
        raise SpecError(f"block {text!r}: {flags[0]!r} and {flags[1]!r} exclude each other; keep one.")
    if "skip" in options and kind != "cn":
        raise SpecError(f"block {text!r}: 'skip' is for cn blocks only; others have a shortcut unless 'noskip'.")
    try:
        return _build(cast(BlockType, kind), options)
    except SpecError as error:
        raise SpecError(f"block {text!r}: {error}") from None


def is_block_string(text: str) -> bool:
    """Whether ``text`` begins as a block string of either notation."""
    return text.strip().split("_")[0] in BLOCK_TYPES or is_tensorflow_block(text)


def split_stages(text: str) -> list[list[str]]:
    """Split a network in one text into the block strings of its stages.

    Blocks are separated by ``+`` or blanks, stages by ``|``. Without a ``|``, strings of TensorFlow are grouped.

    Raises: SpecError for a string of TensorFlow that cannot be parsed.
    """
    stages = [stage.replace("+", " ").split() for stage in text.split("|")]
    if len(stages) == 1 and stages[0] and all(map(is_tensorflow_block, stages[0])):
        return group_stages(stages[0])
    return stages


def first_in_channels(stages: list[list[str]]) -> int | None:
    """Channels that the stem must have for the first block string.

    None if the string does not say: timm's do not.
    """
    first = next((text for stage in stages for text in stage), "")
    return parse_tensorflow_block(first)[1] if is_tensorflow_block(first) else None


def _split_token(token: str, text: str) -> tuple[str, str]:
    if token in _FLAGS:
        return token, ""
    if token.startswith("n") and token[1:] in ACTIVATION_CODES:
        return "n", token[1:]
    match = _OPTION_PATTERN.fullmatch(token)
    key = match.group(1) if match else token
    if match and key in _OPTIONS and key != "n":
        return key, match.group(2)
    if match and key in _TIMM_ONLY:
        raise SpecError(f"block {text!r}: option {token!r} exists in timm but is not supported here.")
    if token.startswith("n"):
        codes = ", ".join(f"n{code}" for code in ACTIVATION_CODES)
        raise SpecError(
            f"block {text!r}: unknown option {token!r}; activations are {codes}.{suggestion(token, _FLAGS)}"
        )
    options = ", ".join((*_OPTIONS, *_FLAGS))
    raise SpecError(f"block {text!r}: unknown option {token!r}; the options are {options}.{suggestion(token, _FLAGS)}")


def _build(kind: BlockType, options: dict[str, str]) -> BlockSpec:
    start, end = options.get("a"), options.get("p")
    universal = kind == "uir"  # there, a and p are depthwise convolutions
    return BlockSpec(
        type=kind,
        repeats=whole_option("r", options["r"]),
        kernels=parse_kernels(options["k"]),
        stride=whole_option("s", options["s"]),
        channels=whole_option("c", options["c"]),
        expansion=real_option("e", options.get("e", "1")),
        se_ratio=real_option("se", options.get("se", "0")),
        expand_kernels=(1,) if universal or start is None else parse_kernels(start),
        project_kernels=(1,) if universal or end is None else parse_kernels(end),
        activation=ACTIVATION_CODES[options["n"]] if "n" in options else None,
        skip=next((skip for flag, skip in _SKIPS.items() if flag in options), kind != "cn"),
        partition="exponential" if "exponential" in options else "equal",
        dilated="dilated" in options,
        base_channels=whole_option("fc", options["fc"]) if "fc" in options else None,
        group_size=whole_option("gs", options["gs"]) if "gs" in options else None,
        start_kernel=whole_option("a", start) if universal and start is not None else 0,
        end_kernel=whole_option("p", end) if universal and end is not None else 0,
        heads=whole_option("h", options.get("h", "0")),
        key_channels=whole_option("d", options.get("d", "0")),
        kv_stride=whole_option("v", options.get("v", "1")),
    )
