"""Pieces of a network (stem, blocks, head): the entries of block tables.

A piece is written as one string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, cast

from nas.arch.blocks import ACTIVATIONS, format_block
from nas.arch.limits import MAX_CHANNELS, MAX_RESOLUTION_PX
from nas.arch.notation import parse_block
from nas.arch.ops.network import Op, block_ops, head_ops, stem_op
from nas.arch.parts import HeadKind, HeadSpec, SqueezeExcite, StemSpec
from nas.arch.spec import ArchSpec, StageSpec
from nas.arch.tensorflow_notation import is_tensorflow_block, parse_tensorflow_block
from nas.core.errors import NasError, SpecError, quoted, unknown_choice
from nas.core.validation import check_whole

Ops = tuple[Op, ...]

_STEM: Final = re.compile(r"stem_k(\d{1,9})_s(\d{1,9})_c(\d{1,9})", re.ASCII)
_HEAD: Final = re.compile(r"head_([a-z_]+)_c(\d{1,9})_o(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Part of a network that has one entry in a block table.

    ``block``: one block string (``ir_r1_k3_s2_e6_c24``), ``stem_k3_s2_c32`` (kernel, stride, channels) or
    ``head_conv_pool_c1280_o1000`` (kind, channels, classes). ``in_channels``, ``input_px``: of its input ``(N,
    in_channels, input_px, input_px)``. ``activation``: default where the block string names none. ``squeeze_excite``:
    convention of its ``se`` ratio.
    """

    block: str
    in_channels: int
    input_px: int
    activation: str = "relu"
    squeeze_excite: SqueezeExcite = field(default_factory=SqueezeExcite)

    def __post_init__(self) -> None:
        check_whole("in_channels", self.in_channels, minimum=1, maximum=MAX_CHANNELS)
        check_whole("input_px", self.input_px, minimum=1, maximum=MAX_RESOLUTION_PX)
        if self.activation not in ACTIVATIONS:
            raise unknown_choice("activation", self.activation, ACTIVATIONS, error=SpecError)

    @property
    def ops(self) -> Ops:
        """Operations of the piece, with paths relative to it.

        Two pieces with equal operations share a latency. Raises: SpecError for a ``block`` that cannot be parsed.
        """
        return _ops(self)

    def __str__(self) -> str:
        return f"{self.block} ({self.activation}) on {self.in_channels} channels at {self.input_px} px"


def pieces(spec: ArchSpec, resolution_px: int | None = None) -> Iterator[tuple[str, Piece]]:
    """(path, piece) of stem, blocks and head of ``spec``, in order.

    The paths of stem and head are empty.

    Raises: NasError for a detector or segmenter.
    """
    if not isinstance(spec.head, HeadSpec):
        raise NasError(
            f"network {quoted(spec.name)}: a table of blocks has no entries for the head of a network for {spec.task}; "
            "use a calibration of the device (python -m nas.calibrate), or latency=macs."
        )
    px = resolution_px or spec.resolution_px
    convention: dict[str, Any] = {"activation": spec.activation, "squeeze_excite": spec.squeeze_excite}
    stem = spec.stem
    text = f"stem_k{stem.kernel}_s{stem.stride}_c{stem.channels}"
    piece = Piece(block=text, in_channels=spec.in_channels, input_px=px, **convention)
    yield "", piece
    px = piece.ops[-1].out_px
    for placed in spec.placed_blocks():
        text = format_block(replace(placed.block, repeats=1, stride=placed.stride))
        piece = Piece(block=text, in_channels=placed.in_channels, input_px=px, **convention)
        yield placed.path, piece
        px = piece.ops[-1].out_px
    head = f"head_{spec.head.kind}_c{spec.head.channels}_o{spec.classes}"
    yield "", Piece(block=head, in_channels=spec.stages[-1].blocks[-1].channels, input_px=px, **convention)


@lru_cache(maxsize=65536)
def _ops(piece: Piece) -> Ops:
    if stem := _STEM.fullmatch(piece.block):
        kernel, stride, channels = (int(text) for text in stem.groups())
        spec = _minimal_spec(piece, stem=StemSpec(channels=channels, kernel=kernel, stride=stride))
        return (stem_op(spec, piece.input_px),)
    if head := _HEAD.fullmatch(piece.block):
        head_spec = HeadSpec(kind=cast(HeadKind, head[1]), channels=int(head[2]))
        spec = _minimal_spec(piece, head=head_spec, classes=int(head[3]))
        return tuple(head_ops(spec, piece.input_px))
    block = parse_block(piece.block)
    if is_tensorflow_block(piece.block) and parse_tensorflow_block(piece.block)[1] != piece.in_channels:
        raise SpecError(f"block {piece.block!r}: its option 'i' differs from in_channels {piece.in_channels}.")
    if block.repeats != 1:
        raise SpecError(f"block {piece.block!r}: an entry describes one block; write r1.")
    return block_ops(block, block.stride, piece.in_channels, piece.input_px, piece.activation, piece.squeeze_excite)


def _minimal_spec(piece: Piece, **parts: Any) -> ArchSpec:
    """Smallest network that has ``parts``.

    Its images and its last map have the piece's channels.
    """
    last = StageSpec.parse([f"cn_r1_k1_s1_c{piece.in_channels}"])
    fields = {"stem": StemSpec(channels=1), "head": HeadSpec(channels=0), **parts}
    return ArchSpec(name="", stages=(last,), in_channels=piece.in_channels, activation=piece.activation, **fields)
