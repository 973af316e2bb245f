"""Rewrites of any spec after MobileNetV3: efficient last stage, h-swish when deep.

Source: arXiv:1905.02244, sections 5.1 and 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nas.arch.blocks import ACTIVATIONS, BlockSpec
from nas.arch.notation import parse_block
from nas.arch.parts import HeadSpec
from nas.arch.spec import ArchSpec, PlacedBlock, StageSpec
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number

HEAD_REWRITES: Final = ("pool_conv",)

_HSWISH: Final = "hard_swish"
_EPSILON: Final = 1e-9  # rounding error of shares: 0.7 * 10 is less than 7


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteStep:
    """One rewrite that was applied.

    ``setting``: as it was requested, such as ``head=pool_conv``. ``before``, ``after``: the network; the same where
    there was nothing to change. ``change``: what it did, in words.
    """

    setting: str
    before: ArchSpec
    after: ArchSpec
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrites:
    """Requested rewrites of a network; None leaves a part as it is.

    ``head``: ``pool_conv`` for MobileNetV3's efficient last stage. ``hswish_from``: the share of the blocks after which
    all blocks have h-swish, 0.5 for the second half.

    Raises: NasError for values out of range.
    """

    head: str | None = None
    hswish_from: float | None = None

    def __post_init__(self) -> None:
        if self.head is not None and self.head not in HEAD_REWRITES:
            raise unknown_choice("head", self.head, HEAD_REWRITES)
        check_number("hswish_from", self.hswish_from, low=0, high=1, optional=True)

    @property
    def is_empty(self) -> bool:
        """Whether no rewrite is requested."""
        return self.head is None and self.hswish_from is None

    def steps(self, arch: ArchSpec) -> tuple[RewriteStep, ...]:
        """Apply the rewrites to ``arch`` one after the other.

        Raises: NasError for a network that cannot be rewritten.
        """
        steps = []
        if self.head is not None:
            steps.append(efficient_last_stage(arch))
        if self.hswish_from is not None:
            steps.append(deep_hswish(steps[-1].after if steps else arch, self.hswish_from))
        return tuple(steps)


def efficient_last_stage(arch: ArchSpec) -> RewriteStep:
    """Replace the end of ``arch`` by MobileNetV3's efficient last stage.

    Section 5.1 and figure 5: the head's 1x1 convolution moves behind the pooling, where it acts on one pixel and has a
    bias in place of the norm. The last block's projection is then no longer needed to save computation: it goes, and
    with it the depthwise convolution and squeeze-excite; the expansion stays, with norm and activation, as a 1x1
    convolution in a stage of its own. A last block without an expansion to keep stays whole.

    Raises: NasError for a head without convolution, and for a detector or segmenter.
    """
    setting = "head=pool_conv"
    if not isinstance(arch.head, HeadSpec):
        raise NasError(
            f"head 'pool_conv': is the end of a classifier, and {quoted(arch.name)} is for {arch.task}; set it to null."
        )
    if arch.head.pools_first:
        return RewriteStep(setting=setting, before=arch, after=arch, change="nothing: the head pools first already")
    if not arch.head.channels:
        raise NasError(
            f"head 'pool_conv': {quoted(arch.name)} has no convolution between its last stage and its classifier that "
            "could act on the pooled map; set it to null."
        )
    *_, last = arch.placed_blocks()
    moved = f"the 1x1 convolution to {arch.head.channels} channels acts on the pooled map"
    if reason := _why_whole(arch, last):
        stages, kept = arch.stages, f"the last block stays: {reason}"
    else:
        stages = _with_last_expansion(arch, last)
        block = replace(last.block, repeats=1, stride=1)
        kept = f"of the last block, {block}, the expansion to {last.hidden_channels} channels stays"
    after = replace(
        arch, name=f"{arch.name}_pool_conv", stages=stages, head=HeadSpec(kind="pool_conv", channels=arch.head.channels)
    )
    return RewriteStep(setting=setting, before=arch, after=after, change=f"{moved}; {kept}")


def _why_whole(arch: ArchSpec, last: PlacedBlock) -> str:
    """Why the last block cannot be reduced to its expansion, empty if it can."""
    blocks = arch.stages[-1].blocks
    if last.block.type != "ir" or last.block.expand_kernels != (1,):
        return "it is no ir block with a dense 1x1 expansion"
    if last.stride != 1:
        return "its depthwise convolution has a stride"
    if last.hidden_channels <= last.block.channels:
        return "its projection does not reduce the channels"
    if blocks[-1].repeats == 1 and len(blocks) > 1 and blocks[-2].type == "mqa":
        return "timm ends no stage with attention"
    return ""


def _with_last_expansion(arch: ArchSpec, last: PlacedBlock) -> tuple[StageSpec, ...]:
    """Stages whose last block is replaced by its expansion, as a stage of its own."""
    *blocks, string = arch.stages[-1].blocks
    if string.repeats > 1:
        blocks.append(replace(string, repeats=string.repeats - 1))
    expansion = replace(parse_block(f"cn_r1_k1_s1_c{last.hidden_channels}"), activation=string.activation)
    shortened = (StageSpec(tuple(blocks)),) if blocks else ()
    return (*arch.stages[:-1], *shortened, StageSpec((expansion,)))


def deep_hswish(arch: ArchSpec, share: float) -> RewriteStep:
    """Give h-swish to the blocks of ``arch`` after the first ``share`` of them.

    Section 5.2: most of the gain comes from the deeper half, where maps are small and h-swish costs little. All
    blocks of the stages count alike, repeats unrolled; the first ``share`` of them, rounded up, keep their activations.
    Stem and head, which share the network's activation, get h-swish too, as in MobileNetV3. Large has it from block 7
    of 16, the first with 80 channels, Small from block 4 of 12.

    Raises: NasError for a share out of range, and for first blocks whose activation block notation cannot say.
    """
    check_number("hswish_from", share, low=0, high=1)
    kept, seen = math.ceil(share * arch.depth - _EPSILON), 0
    stages = []
    for stage in arch.stages:
        blocks: list[BlockSpec] = []
        for block in stage.blocks:
            blocks += _split_activation(block, arch, min(max(kept - seen, 0), block.repeats))
            seen += block.repeats
        stages.append(StageSpec(tuple(blocks)))
    after = replace(arch, name=f"{arch.name}_hs{share:g}", stages=tuple(stages), activation=_HSWISH)
    setting = f"hswish_from={share:g}"
    if after.arch_id == arch.arch_id:
        return RewriteStep(setting=setting, before=arch, after=arch, change="nothing: h-swish is there already")
    change = _hswish_change(list(arch.placed_blocks()), kept)
    return RewriteStep(setting=setting, before=arch, after=after, change=change)


def _split_activation(block: BlockSpec, arch: ArchSpec, kept: int) -> Sequence[BlockSpec]:
    """Give h-swish to the repeats of ``block`` after the first ``kept``.

    Raises: NasError.
    """
    if block.type == "mqa":  # has no activation
        return [block]
    before = block.activation or arch.activation
    parts = []
    if kept:
        if before not in ACTIVATIONS:
            raise NasError(
                f"hswish_from: the first blocks of {quoted(arch.name)} have {before}, which block notation has no code "
                "for, and would lose it; give 0."
            )
        parts.append(replace(block, repeats=kept, activation=None if before == _HSWISH else before))
    if kept < block.repeats:
        rest = block.repeats - kept
        parts.append(replace(block, repeats=rest, stride=1 if kept else block.stride, activation=None))
    return parts


def _hswish_change(blocks: Sequence[PlacedBlock], kept: int) -> str:
    count = len(blocks)
    if kept == count:
        return f"h-swish in stem and head; all {count} blocks keep their activations"
    first = f"from {blocks[kept].path}, {blocks[kept].block.channels} channels"
    which = f"block {count}" if kept + 1 == count else f"blocks {kept + 1} to {count}"
    others = "; the blocks before keep their activations" if kept else ""
    return f"h-swish in {which} of {count} ({first}), stem and head{others}"
