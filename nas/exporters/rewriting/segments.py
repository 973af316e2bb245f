"""Segments of blocks in another form; blocks that have them in common share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from nas.arch.ops.network import Op, OpKind, Segment
from nas.arch.spec import Padding
from nas.exporters.rewriting.channels import (
    ChannelRun,
    Channels,
    all_channels,
    are_plain,
    fill_groups,
    home_of,
    ranges_of,
    width,
)
from nas.exporters.rewriting.forms import BlockForm, Pointwise
from nas.exporters.rewriting.kernels import common_kernel, cropped
from nas.exporters.rewriting.shape import Layer, layer_of


class Derivation(NamedTuple):
    """Where the weights of a rewritten convolution come from.

    ``sources``: convolutions of the plain block, whose outputs, one after the other, are the logical output channels;
    each is given with the first of the logical input channels that it reads. ``outs``, ``ins``: the logical channels of
    its output and input. ``has_bias``: whether the biases are added here, not in another term of a sum.
    """

    sources: tuple[tuple[Op, int], ...]
    outs: Channels
    ins: Channels
    has_bias: bool = True


class RewrittenSegment:
    """Operations in execution order, with what inference needs of ``Segment``.

    The first reads the tensor ``source``; "" is the block's input. Compared by identity.
    """

    __slots__ = ("ops", "source")

    def __init__(self, ops: Sequence[Op]) -> None:
        self.ops, self.source = tuple(ops), ops[0].inputs[0]


class Piece(NamedTuple):
    """A tensor of a block: its path, and its logical channels."""

    path: str
    channels: Channels


class Written(NamedTuple):
    """A segment, the tensors that the next one reads, and where weights come from."""

    segment: RewrittenSegment
    pieces: tuple[Piece, ...]
    derivations: Mapping[str, Derivation]


@lru_cache(maxsize=65536)
def written_hidden(
    expand: Segment | None, depthwise: Segment, form: BlockForm, padding: Padding, *, joins: bool = False
) -> Written:
    """Expansion and depthwise convolution, in one piece for each depthwise operation.

    ``joins``: the pieces are concatenated. Of ``form`` the projection and the gate are not used.
    """
    writer = _HiddenWriter(_layer(depthwise), form, padding)
    hidden = [Piece("", all_channels(writer.layer.in_channels))]
    if expand:
        hidden = writer.expand(_layer(expand))
    hidden = writer.depthwise(hidden)
    if joins:
        hidden = [writer.joined(hidden, writer.layer.path, writer.layer.convs[0].out_px)]
    return writer.written(hidden)


@lru_cache(maxsize=65536)
def written_gate(segment: Segment, sources: tuple[Piece, ...], linear: bool) -> Written:
    """Squeeze-excite of ``sources``, one by one; ``linear``: by matrix products."""
    writer, (pool, reduce, expand, scale) = _Writer(), segment.ops
    names = [f".piece{index}" for index in range(len(sources))] if len(sources) > 1 else [""]
    pooled = []
    for piece, name in zip(sources, names, strict=True):
        path, wide = pool.path + name, width(piece.channels)
        writer.ops.append(pool._replace(path=path, inputs=(piece.path,), in_channels=wide, out_channels=wide))
        pooled.append(Piece(path, piece.channels))
    vector = writer.joined(pooled, pool.path, 1)
    kind: OpKind = "linear" if linear else "conv"
    writer.ops.append(reduce._replace(kind=kind, inputs=(vector.path,), in_channels=width(vector.channels)))
    outs = all_channels(reduce.out_channels)
    writer.derivations[reduce.path] = Derivation(((reduce, 0),), outs, vector.channels)
    scaled = []
    for piece, name in zip(sources, names, strict=True):
        gate, path, wide = expand.path + name, scale.path + name, width(piece.channels)
        writer.ops.append(expand._replace(kind=kind, path=gate, out_channels=wide))
        writer.derivations[gate] = Derivation(((expand, 0),), piece.channels, outs)
        writer.ops.append(scale._replace(path=path, inputs=(piece.path, gate), in_channels=wide, out_channels=wide))
        scaled.append(Piece(path, piece.channels))
    return writer.written(scaled)


@lru_cache(maxsize=65536)
def written_projection(segment: Segment, sources: tuple[Piece, ...], how: Pointwise) -> Written:
    """Write the convolution after the depthwise one.

    Of several ``sources``, by terms or by groups.
    """
    writer, layer = _Writer(), _layer(segment)
    if len(sources) == 1:
        return writer.written([writer.projected(layer, sources[0], how)])
    if how == "sum" and not layer.activation:
        return writer.written([writer.summed(layer, sources)])
    if homes := piece_groups(segment, sources):
        return writer.written([writer.grouped(layer, sources, homes)])
    source = writer.joined(sources, f"{layer.path}.source", layer.convs[0].in_px)
    return writer.written([writer.projected(layer, source, how)])


def piece_groups(projection: Segment, pieces: Sequence[Piece]) -> tuple[int, ...]:
    """Group of the projection that reads each piece, if groups read their own.

    () where a piece is read by several groups, or a group reads none, or there is one group or one piece.
    """
    ranges = ranges_of(conv.in_channels for conv in _layer(projection).convs)
    homes = [home for piece in pieces if (home := home_of(piece.channels, ranges)) is not None]
    applies = 1 < len(pieces) == len(homes) and len(ranges) > 1 and {*homes} == {*range(len(ranges))}
    return tuple(homes) if applies else ()


class _Writer:
    """Operations of a segment under construction, and where their weights come from."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.derivations: dict[str, Derivation] = {}

    def written(self, pieces: Sequence[Piece]) -> Written:
        return Written(RewrittenSegment(self.ops), tuple(pieces), self.derivations)

    def pointwise(
        self, path: str, source: Piece, layer: Layer, outs: Channels, *, activation: str | None,
        groups: int = 1, has_bias: bool = True,
    ) -> None:  # fmt: skip
        """Add a 1x1 convolution of ``layer``'s weights from ``source`` to ``outs``."""
        self.ops.append(
            layer.convs[0]._replace(
                path=path, inputs=(source.path,), in_channels=width(source.channels), out_channels=width(outs),
                groups=groups, activation=activation,
            )
        )  # fmt: skip
        self.derivations[path] = Derivation(_sources(layer), outs, source.channels, has_bias)

    def split(self, path: str, source: Piece, sizes: tuple[int, ...], px: int) -> list[Piece]:
        """Add a split of ``source`` into parts of ``sizes`` channels.

        ``source``: a tensor of all logical channels.
        """
        wide = sum(sizes)
        self.ops.append(Op("split", path, (source.path,), wide, wide, px, px, parts=sizes))
        return [
            Piece(f"{path}:{index}", (ChannelRun(part.start, len(part)),))
            for index, part in enumerate(ranges_of(sizes))
        ]

    def joined(self, pieces: Sequence[Piece], path: str, px: int) -> Piece:
        """One tensor of all ``pieces``: their concatenation at ``path``, or the only one."""
        if len(pieces) == 1:
            return pieces[0]
        channels = tuple([run for piece in pieces for run in piece.channels])
        wide, inputs = width(channels), tuple([piece.path for piece in pieces])
        self.ops.append(Op("concat", path, inputs, wide, wide, px, px))
        return Piece(path, channels)

    def projected(self, layer: Layer, source: Piece, how: Pointwise) -> Piece:
        """Add a projection of one tensor."""
        result = Piece(layer.path, all_channels(layer.out_channels))
        if are_plain(source.channels) and (how == "split" or len(layer.convs) == 1):
            self.ops += [layer.ops[0]._replace(inputs=(source.path,)), *layer.ops[1:]]
            return result
        ranges = ranges_of(conv.in_channels for conv in layer.convs)
        is_grouped = how == "grouped" and layer.has_equal_groups and fill_groups(source.channels, ranges)
        groups = len(layer.convs) if is_grouped else 1
        self.pointwise(layer.path, source, layer, result.channels, groups=groups, activation=layer.activation)
        return result

    def summed(self, layer: Layer, sources: Sequence[Piece]) -> Piece:
        """Add one projection for each tensor, and their sum."""
        outs, px, wide = all_channels(layer.out_channels), layer.convs[0].in_px, layer.out_channels
        previous = ""
        for index, piece in enumerate(sources):
            path = f"{layer.path}.term{index}"
            self.pointwise(path, piece, layer, outs, activation=None, has_bias=index == 0)
            if previous:
                total = layer.path if index == len(sources) - 1 else f"{layer.path}.sum{index}"
                self.ops.append(Op("add", total, (path, previous), 2 * wide, wide, px, px))
                path = total
            previous = path
        return Piece(layer.path, outs)

    def grouped(self, layer: Layer, sources: Sequence[Piece], homes: Sequence[int]) -> Piece:
        """Add one convolution for each group of the projection.

        It reads the tensors of that group.
        """
        px, wide = layer.convs[0].in_px, layer.out_channels
        starts = [part.start for part in ranges_of(conv.out_channels for conv in layer.convs)]
        for group, (conv, start) in enumerate(zip(layer.convs, starts, strict=True)):
            own = [piece for piece, home in zip(sources, homes, strict=True) if home == group]
            source = self.joined(own, f"{conv.path}.source", px)
            self.pointwise(conv.path, source, layer, (ChannelRun(start, conv.out_channels),), activation=None)
        inputs = tuple(conv.path for conv in layer.convs)
        self.ops.append(Op("concat", layer.path, inputs, wide, wide, px, px, activation=layer.activation))
        return Piece(layer.path, all_channels(wide))


class _HiddenWriter(_Writer):
    """Writer of expansion and depthwise convolution. ``layer``: the latter."""

    def __init__(self, layer: Layer, form: BlockForm, padding: Padding) -> None:
        super().__init__()
        self.layer, self._form, self._padding = layer, form, padding
        kernels = range(len(layer.convs))
        sizes = form.merged or (1,) * len(kernels)
        self._runs = [kernels[part.start : part.stop] for part in ranges_of(sizes)]  # kernels of each depthwise op

    def expand(self, layer: Layer) -> list[Piece]:
        """The expansion: one tensor, or one piece for each depthwise operation."""
        form, outs = self._form, all_channels(layer.out_channels)
        if form.expand == "pieces":
            return self._expand_pieces(layer)
        if form.expand == "split" or len(layer.convs) == 1:
            self.ops += layer.ops
        else:
            groups = len(layer.convs) if form.expand == "grouped" and layer.has_equal_groups else 1
            source = Piece("", all_channels(layer.in_channels))
            self.pointwise(layer.path, source, layer, outs, groups=groups, activation=layer.activation)
        return [Piece(layer.path, outs)]

    def _expand_pieces(self, layer: Layer) -> list[Piece]:
        """Add one convolution for each depthwise operation.

        It reads its own group of the input, if there is one.
        """
        pieces = [
            Piece(f"{layer.path}.piece{index}" if len(self._runs) > 1 else layer.path, self._padded_channels(run))
            for index, run in enumerate(self._runs)
        ]
        homes = [home_of(piece.channels, ranges_of(conv.out_channels for conv in layer.convs)) for piece in pieces]
        parts = [Piece("", all_channels(layer.in_channels))]
        if len(layer.convs) > 1 and any(home is not None for home in homes):
            sizes = tuple(conv.in_channels for conv in layer.convs)
            parts += self.split(f"{layer.path}.split", parts[0], sizes, layer.convs[0].in_px)
        for piece, home in zip(pieces, homes, strict=True):
            source = parts[0] if home is None or len(layer.convs) == 1 else parts[1 + home]
            self.pointwise(piece.path, source, layer, piece.channels, activation=layer.activation)
        return pieces

    def depthwise(self, hidden: list[Piece]) -> list[Piece]:
        """One depthwise convolution for each run of kernels."""
        layer, first = self.layer, self.layer.convs[0]
        if len(hidden) == 1 and len(self._runs) > 1:
            sizes = tuple(sum(layer.convs[kernel].out_channels for kernel in run) for run in self._runs)
            hidden = self.split(f"{layer.path}.split", hidden[0], sizes, first.in_px)
        pieces = []
        for index, (piece, run) in enumerate(zip(hidden, self._runs, strict=True)):
            path, wide = f"{layer.path}.run{index}" if len(self._runs) > 1 else layer.path, width(piece.channels)
            side, dilation = common_kernel([layer.convs[kernel] for kernel in run])
            op = first._replace(
                path=path, inputs=(piece.path,), in_channels=wide, out_channels=wide, kernel=side, dilation=dilation,
                activation=layer.activation,
            )  # fmt: skip
            self.ops.append(cropped(op, self._padding) if self._form.cropped else op)
            self.derivations[path] = Derivation(_sources(layer), piece.channels, ())
            pieces.append(Piece(path, piece.channels))
        return pieces

    def _padded_channels(self, run: Sequence[int]) -> Channels:
        """Hidden channels of the kernels ``run``, padded to a multiple of the form's lane."""
        convs = self.layer.convs
        start = sum([conv.out_channels for conv in convs[: run[0]]])
        size = sum([conv.out_channels for conv in convs[run[0] : run[-1] + 1]])
        return (ChannelRun(start, size, -size % self._form.lane),)


def _layer(segment: Segment) -> Layer:
    layer = layer_of(segment)
    if layer is None:
        raise ValueError("not a layer of a depthwise block")
    return layer


def _sources(layer: Layer) -> tuple[tuple[Op, int], ...]:
    """Convolutions of ``layer``, each with the first input channel that it reads."""
    starts = [part.start for part in ranges_of(conv.in_channels for conv in layer.convs)]
    return tuple(zip(layer.convs, starts, strict=True))
