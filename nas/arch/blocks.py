"""Block specs: the fields of one block string, their rules, and its formatting.

The format is timm's block notation; ``nas.arch.notation`` parses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from nas.arch.limits import MAX_BLOCKS, MAX_CHANNELS, MAX_EXPANSION, MAX_GROUPS, MAX_HEADS, MAX_KERNEL
from nas.core.errors import SpecError, quoted, unknown_choice
from nas.core.validation import check_whole

BlockType = Literal["ir", "ds", "dsa", "er", "cn", "uir", "mqa"]
Partition = Literal["equal", "exponential"]

BLOCK_TYPES: Final = ("ir", "ds", "dsa", "er", "cn", "uir", "mqa")
DEPTHWISE_TYPES: Final = ("ir", "ds", "dsa")
EXPANDING_TYPES: Final = ("ir", "er", "uir")
SCALED_TYPES: Final = ("uir", "mqa")  # types to which a network's layer scale applies
ACTIVATION_CODES: Final = {"re": "relu", "r6": "relu6", "hs": "hard_swish", "sw": "swish", "mi": "mish"}
ACTIVATIONS: Final = tuple(ACTIVATION_CODES.values())
PARTITIONS: Final = ("equal", "exponential")

_CODE_OF_ACTIVATION: Final = {name: code for code, name in ACTIVATION_CODES.items()}


class _StoredHash:
    """Slot for a stored hash: no field, so not compared, shown or pickled."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec(_StoredHash):
    """``repeats`` equal blocks of one type, as one block string of timm's notation.

    ``type``: ``ir`` inverted residual (MobileNetV2), ``ds`` depthwise separable, ``dsa`` the same with an activation
    after the pointwise convolution and no shortcut (MobileNetV1), ``er`` fused inverted residual, ``cn`` one
    convolution with normalisation and activation, ``uir`` universal inverted bottleneck and ``mqa`` multi-query
    attention (MobileNetV4, arXiv:2404.10518, sections 3 and 4).

    ``kernels``: one odd side in px per MixConv group. ``partition``: how channels are split into the groups, ``equal``
    (remainder to group 0, as timm) or ``exponential`` (group i gets 1/2^i, MixConv paper section 3.2). ``dilated``: a k
    x k kernel is a 3x3 with dilation (k-1)/2 wherever the stride is 1 (same section). ``expand_kernels`` and
    ``project_kernels``: one side in px per group of the grouped pointwise convolutions, ``(1, 1)`` for ``a1.1``.
    ``channels``: output channels. ``expansion``: ratio of hidden to input channels. ``se_ratio``: ratio of squeeze
    channels to input or expanded channels, depending on the network's ``SqueezeExcite``; 0 is none. ``activation``:
    None is the network's. ``stride``: of the first repeat; the others have stride 1. ``skip``: whether the block has a
    shortcut where one fits; None is not known, of a network that was read from a module where none fits.

    ``base_channels``: in ``er``, the channels that ``expansion`` multiplies; None is the input channels (EfficientNet-
    EdgeTPU's first block, timm's ``fc``). ``group_size``: channels per group of the k x k convolution; None is one
    channel (ir, ds, dsa) or all (er, cn). ``uir``: ``start_kernel`` and ``end_kernel`` are the sides in px of depthwise
    convolutions before the expansion and after the projection, ``kernels`` has that of the one between; 0 is none. The
    middle convolution has the stride if it exists, otherwise the first one. ``mqa``: ``heads`` queries of
    ``key_channels`` share one key and one value map, which a depthwise convolution of ``kernels`` downsamples by
    ``kv_stride``.

    Raises: SpecError for values out of range and for fields that the type does not have.
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
    skip: bool | None = True
    partition: Partition = "equal"
    dilated: bool = False
    base_channels: int | None = None
    group_size: int | None = None
    start_kernel: int = 0
    end_kernel: int = 0
    heads: int = 0
    key_channels: int = 0
    kv_stride: int = 1

    def __post_init__(self) -> None:
        if self.type not in BLOCK_TYPES:
            raise unknown_choice("type", self.type, BLOCK_TYPES, error=SpecError)
        if self.partition not in PARTITIONS:
            raise unknown_choice("partition", self.partition, PARTITIONS, error=SpecError)
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise unknown_choice("activation", self.activation, ACTIVATIONS, error=SpecError)
        check_whole("channels", self.channels, minimum=1, maximum=MAX_CHANNELS)
        check_whole("repeats", self.repeats, minimum=1, maximum=MAX_BLOCKS)
        if self.stride not in (1, 2):
            raise SpecError(f"stride {self.stride!r}: a block's stride is 1 or 2.")
        if not (self.type == "uir" and self.kernels == (0,)):
            _check_kernels("kernels", self.kernels)
        _check_kernels("expand_kernels", self.expand_kernels)
        _check_kernels("project_kernels", self.project_kernels)
        if not 0 < self.expansion <= MAX_EXPANSION:
            raise SpecError(
                f"expansion {quoted(self.expansion)}: must be a positive number, at most {MAX_EXPANSION:g}."
            )
        if not 0 <= self.se_ratio <= 1:
            raise SpecError(f"se_ratio {quoted(self.se_ratio)}: must lie between 0 (no squeeze-excite) and 1.")
        self._check_type_takes()

    def _check_type_takes(self) -> None:
        """Refuse fields that the block type would ignore.

        An ignored choice would build another network than the one intended.
        """
        if self.expansion != 1 and not self.has_expansion:
            raise SpecError(f"expansion {self.expansion:g}: a {self.type} block has no expansion; use an ir block.")
        if self.base_channels is not None:
            check_whole("base_channels", self.base_channels, minimum=1, maximum=MAX_CHANNELS)
            if self.type != "er":
                raise SpecError(f"base_channels {self.base_channels} (fc): only an er block has them.")
        if self.type != "ir" and self.expand_kernels != (1,):
            raise SpecError(f"expand_kernels {self.expand_kernels}: only an ir block has a grouped expansion.")
        if self.type == "cn" and (len(self.kernels) > 1 or self.se_ratio or self.project_kernels != (1,)):
            raise SpecError("a cn block is one convolution: it takes one kernel, no squeeze-excite and no projection.")
        if self.type == "er" and (len(self.kernels) > 1 or self.dilated):
            raise SpecError("an er block takes one undilated kernel: its expansion is a dense convolution.")
        if self.dilated and self.type == "cn":
            raise SpecError("dilated: only the depthwise convolution of an ir, ds or dsa block can be dilated.")
        if self.partition == "exponential" and not self.has_depthwise:
            raise SpecError("partition exponential: only a depthwise MixConv (ir, ds, dsa) is partitioned.")
        if self.group_size is not None:
            self._check_groups()
        if self.type == "uir" or self.start_kernel != 0 or self.end_kernel != 0:
            self._check_universal()
        if self.type == "mqa" or (self.heads, self.key_channels, self.kv_stride) != (0, 0, 1):
            self._check_attention()

    def _check_groups(self) -> None:
        check_whole("group_size", self.group_size, minimum=1, maximum=MAX_CHANNELS)
        if self.type in ("uir", "mqa"):
            raise SpecError(f"group_size {self.group_size}: a {self.type} block takes none; its kernels are depthwise.")
        if len(self.kernels) > 1 or self.dilated:
            raise SpecError(f"group_size {self.group_size}: for one undilated kernel; a MixConv is depthwise.")

    def _check_universal(self) -> None:
        sides = (("start_kernel", self.start_kernel), ("end_kernel", self.end_kernel))
        for field, side in sides:
            if side and self.type != "uir":
                raise SpecError(f"{field} {side!r}: only a uir block has one.")
            if side != 0:
                _check_kernels(field, (side,))
        if self.type != "uir":
            return
        if len(self.kernels) > 1 or self.project_kernels != (1,) or self.dilated:
            raise SpecError("a uir block takes one undilated kernel per depthwise convolution, and a plain projection.")
        if self.stride > 1 and not any((*self.kernels, self.start_kernel, self.end_kernel)):
            raise SpecError(f"stride {self.stride}: a uir block without any kernel cannot be strided; set one.")

    def _check_attention(self) -> None:
        if self.type != "mqa":
            if (self.heads, self.key_channels, self.kv_stride) != (0, 0, 1):
                raise SpecError("heads, key_channels, kv_stride (h, d, v): only an mqa block has attention.")
            return
        check_whole("heads", self.heads, minimum=1, maximum=MAX_HEADS)
        check_whole("key_channels", self.key_channels, minimum=1, maximum=MAX_CHANNELS)
        if self.kv_stride not in (1, 2):
            raise SpecError(f"kv_stride {self.kv_stride!r}: must be 1 or 2.")
        convolution = (self.stride, self.se_ratio, self.project_kernels, self.activation, self.dilated)
        if convolution != (1, 0, (1,), None, False) or len(self.kernels) > 1:
            raise SpecError("an mqa block takes stride 1 and one kernel, no squeeze-excite, projection or activation.")

    def __hash__(self) -> int:
        """Hash, computed once: blocks are looked up in caches several times per network."""
        try:
            return self._hash
        except AttributeError:
            value = hash(
                (
                    self.type, self.channels, self.repeats, self.kernels, self.stride, self.expansion, self.se_ratio,
                    self.expand_kernels, self.project_kernels, self.activation, self.skip, self.partition, self.dilated,
                )
            )  # fmt: skip
            object.__setattr__(self, "_hash", value)
            return value

    @property
    def has_depthwise(self) -> bool:
        """Whether the block's spatial convolution can be a MixConv."""
        return self.type in DEPTHWISE_TYPES

    @property
    def has_expansion(self) -> bool:
        """Whether the block expands its input channels by ``expansion``."""
        return self.type in EXPANDING_TYPES

    def effective_kernels(self, stride: int) -> tuple[tuple[int, int], ...]:
        """Side in px and dilation of each kernel's weights at ``stride``.

        One pair per MixConv group. Strided blocks are never dilated, and a 3x3 kernel dilates by (3-1)/2 = 1, which is
        no dilation.
        """
        return _effective_kernels(self.kernels, self.dilated and stride == 1)

    def __str__(self) -> str:
        return format_block(self)


def format_block(block: BlockSpec) -> str:
    """Format ``block`` as a block string; inverse of ``notation.parse_block``."""
    parts = [block.type, f"r{block.repeats}", f"k{format_kernels(block.kernels)}"]
    for key, value in (("a", block.start_kernel), ("p", block.end_kernel), ("h", block.heads)):
        if value:
            parts.append(f"{key}{value}")
    if block.kv_stride != 1:
        parts.append(f"v{block.kv_stride}")
    if block.key_channels:
        parts.append(f"d{block.key_channels}")
    if block.expand_kernels != (1,):
        parts.append(f"a{format_kernels(block.expand_kernels)}")
    if block.project_kernels != (1,):
        parts.append(f"p{format_kernels(block.project_kernels)}")
    if block.group_size is not None:
        parts.append(f"gs{block.group_size}")
    parts.append(f"s{block.stride}")
    if block.has_expansion:
        parts.append(f"e{format_number(block.expansion)}")
    parts.append(f"c{block.channels}")
    if block.base_channels is not None:
        parts.append(f"fc{block.base_channels}")
    if block.se_ratio:
        parts.append(f"se{format_number(block.se_ratio)}")
    if block.activation is not None:
        parts.append(f"n{_CODE_OF_ACTIVATION[block.activation]}")
    if block.type == "cn" and block.skip:
        parts.append("skip")
    if block.skip is None:
        parts.append("unknownskip")
    elif block.type != "cn" and not block.skip:
        parts.append("noskip")
    if block.partition == "exponential":
        parts.append("exponential")
    if block.dilated:
        parts.append("dilated")
    return "_".join(parts)


def format_number(value: float) -> str:
    """Format ``value`` as the shortest text that parses to it: ``6``, ``0.25``."""
    return str(int(value)) if value == int(value) else repr(float(value))


def format_kernels(kernels: tuple[int, ...]) -> str:
    """Format kernel sides: ``(3, 5, 7)`` as ``3.5.7``; inverse of ``parse_kernels``."""
    return ".".join(str(side) for side in kernels)


@lru_cache(maxsize=4096)
def _effective_kernels(kernels: tuple[int, ...], dilated: bool) -> tuple[tuple[int, int], ...]:
    """Side and dilation of each kernel's weights, see ``BlockSpec.effective_kernels``."""
    return tuple((3, (side - 1) // 2) if dilated and side > 3 else (side, 1) for side in kernels)


def _check_kernels(field: str, kernels: tuple[int, ...]) -> None:
    for side in kernels or (0,):
        if not isinstance(side, int) or side < 1 or side % 2 == 0:
            raise SpecError(f"{field} {quoted(kernels)}: must be odd, positive whole numbers, one per group.")
    if max(kernels) > MAX_KERNEL or len(kernels) > MAX_GROUPS:
        raise SpecError(f"{field} {quoted(kernels)}: at most {MAX_GROUPS} sides of at most {MAX_KERNEL} px.")
