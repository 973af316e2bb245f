"""One block string of a network: its fields, their rules, and timm's block notation read and written strictly."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, cast

from nas.arch.checks import check_whole
from nas.arch.errors import SpecError, nearest, unknown

BlockType = Literal["ir", "ds", "dsa", "er", "cn"]
Partition = Literal["equal", "exponential"]

BLOCK_TYPES: Final = ("ir", "ds", "dsa", "er", "cn")
DEPTHWISE_TYPES: Final = ("ir", "ds", "dsa")
EXPANDING_TYPES: Final = ("ir", "er")
ACTIVATION_CODES: Final = {"re": "relu", "r6": "relu6", "hs": "hard_swish", "sw": "swish", "mi": "mish"}
ACTIVATIONS: Final = tuple(ACTIVATION_CODES.values())
PARTITIONS: Final = ("equal", "exponential")

_CODE_OF_ACTIVATION: Final = {name: code for code, name in ACTIVATION_CODES.items()}
_FLAGS: Final = ("noskip", "skip", "exponential", "dilated")
_OPTIONS: Final = ("r", "k", "s", "e", "c", "se", "a", "p", "n")
# Options of timm that no network of this project uses; named so that the message can tell them from typing errors.
_TIMM_ONLY: Final = {"fc", "cc", "gs", "d", "h", "v"}
_TIMM_ONLY_TYPES: Final = {"uir", "mqa", "mha"}
_OPTION_PATTERN: Final = re.compile(r"([a-z]+)(\d.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """``repeats`` equal blocks of one type, as one string of timm's notation.

    ``type``: ``ir`` inverted residual (MobileNetV2), ``ds`` depthwise separable, ``dsa`` the same with an activation
    after the pointwise convolution and no shortcut (MobileNetV1), ``er`` fused inverted residual, ``cn`` one
    convolution with normalisation and activation.

    ``kernels``: one odd side in px per MixConv group. ``partition``: how channels are dealt to the groups, ``equal``
    (remainder to group 0, as timm) or ``exponential`` (group i gets 1/2^i, MixConv paper section 3.2). ``dilated``:
    a k x k kernel is a 3x3 with dilation (k-1)/2 wherever the stride is 1 (same section). ``expand_kernels`` and
    ``project_kernels``: one side per group of the grouped pointwise convolutions, ``(1, 1)`` for ``a1.1``.
    ``channels``: output channels. ``expansion``: hidden over input channels. ``se_ratio``: squeeze over input or
    expanded channels, as the network's ``SqueezeExcite`` says; 0 is none. ``activation``: None takes the network's.
    ``stride`` belongs to the first of the repeats.
    """

    type: BlockType
    channels: int
    repeats: int = 1
    kernels: tuple[int, ...] = (3,)
    stride: int = 1
    expansion: float = 1.0
    se_ratio: float = 0.0
    expand_kernels: tuple[int, ...] = (1,)
    project_kernels: tuple[int, ...] = (1,)
    activation: str | None = None
    skip: bool = True
    partition: Partition = "equal"
    dilated: bool = False

    def __post_init__(self) -> None:
        for field, allowed in (("type", BLOCK_TYPES), ("partition", PARTITIONS), ("activation", ACTIVATIONS)):
            value = getattr(self, field)
            if value not in allowed and not (field == "activation" and value is None):
                raise unknown(field, value, allowed, error=SpecError)
        check_whole("channels", self.channels, minimum=1)
        check_whole("repeats", self.repeats, minimum=1)
        if self.stride not in (1, 2):
            raise SpecError(f"stride {self.stride!r}: a block's stride is 1 or 2.")
        for field in ("kernels", "expand_kernels", "project_kernels"):
            _check_kernels(field, getattr(self, field))
        if not (math.isfinite(self.expansion) and self.expansion > 0):
            raise SpecError(f"expansion {self.expansion!r}: must be a positive number.")
        if not 0 <= self.se_ratio <= 1:
            raise SpecError(f"se_ratio {self.se_ratio!r}: must lie between 0 (no squeeze-excite) and 1.")
        self._check_type_takes()

    def _check_type_takes(self) -> None:
        """Refuse fields that the block type would ignore: an ignored choice is a different network than was meant."""
        if not self.has_expansion and self.expansion != 1:
            raise SpecError(f"expansion {self.expansion:g}: a {self.type} block has no expansion; use an ir block.")
        if self.type != "ir" and self.expand_kernels != (1,):
            raise SpecError(f"expand_kernels {self.expand_kernels}: only an ir block has a pointwise expansion.")
        if self.type == "cn" and (len(self.kernels) > 1 or self.se_ratio or self.project_kernels != (1,)):
            raise SpecError("a cn block is one convolution: it takes one kernel, no squeeze-excite and no projection.")
        if self.type == "er" and (len(self.kernels) > 1 or self.dilated):
            raise SpecError("an er block takes one undilated kernel: its expansion is a dense convolution.")
        if self.dilated and self.type == "cn":
            raise SpecError("dilated: only the depthwise convolution of an ir, ds or dsa block can be dilated.")
        if self.partition == "exponential" and not self.has_depthwise:
            raise SpecError("partition exponential: only a depthwise MixConv (ir, ds, dsa) is partitioned.")

    @property
    def has_depthwise(self) -> bool:
        """Whether the block can hold a MixConv."""
        return self.type in DEPTHWISE_TYPES

    @property
    def has_expansion(self) -> bool:
        """Whether the block has ``expansion`` times as many channels inside as at its input."""
        return self.type in EXPANDING_TYPES

    def taps(self, stride: int) -> tuple[tuple[int, int], ...]:
        """Side in px and dilation of each kernel as its weights hold it at ``stride``.

        Strided blocks are never dilated, and a 3x3 kernel dilates by (3-1)/2 = 1, which is no dilation.
        """
        if not self.dilated or stride != 1:
            return tuple((side, 1) for side in self.kernels)
        return tuple((3, (side - 1) // 2) if side > 3 else (side, 1) for side in self.kernels)

    def __str__(self) -> str:
        return format_block(self)


def parse_block(text: str) -> BlockSpec:
    """Read one block string such as ``ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c40_se0.5_nsw``.

    The notation is timm's, with two words of this project for what timm lacks: ``exponential`` and ``dilated``.
    Unlike timm, which skips what it does not know, an unknown, repeated or missing option is an error naming it.

    Raises: SpecError.
    """
    kind, *tokens = text.strip().split("_")
    if kind in _TIMM_ONLY_TYPES:
        raise SpecError(f"block {text!r}: type {kind!r} is timm's but not supported; use {', '.join(BLOCK_TYPES)}.")
    if kind not in BLOCK_TYPES:
        raise SpecError(f"block {text!r}: unknown type {kind!r}; the types are {', '.join(BLOCK_TYPES)}.")
    options: dict[str, str] = {}
    for token in tokens:
        key, value = _split_token(token, text)
        if key in options:
            raise SpecError(f"block {text!r}: option {key!r} is given twice.")
        options[key] = value
    missing = [key for key in _required(kind) if key not in options]
    if missing:
        raise SpecError(f"block {text!r}: option {missing[0]!r} is missing; {kind} needs {', '.join(_required(kind))}.")
    if "skip" in options and ("noskip" in options or kind != "cn"):
        raise SpecError(f"block {text!r}: 'skip' is for cn blocks alone; others have a shortcut unless 'noskip'.")
    try:
        return _build(cast(BlockType, kind), options)
    except SpecError as error:
        raise SpecError(f"block {text!r}: {error}") from None


def format_block(block: BlockSpec) -> str:
    """The block string of ``block``; ``parse_block`` of it gives ``block`` again."""
    parts = [block.type, f"r{block.repeats}", f"k{format_kernels(block.kernels)}"]
    if block.expand_kernels != (1,):
        parts.append(f"a{format_kernels(block.expand_kernels)}")
    if block.project_kernels != (1,):
        parts.append(f"p{format_kernels(block.project_kernels)}")
    parts.append(f"s{block.stride}")
    if block.has_expansion:
        parts.append(f"e{number(block.expansion)}")
    parts.append(f"c{block.channels}")
    if block.se_ratio:
        parts.append(f"se{number(block.se_ratio)}")
    if block.activation is not None:
        parts.append(f"n{_CODE_OF_ACTIVATION[block.activation]}")
    if block.type == "cn" and block.skip:
        parts.append("skip")
    if block.type != "cn" and not block.skip:
        parts.append("noskip")
    if block.partition == "exponential":
        parts.append("exponential")
    if block.dilated:
        parts.append("dilated")
    return "_".join(parts)


def number(value: float) -> str:
    """The shortest text that reads back as ``value``: ``6`` for 6.0, ``0.25``."""
    return str(int(value)) if value == int(value) else repr(float(value))


def parse_kernels(text: str) -> tuple[int, ...]:
    """``"3.5.7"`` or ``"k3.5.7"`` as ``(3, 5, 7)``; the prefix keeps dashboards from reading it as a number."""
    sides = text.removeprefix("k").split(".")
    if not all(side.isascii() and side.isdigit() for side in sides):
        raise SpecError(f"kernels {text!r}: must be whole numbers joined by dots, such as 3.5.7.")
    return tuple(int(side) for side in sides)


def format_kernels(kernels: tuple[int, ...]) -> str:
    """``(3, 5, 7)`` as ``3.5.7``; ``parse_kernels`` of it gives ``kernels`` again."""
    return ".".join(str(side) for side in kernels)


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
        raise SpecError(f"block {text!r}: option {token!r} is timm's but not supported here.")
    if token.startswith("n"):
        codes = ", ".join(f"n{code}" for code in ACTIVATION_CODES)
        raise SpecError(f"block {text!r}: unknown option {token!r}; activations are {codes}.{nearest(token, _FLAGS)}")
    words = ", ".join((*_OPTIONS, *_FLAGS))
    raise SpecError(f"block {text!r}: unknown option {token!r}; the options are {words}.{nearest(token, _FLAGS)}")


def _required(kind: str) -> tuple[str, ...]:
    return ("r", "k", "s", "e", "c") if kind in EXPANDING_TYPES else ("r", "k", "s", "c")


def _build(kind: BlockType, options: dict[str, str]) -> BlockSpec:
    return BlockSpec(
        type=kind,
        repeats=_whole("r", options["r"]),
        kernels=parse_kernels(options["k"]),
        stride=_whole("s", options["s"]),
        channels=_whole("c", options["c"]),
        expansion=_real("e", options.get("e", "1")),
        se_ratio=_real("se", options.get("se", "0")),
        expand_kernels=parse_kernels(options.get("a", "1")),
        project_kernels=parse_kernels(options.get("p", "1")),
        activation=ACTIVATION_CODES[options["n"]] if "n" in options else None,
        skip="skip" in options if kind == "cn" else "noskip" not in options,
        partition="exponential" if "exponential" in options else "equal",
        dilated="dilated" in options,
    )


def _whole(key: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise SpecError(f"option {key + text!r}: needs a whole number after {key!r}.")
    return int(text)


def _real(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"option {key + text!r}: needs a number after {key!r}.") from None


def _check_kernels(field: str, kernels: tuple[int, ...]) -> None:
    if not kernels or any(not isinstance(side, int) or side < 1 or side % 2 == 0 for side in kernels):
        raise SpecError(f"{field} {kernels!r}: must be odd, positive whole numbers, one per group.")
