"""Lowering of a network to the kernels that ONNX Runtime runs.

It covers operator fusion and changes of memory layout. On processors for which it has them, ONNX Runtime replaces
convolutions by kernels that work on channels in blocks of a full vector (NCHWc layout), and reorders tensors between
such a kernel and one that needs the plain NCHW layout. These reorders take about a tenth of a mobile network's time,
and a convolution that leaves the blocked layout takes several times as long. The rules are those of ONNX Runtime's
NCHWc transformer; ``test_ort_lowering.py`` checks them against its own profiles, of this machine and of recorded ones.
Attention is simplified: each of its products is one kernel here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from nas.arch.ops.network import Op, PartSegments, Segment, network_segments
from nas.arch.spec import ArchSpec
from nas.exporters.rewriting.block import InferencePart
from nas.exporters.rewriting.forms import Forms
from nas.exporters.rewriting.network import rewritten_parts
from nas.exporters.rewriting.segments import RewrittenSegment
from nas.latency.kernels.tap_layouts import TapLayout, TapLayouts, tap_steps

KernelKind = Literal[
    "conv", "depthwise", "gemm", "matmul", "norm", "pool", "scale", "add", "concat", "split", "resize", "activation",
    "block", "unblock",
]  # fmt: skip

_ALIGNED: Final = 4  # channels of a blocked convolution must be a multiple of this
_FUSED: Final = ("relu", "relu6", "sigmoid", "hard_sigmoid")
_PLAIN: Final = ("relu6", "mish")  # after a concat these run in the plain layout only
_MISH: Final = ("min", "exp", "add_constant", "mul", "add_constant", "div", "mul")


class Kernel(NamedTuple):
    """Properties of a kernel call that determine its time.

    ``in_channels``, ``out_channels``, ``in_px``, ``out_px``: of input maps ``(N, in_channels, in_px, in_px)`` and
    output maps ``(N, out_channels, out_px, out_px)``. ``blocked``: it works in the NCHWc layout; ``narrow``: a blocked
    convolution that reads few channels in the plain layout. ``function``: the activation that is fused into a
    convolution or, for kind ``activation``, that the kernel computes. ``added``: a convolution with the residual
    addition fused into it. ``parts``: channels of the parts of a split or concat.
    """

    kind: KernelKind
    in_channels: int
    out_channels: int
    in_px: int
    out_px: int
    blocked: bool
    narrow: bool = False
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    function: str = ""
    added: bool = False
    parts: tuple[int, ...] = ()


class Call(NamedTuple):
    """A kernel call, and the path of the operation that it belongs to."""

    op: str
    kernel: Kernel


class LoweredSegment:
    """Kernel calls of a segment on an input of one memory layout.

    ``blocked``: whether its output is in the NCHWc layout. ``converts``: whether it converts its input to the other
    layout. ``is_linear``: whether its last call is a convolution without activation. Compared by identity, as segments
    are.
    """

    __slots__ = ("blocked", "calls", "converts", "is_linear")

    def __init__(self, calls: Sequence[Call], *, blocked: bool, converts: bool, is_linear: bool) -> None:
        self.calls = tuple(calls)
        self.blocked, self.converts, self.is_linear = blocked, converts, is_linear


class LoweredPart(NamedTuple):
    """Lowered segments of a part of a network, and the layout of its output.

    ``blocked``: whether that is the NCHWc layout. ``converts``: whether it converts its input to the other layout.
    ``taps``: layouts of the tensors that a head reads, with paths relative to the part.
    """

    segments: tuple[LoweredSegment, ...]
    blocked: bool
    converts: bool
    taps: TapLayouts = ()

    @property
    def calls(self) -> tuple[Call, ...]:
        """Kernel calls of the part; paths are relative to it."""
        return tuple([call for segment in self.segments for call in segment.calls])


class Part(NamedTuple):
    """Kernel calls of a network's stem, of one block, or of its head.

    ``path``: prefix of the paths of its calls.
    """

    path: str
    calls: tuple[Call, ...]


def network_calls(spec: ArchSpec, lane: int, forms: Forms | None = None) -> Iterator[Call]:
    """All kernel calls of ``spec`` with full paths, roughly in execution order.

    ``lane``: channels of one block, 1 where the processor has no blocked kernels. ``forms``: of its blocks; None for
    plain ones.
    """
    for path, calls in network_parts(spec, lane, forms):
        yield from (Call(f"{path}.{call.op}", call.kernel) for call in calls) if path else calls


def network_parts(spec: ArchSpec, lane: int, forms: Forms | None = None) -> Iterator[Part]:
    """Kernel calls of stem, blocks and head of ``spec``, in order."""
    paths = ["", *(placed.path for placed in spec.placed_blocks()), ""]
    for path, part in zip(paths, lowered_network(spec, lane, forms), strict=True):
        yield Part(path, part.calls)


def lowered_network(spec: ArchSpec, lane: int, forms: Forms | None = None) -> list[LoweredPart]:
    """Stem, blocks and head of ``spec`` as lowered, in order."""
    lowered: list[LoweredPart] = []
    known: TapLayouts = ()
    blocked, steps = False, tap_steps(spec, network_segments(spec))  # images are in the plain layout
    for index, (part, _) in enumerate(rewritten_parts(spec, forms)):
        lowered.append(lowered_part(part, lane, blocked, steps[index].read(known) if steps else ()))
        blocked = lowered[-1].blocked
        if steps:
            known = steps[index].after(known, converts=lowered[-1].converts, own=lowered[-1].taps)
    return lowered


def lowered_part(part: InferencePart, lane: int, blocked: bool, taps: TapLayouts = ()) -> LoweredPart:
    """Lower a part of a network segment by segment.

    ``blocked``: whether its input is in the NCHWc layout. ``taps``: layouts of the other tensors that it reads.
    """
    if taps:
        return _lowered_head(part, lane, blocked, taps)
    lowered, layout = [], blocked
    for segment in part.segments:
        lowered.append(_lowered(segment, lane, layout))
        layout = lowered[-1].blocked
    converts = lowered[0].converts
    if part.addition:
        lowered[-1], converts = _with_addition(lowered[-1], lane, part.addition, blocked, converts)
    taps = _tap_layouts(part, lane, blocked) if isinstance(part, PartSegments) and part.taps else ()
    return LoweredPart(tuple(lowered), lowered[-1].blocked, converts, taps)


@lru_cache(maxsize=65536)
def _lowered(segment: Segment | RewrittenSegment, lane: int, blocked: bool) -> LoweredSegment:
    """Lower a segment; ``blocked``: whether its input is in the NCHWc layout."""
    graph = _Graph(lane)
    graph.blocked[segment.source] = blocked
    for op in segment.ops:
        graph.add(op)
    output = segment.ops[-1].path
    return LoweredSegment(
        graph.calls,
        blocked=graph.blocked[output],
        converts=segment.source in graph.converted,
        is_linear=output in graph.linear,
    )


@lru_cache(maxsize=16384)
def _lowered_head(part: InferencePart, lane: int, blocked: bool, taps: TapLayouts) -> LoweredPart:
    """Lower a head that reads several tensors.

    What it does not read itself are outputs of the network, in the plain layout.
    """
    graph = _graph_of(part, lane, blocked, taps)
    read = {name for op in part.ops for name in op.inputs}
    for op in part.ops:
        if op.path not in read:
            graph.put_out(op)
    lowered = LoweredSegment(graph.calls, blocked=False, converts="" in graph.converted, is_linear=False)
    return LoweredPart((lowered,), blocked=False, converts=lowered.converts)


@lru_cache(maxsize=16384)
def _tap_layouts(part: PartSegments, lane: int, blocked: bool) -> TapLayouts:
    """Layouts of the tensors of ``part`` that later parts read.

    Paths are relative to it. ``blocked``: whether its input is in the NCHWc layout.
    """
    graph = _graph_of(part, lane, blocked)
    return tuple([TapLayout(path, graph.blocked[path], path in graph.converted) for path in part.taps])


def _graph_of(part: InferencePart, lane: int, blocked: bool, taps: TapLayouts = ()) -> _Graph:
    """Graph of all operations of a part of a network."""
    graph = _Graph(lane)
    graph.blocked[""] = blocked
    for tap in taps:
        graph.blocked[tap.path] = tap.blocked
        if tap.converted:
            graph.converted.add(tap.path)
    inputs = {tap.path: "" for tap in taps if tap.is_input}
    for op in part.ops:
        graph.add(op._replace(inputs=tuple([inputs.get(name, name) for name in op.inputs])) if inputs else op)
    return graph


@lru_cache(maxsize=65536)
def _with_addition(
    lowered: LoweredSegment, lane: int, addition: Op, shortcut_blocked: bool, shortcut_converted: bool
) -> tuple[LoweredSegment, bool]:
    """Lower the residual addition after the last segment of a block.

    ``shortcut_blocked``: whether the block's input is in the NCHWc layout; ``shortcut_converted``: whether a segment
    has converted it to the other one. Also returned: whether it is converted after the addition.
    """
    graph, (source, shortcut) = _Graph(lane), addition.inputs
    graph.calls.extend(lowered.calls)
    graph.blocked.update({source: lowered.blocked, shortcut: shortcut_blocked})
    if shortcut_converted:
        graph.converted.add(shortcut)
    if lowered.is_linear:
        graph.linear[source] = len(graph.calls) - 1
    graph.add(addition)
    added = LoweredSegment(
        graph.calls, blocked=graph.blocked[addition.path], converts=lowered.converts, is_linear=False
    )
    return added, shortcut in graph.converted


class _Graph:
    """Kernel calls lowered so far, and the memory layout of every tensor.

    ``converted``: tensors that have been converted to the other layout already, so that each is converted once.
    ``linear``: index of the call of a convolution without activation, by its output.
    """

    def __init__(self, lane: int) -> None:
        self.calls: list[Call] = []
        self.blocked: dict[str, bool] = {}
        self.converted: set[str] = set()
        self._lane = lane
        self._op = ""  # path of the operation that is being lowered
        self.linear: dict[str, int] = {}

    def add(self, op: Op) -> None:
        """Append the kernel calls of ``op``."""
        self._op = op.path
        if op.kind in ("conv", "depthwise"):
            self._convolution(op)
        elif op.kind == "linear":
            self._want(op.inputs[0], op.in_channels, 1, blocked=False)
            self._emit(op, "gemm", blocked=False)
        elif op.kind in ("matmul", "norm"):
            for name in op.inputs:
                self._want(name, op.in_channels, op.in_px, blocked=False)
            self._emit(op, op.kind, blocked=False)
        elif op.kind == "pool":
            blocked = self.blocked[op.inputs[0]] and op.in_channels % self._lane == 0
            self._want(op.inputs[0], op.in_channels, op.in_px, blocked=blocked)
            self._emit(op, "pool", blocked=blocked)
        elif op.kind == "split":
            self._want(op.inputs[0], op.in_channels, op.in_px, blocked=False)
            self._emit(op, "split", blocked=False)
            self.blocked.update({f"{op.path}:{part}": False for part in range(len(op.parts))})
        elif op.kind == "concat":
            self._concat(op)
        elif op.kind == "add":
            self._add(op)
        elif op.kind == "resize":
            # The blocked kernel enlarges by whole factors only.
            blocked = self.blocked[op.inputs[0]] and op.out_px % op.in_px == 0
            self._want(op.inputs[0], op.in_channels, op.in_px, blocked=blocked)
            self._emit(op, "resize", blocked=blocked)
        else:
            # Blocked tensors are multiplied only if their shapes are equal: where the map is a single pixel.
            blocked = op.in_px == 1 and all(self.blocked[name] for name in op.inputs)
            for name, px in zip(op.inputs, (op.in_px, 1), strict=True):
                self._want(name, op.out_channels, px, blocked=blocked)
            self._emit(op, "scale", blocked=blocked)

    def _convolution(self, op: Op) -> None:
        lane, depthwise = self._lane, op.kind == "depthwise" and op.out_channels > 1
        narrow = not depthwise and op.in_channels < lane
        aligned = (op.out_channels if depthwise else op.in_channels) % _ALIGNED == 0
        if op.groups > 1:  # blocked only if every group fills whole blocks
            narrow, aligned = False, all(side // op.groups % lane == 0 for side in (op.in_channels, op.out_channels))
        blocked = lane > 1 and (narrow or aligned)
        kind: KernelKind = "depthwise" if depthwise else "conv"
        self._want(op.inputs[0], op.in_channels, op.in_px, blocked=blocked and not narrow)
        function = op.activation or ""
        fused = function in _FUSED or (function == "hard_swish" and blocked)
        self._emit(op, kind, blocked=blocked, narrow=blocked and narrow, function=function if fused else "")
        if not function:
            self.linear[op.path] = len(self.calls) - 1
        elif not fused:
            self._activate(op, blocked)

    def _concat(self, op: Op) -> None:
        written = {call.op: call.kernel.out_channels for call in self.calls}
        widths = [written[name] for name in op.inputs]
        blocked = all(self.blocked[name] for name in op.inputs) and all(width % self._lane == 0 for width in widths)
        for name, width in zip(op.inputs, widths, strict=True):
            self._want(name, width, op.in_px, blocked=blocked)
        self._emit(op, "concat", blocked=blocked, parts=tuple(widths))
        if op.activation:
            self._activate(op, blocked)

    def _add(self, op: Op) -> None:
        """Residual addition, fused into the preceding convolution if layouts match.

        Otherwise it is a kernel of its own. Nothing else reads the output of that convolution.
        """
        blocked = all(self.blocked[name] for name in op.inputs)
        for name in op.inputs:
            self._want(name, op.out_channels, op.in_px, blocked=blocked)
        linear = [self.linear[name] for name in op.inputs if name in self.linear]
        conv = next((index for index in linear if self.calls[index].kernel.blocked == blocked), None)
        if conv is not None:
            self.calls[conv] = self.calls[conv]._replace(kernel=self.calls[conv].kernel._replace(added=True))
            self.blocked[op.path] = blocked
        else:
            self._emit(op, "add", blocked=blocked)

    def put_out(self, op: Op) -> None:
        """Convert an output of the network to the plain layout."""
        self._op = op.path
        self._want(op.path, op.out_channels, op.out_px, blocked=False)

    def _activate(self, op: Op, blocked: bool) -> None:
        """Append the element-wise kernels of ``op``'s activation."""
        function = op.activation or ""
        names = {"hard_swish": ("hard_sigmoid", "mul"), "mish": _MISH}.get(function, (function,))
        if function in _PLAIN:
            self._want(op.path, op.out_channels, op.out_px, blocked=False)
            blocked = False
        for name in names:
            self._emit(op, "activation", blocked=blocked, function=name)
        self.converted.discard(op.path)

    def _want(self, tensor: str, channels: int, px: int, *, blocked: bool) -> None:
        """Convert ``tensor`` to the layout that its reader needs, once for all readers."""
        if self.blocked[tensor] == blocked or tensor in self.converted:
            return
        self.converted.add(tensor)
        kind: KernelKind = "block" if blocked else "unblock"
        self.calls.append(Call(self._op, Kernel(kind, channels, channels, px, px, blocked)))

    def _emit(
        self,
        op: Op,
        kind: KernelKind,
        *,
        blocked: bool,
        narrow: bool = False,
        function: str = "",
        parts: tuple[int, ...] = (),
    ) -> None:
        channels = op.out_channels if kind in ("depthwise", "activation", "scale", "add") else op.in_channels
        px = op.out_px if kind == "activation" else op.in_px
        side, stride, dilation = (op.kernel, op.stride, op.dilation) if kind in ("conv", "depthwise") else (1, 1, 1)
        kernel = Kernel(
            kind, channels, op.out_channels, px, op.out_px, blocked, narrow, side, stride, dilation, op.groups,
            function, False, parts or op.parts,
        )  # fmt: skip
        self.calls.append(Call(op.path, kernel))
        self.blocked[op.path] = blocked
