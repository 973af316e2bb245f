"""Rewrites by name: the same for every block of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Final

from nas.arch.ops.network import PartSegments, network_segments
from nas.arch.spec import ArchSpec
from nas.core.errors import unknown_choice
from nas.exporters.rewriting.block import rewritten_part
from nas.exporters.rewriting.forms import PLAIN, BlockForm, Forms
from nas.exporters.rewriting.shape import BlockShape, block_shape, groups_of

VECTOR: Final = 16  # channels; a multiple of the vectors of all CPUs' kernels
_Change = Callable[[BlockForm, BlockShape], BlockForm]

# In the order in which they are applied; what each of them changes in the form of a block.
_CHANGES: Final[dict[str, _Change]] = {
    "merge_mixconv": lambda form, shape: form._replace(merged=(groups_of(shape.depthwise),)),
    "group_pointwise": lambda form, _: form._replace(expand="grouped", project="grouped"),
    "dense_pointwise": lambda form, _: form._replace(expand="dense", project="dense"),
    "split_mixconv": lambda form, _: form._replace(expand="pieces"),
    "pad_channels": lambda form, _: form._replace(expand="pieces", lane=VECTOR),
    "sum_pieces": lambda form, _: form._replace(expand="pieces", project="sum"),
    "linear_gate": lambda form, _: form._replace(linear_gate=True),
    "crop_kernels": lambda form, _: form._replace(cropped=True),
}
REWRITES: Final = tuple(_CHANGES)


def named_forms(spec: ArchSpec, names: Sequence[str], resolution_px: int | None = None) -> Forms:
    """Forms of the blocks of ``spec`` that the rewrites ``names`` change.

    ``merge_mixconv``: the kernels of a MixConv in one depthwise convolution. ``split_mixconv``: one 1x1 convolution
    for each kernel of a MixConv, instead of a split. ``group_pointwise``: split 1x1 convolutions as grouped ones,
    ``dense_pointwise``: as dense ones. ``pad_channels``: zero channels up to a multiple of 16. ``sum_pieces``: the
    kernels of a MixConv projected one by one. ``linear_gate``: squeeze-excite by matrix products. ``crop_kernels``:
    kernels no larger than their map has use for.

    Raises: NasError for an unknown name.
    """
    for name in names:
        if name not in _CHANGES:
            raise unknown_choice("rewrite", name, REWRITES)
    changes = [change for name, change in _CHANGES.items() if name in names]
    blocks = network_segments(spec, resolution_px)[1:-1]
    return tuple(_form(spec, part, changes) for part in blocks)


def _form(spec: ArchSpec, part: PartSegments, changes: Sequence[_Change]) -> BlockForm:
    """The form of one block; the plain one where it is the same."""
    shape = block_shape(part)
    if shape is None:
        return PLAIN
    form = reduce(lambda form, change: change(form, shape), changes, PLAIN)
    return PLAIN if rewritten_part(part, form, spec.padding).part.ops == part.ops else form
