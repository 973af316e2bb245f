"""Forms of a block: which exact rewrites its inference graph gets."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Pointwise = Literal["split", "grouped", "dense", "pieces", "sum"]


class BlockForm(NamedTuple):
    """Form of the convolutions of a block; all forms compute the same function.

    ``expand``: the 1x1 convolution before the depthwise one. With groups it is ``split`` into one convolution each, as
    in timm, one ``grouped`` convolution, or one ``dense`` convolution whose weights between groups are zeros.
    ``pieces``: one convolution for each of the depthwise convolutions that follow, which then need no split.
    ``merged``: numbers of consecutive MixConv kernels that become one depthwise convolution of the largest of them,
    the others padded with zeros; () merges none.
    ``lane``: the channels of each piece are padded with zeros to a multiple of it.
    ``project``: the 1x1 convolution at the end, as ``expand``; ``sum``: one convolution of each piece, added up, so
    that pieces are not concatenated.
    ``linear_gate``: squeeze-excite by matrix products instead of 1x1 convolutions.
    ``cropped``: kernels that are larger than their map lose the taps that never meet a pixel.
    """

    expand: Pointwise = "split"
    merged: tuple[int, ...] = ()
    lane: int = 1
    project: Pointwise = "split"
    linear_gate: bool = False
    cropped: bool = False


PLAIN: Final = BlockForm()
Forms = tuple[BlockForm, ...]  # of the blocks of a network, in order


class FormChoice(NamedTuple):
    """The forms that a network is exported in, None for plain ones, and why, in words."""

    forms: Forms | None
    reason: str
