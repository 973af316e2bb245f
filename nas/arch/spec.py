"""Architecture spec: a whole network as immutable, validated plain data.

Stem, stages, head and the conventions that all blocks share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from nas.arch.blocks import ACTIVATIONS, SCALED_TYPES, BlockSpec, format_block
from nas.arch.heads.feature_taps import taps
from nas.arch.heads.parts import LRASPPHead, SSDLiteHead, head_data
from nas.arch.limits import (
    MAX_BLOCKS,
    MAX_CHANNELS,
    MAX_CLASSES,
    MAX_LAYER_SCALE,
    MAX_NAME,
    MAX_RESOLUTION_PX,
)
from nas.arch.notation import parse_block
from nas.arch.parts import HeadSpec, NormSpec, SqueezeExcite, StemSpec
from nas.arch.rounding import make_divisible, split_channels
from nas.arch.tensorflow_notation import format_tensorflow_block, is_tensorflow_block, parse_tensorflow_block
from nas.core.errors import SpecError, quoted, unknown_choice
from nas.core.validation import check_whole

Padding = Literal["symmetric", "same"]
Task = Literal["classification", "detection", "segmentation"]
TASKS: Final[tuple[Task, ...]] = ("classification", "detection", "segmentation")
PADDINGS: Final = ("symmetric", "same")
_TASKS: Final[dict[str, Task]] = {"ssdlite": "detection", "lraspp": "segmentation"}
NETWORK_ACTIVATIONS: Final = (*ACTIVATIONS, "gelu")  # timm's block notation has no code for gelu


@dataclass(frozen=True, slots=True)
class StageSpec:
    """Block strings that share one resolution.

    Only the first may have stride 2 (timm silently ignores a later one).

    Raises: SpecError for a later stride, for no block, and for an attention block at the end.
    """

    blocks: tuple[BlockSpec, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise SpecError("a stage needs at least one block.")
        for index, block in enumerate(self.blocks[1:], start=1):
            if block.stride != 1:
                raise SpecError(
                    f"block {index} of the stage, {block}: only the first block of a stage may have stride 2."
                )
        if self.blocks[-1].type == "mqa":
            raise SpecError(f"{self.blocks[-1]}: a stage cannot end with attention in timm; add another block.")

    @classmethod
    def parse(cls, strings: Iterable[str]) -> StageSpec:
        """Parse a stage from its block strings."""
        return cls(tuple(parse_block(text) for text in strings))

    @property
    def depth(self) -> int:
        """Number of blocks in the stage, repeats included."""
        return sum(block.repeats for block in self.blocks)


class PlacedBlock(NamedTuple):
    """One block of the network with its position.

    ``path``: module path in timm. ``block``: its spec. ``stride``: the stride at this position. ``in_channels``: input
    channels at this position. ``dilation``: of its convolutions, above 1 behind a stride that the output stride of the
    network removes. ``is_strided``: whether it is the first of a stage with a stride, removed or not.
    """

    path: str
    block: BlockSpec
    stride: int
    in_channels: int
    dilation: int = 1
    is_strided: bool = False

    @property
    def hidden_channels(self) -> int:
        """Channels at the block's spatial convolution."""
        return hidden_channels(self.block, self.in_channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchSpec:
    """One concrete network, without multipliers or choices.

    ``head``: of a classifier, detector or segmenter. ``resolution_px``: input side, up to 16384. ``classes``: of a
    detector, those of objects, without the background. ``activation``: of stem, head and every block that names none.
    ``padding``: ``symmetric`` (torch) or ``same`` (TensorFlow). ``layer_scale``: initial value of the trained factors
    per channel at the end of uir and mqa blocks (arXiv:2103.17239, section 2), None for none. ``dropout``: rate before
    the classifier. ``drop_path``: rate of the last block (linear from 0). Rates and the initial value matter in
    training alone and are not part of ``arch_id``.

    Raises: SpecError for values out of range, for channels that cannot be split into a block's groups, and for a block
    of which it is not known whether it has the shortcut that fits.
    """

    name: str
    stem: StemSpec
    stages: tuple[StageSpec, ...]
    head: HeadSpec | SSDLiteHead | LRASPPHead
    resolution_px: int = 224
    in_channels: int = 3
    classes: int = 1000
    activation: str = "relu"
    squeeze_excite: SqueezeExcite = field(default_factory=SqueezeExcite)
    norm: NormSpec = field(default_factory=NormSpec)
    padding: Padding = "symmetric"
    layer_scale: float | None = None
    dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if not self.stages:
            raise SpecError(f"network {self.name!r} has no stages.")
        check_whole("resolution_px", self.resolution_px, minimum=1, maximum=MAX_RESOLUTION_PX)
        check_whole("in_channels", self.in_channels, minimum=1, maximum=MAX_CHANNELS)
        check_whole("classes", self.classes, minimum=1, maximum=MAX_CLASSES)
        if len(self.name) > MAX_NAME:
            raise SpecError(f"name {quoted(self.name)}: must have at most {MAX_NAME} characters.")
        if self.depth > MAX_BLOCKS:
            raise SpecError(f"{self.depth:,} blocks with all repeats; a network has at most {MAX_BLOCKS:,}.")
        for name, allowed in (("activation", NETWORK_ACTIVATIONS), ("padding", PADDINGS)):
            if getattr(self, name) not in allowed:
                raise unknown_choice(name, getattr(self, name), allowed, error=SpecError)
        if self.layer_scale is not None:
            if not 0 < self.layer_scale <= MAX_LAYER_SCALE:
                raise SpecError(
                    f"layer_scale {quoted(self.layer_scale)}: must be a positive number, at most "
                    f"{MAX_LAYER_SCALE:g}, or null for none."
                )
            if not any(block.type in SCALED_TYPES for stage in self.stages for block in stage.blocks):
                raise SpecError(
                    f"layer_scale {self.layer_scale!r}: no {' or '.join(SCALED_TYPES)} block; set it to null."
                )
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise SpecError(f"{name} {getattr(self, name)!r}: must lie in [0, 1).")
        channels = self.stem.channels
        for block in [block for stage in self.stages for block in stage.blocks]:
            fault = _placement_fault(block, block.stride, channels)
            if fault or (
                block.repeats > 1 and _placement_fault(block, 1, block.channels)
            ):  # third and later: as second
                raise self._placement_error()
            channels = block.channels
        taps(self)  # whether the network has the maps that its head reads

    def _placement_error(self) -> SpecError:
        """Error about the first block that cannot be at its position."""
        faults = ((placed, _placement_fault(*placed[1:4])) for placed in self.placed_blocks())
        placed, fault = next((placed, fault) for placed, fault in faults if fault)
        return SpecError(f"{placed.path} {placed.block}: {fault}")

    @classmethod
    def from_strings(cls, name: str, stages: Sequence[Sequence[str]], **fields: Any) -> ArchSpec:
        """Build a network from the block strings of its stages.

        ``fields``: the other fields of the class.

        Raises: SpecError for strings that cannot be parsed or do not fit each other.
        """
        arch = cls(name=name, stages=tuple(StageSpec.parse(stage) for stage in stages), **fields)
        check_in_channels(arch, stages)
        return arch

    def placed_blocks(self) -> Iterator[PlacedBlock]:
        """Iterate over all blocks in order, repeats unrolled.

        A repeat after the first has stride 1. Strides beyond ``output_stride`` become dilations of the blocks behind,
        as in timm (DeepLab, arXiv:1706.05587, section 3.1).
        """
        channels, reached, dilation = self.stem.channels, self.stem.stride, 1
        limit = self.output_stride
        for stage_index, stage in enumerate(self.stages):
            position = 0
            for block in stage.blocks:
                for repeat in range(block.repeats):
                    stride, next_dilation = block.stride if repeat == 0 else 1, dilation
                    is_strided = stride > 1
                    if is_strided and limit is not None and reached * stride > limit:
                        stride, next_dilation = 1, dilation * stride
                    reached *= stride
                    path = f"blocks.{stage_index}.{position}"
                    yield PlacedBlock(path, block, stride, channels, dilation, is_strided)
                    channels, dilation = block.channels, next_dilation
                    position += 1

    @property
    def task(self) -> Task:
        """What the head of the network is for."""
        return _TASKS.get(self.head.kind, "classification")

    @property
    def output_stride(self) -> int | None:
        """Largest ratio of the input side to a map's; None if every stride counts."""
        return None if isinstance(self.head, HeadSpec) else self.head.output_stride

    @property
    def depth(self) -> int:
        """Number of blocks in all stages, repeats included."""
        return sum([block.repeats for stage in self.stages for block in stage.blocks])

    @property
    def total_stride(self) -> int:
        """Ratio of the input side to the side of the last map of the stages."""
        stride = self.stem.stride
        for stage in self.stages:
            stride *= stage.blocks[0].stride
        return stride if self.output_stride is None else min(stride, max(self.output_stride, self.stem.stride))

    @property
    def strings(self) -> tuple[tuple[str, ...], ...]:
        """Block strings of each stage."""
        return tuple(tuple(format_block(block) for block in stage.blocks) for stage in self.stages)

    def tensorflow_strings(self) -> list[str]:
        """Block strings in the notation of TensorFlow's releases.

        Stem, head and activation of the network are not in them.

        Raises: SpecError naming what the notation cannot say.
        """
        has_se = any(block.se_ratio for stage in self.stages for block in stage.blocks)
        if has_se and self.squeeze_excite != SqueezeExcite():
            raise SpecError(f"network {self.name!r}: TensorFlow's notation cannot say {self.squeeze_excite}.")
        strings, channels = [], self.stem.channels
        for block in (block for stage in self.stages for block in stage.blocks):
            same = block.activation == self.activation
            strings.append(format_tensorflow_block(replace(block, activation=None) if same else block, channels))
            channels = block.channels
        return strings

    @property
    def arch_id(self) -> str:
        """Hash of the canonical form: 12 hex digits.

        Two specs share it if and only if they describe the same network at the same resolution.
        """
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def canonical(self) -> dict[str, Any]:
        """Canonical form as plain data: the same for all equivalent specs.

        ``arch_id`` is its hash.
        """
        stages: list[list[str]] = [[] for _ in self.stages]
        for path, block, stride, channels, dilation, _ in self.placed_blocks():
            text = _canonical_block(block, stride, channels, self.activation, self.squeeze_excite)
            stages[int(path.split(".")[1])].append(text if dilation == 1 else f"{text} dilation {dilation}")
        has_se = any(block.se_ratio for stage in self.stages for block in stage.blocks)
        layer_scale = {} if self.layer_scale is None else {"layer_scale": True}
        return {
            "stem": [self.stem.channels, self.stem.kernel, self.stem.stride],
            "stages": stages,
            "head": [self.head.kind, self.head.channels] if isinstance(self.head, HeadSpec) else head_data(self.head),
            "input": [self.resolution_px, self.in_channels],
            "classes": self.classes,
            "activation": self.activation,
            "gate": self.squeeze_excite.gate if has_se else None,
            "norm": [self.norm.eps, self.norm.momentum],
            "padding": self.padding,
            **layer_scale,
        }

    def __hash__(self) -> int:
        return hash((self.name, self.stages, self.resolution_px, self.classes))


def check_in_channels(arch: ArchSpec, stages: Sequence[Sequence[str]]) -> None:
    """Validate the input channels that TensorFlow's block strings name.

    ``stages``: the block strings of which ``arch`` was built.

    Raises: SpecError for a string whose ``i`` is not what the stem or the block before puts out.
    """
    channels, before = arch.stem.channels, "the stem"
    for text in (text for stage in stages for text in stage):
        if is_tensorflow_block(text) and (in_channels := parse_tensorflow_block(text)[1]) != channels:
            raise SpecError(f"block {text!r}: option 'i{in_channels}', but {before} has {channels} output channels.")
        channels, before = parse_block(text).channels, "the block before"


@lru_cache(maxsize=65536)
def _canonical_block(block: BlockSpec, stride: int, in_channels: int, activation: str, se: SqueezeExcite) -> str:
    """Canonical form of one repeat of ``block`` at its position.

    Ratios become the channels they result in, and choices without effect get their defaults.
    """
    act, hidden = block.activation or activation, hidden_channels(block, in_channels)
    squeeze = f"{se.squeeze_channels(block, hidden)} {se.activation or act}" if block.se_ratio else "0"
    groups = len(block.kernels)
    equal_split = split_channels(hidden, groups) == split_channels(hidden, groups, block.partition)
    default_groups = spatial_groups(block, in_channels) == spatial_groups(replace(block, group_size=None), in_channels)
    canonical = replace(
        block,
        repeats=1,
        kernels=(3,) if block.type == "mqa" and block.kv_stride == 1 else block.kernels,
        stride=stride,
        expansion=1.0,
        base_channels=None,
        se_ratio=0.0,
        activation=act if act in ACTIVATIONS and block.type != "mqa" else None,
        group_size=None if default_groups else block.group_size,
        skip=block.skip or not can_skip(block, stride, in_channels),
        partition="equal" if equal_split else block.partition,
        dilated=any(dilation > 1 for _, dilation in block.effective_kernels(stride)),
    )
    return f"{format_block(canonical)} hidden {hidden} squeeze {squeeze}"


def hidden_channels(block: BlockSpec, in_channels: int) -> int:
    """Channels of the depthwise (``er``: dense) convolution of ``block``.

    The block's base channels (or else ``in_channels``) times the expansion, rounded to a multiple of 8.
    """
    base = block.base_channels or in_channels
    return make_divisible(base * block.expansion) if block.has_expansion else in_channels


def spatial_groups(block: BlockSpec, in_channels: int) -> int:
    """Groups of the k x k convolution of an ir, ds, dsa, er or cn block.

    timm computes those of ``cn`` from its input channels.
    """
    channels = in_channels if block.type == "cn" else hidden_channels(block, in_channels)
    if block.group_size is None:
        return channels if block.has_depthwise else 1
    return channels // block.group_size


def can_skip(block: BlockSpec, stride: int, in_channels: int) -> bool:
    """Whether a shortcut fits around the block.

    It needs stride 1 and equal input and output channels; a MobileNetV1 block never has one.
    """
    return stride == 1 and in_channels == block.channels and block.type != "dsa"


@lru_cache(maxsize=65536)
def _placement_fault(block: BlockSpec, stride: int, in_channels: int) -> str:
    """Why ``block`` cannot be at its position, empty if it can."""
    if block.skip is None and can_skip(block, stride, in_channels):
        answers = "skip, or by nothing if it has none" if block.type == "cn" else "noskip, or by nothing if it has one"
        return (
            "whether this block has a shortcut is not known, because the network that it was read from has none of "
            f"this shape; replace unknownskip by {answers}."
        )
    return _split_fault(block, in_channels) or _group_fault(block, in_channels)


def _split_fault(block: BlockSpec, in_channels: int) -> str:
    """Why channels cannot be split into the groups of ``block``, empty if they can."""
    if len(block.kernels) == 1 and block.expand_kernels == (1,) and block.project_kernels == (1,):
        return ""
    hidden = hidden_channels(block, in_channels)
    splits = (
        ("kernels", hidden, len(block.kernels), block.partition),
        ("expand_kernels", min(in_channels, hidden), len(block.expand_kernels), "equal"),
        ("project_kernels", min(hidden, block.channels), len(block.project_kernels), "equal"),
    )
    for name, channels, groups, partition in splits:
        if groups > 1 and min(split_channels(channels, groups, partition)) < 1:
            return f"{channels} channels cannot be split {groups} ways ({name}, {partition})."
    return ""


def _group_fault(block: BlockSpec, in_channels: int) -> str:
    """Why ``group_size`` of ``block`` does not divide its channels, empty if it does."""
    if block.group_size is None:
        return ""
    hidden, groups = hidden_channels(block, in_channels), spatial_groups(block, in_channels)
    channels = in_channels if block.type == "cn" else hidden
    other_channels = {"er": in_channels, "cn": block.channels}.get(block.type, channels)
    if channels % block.group_size or other_channels % groups:
        return f"group_size {block.group_size} does not divide {channels} channels" + (
            f" into groups that divide {other_channels} too." if other_channels != channels else "."
        )
    return ""
