"""Lowering of a network to the kernels that ONNX Runtime runs.

It covers operator fusion and changes of memory layout. On processors for which it has them, ONNX Runtime replaces
convolutions by kernels that work on channels in blocks of a full vector (NCHWc layout), and reorders tensors between
such a kernel and one that needs the plain NCHW layout. These reorders take about a tenth of a mobile network's time,
and a convolution that leaves the blocked layout takes several times as long. The rules are those of ONNX Runtime's
NCHWc transformer; ``test_ort_lowering.py`` checks them against its own profiles. Attention is simplified: each of its
products is one kernel here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from nas.arch.blocks import BlockSpec
from nas.arch.ops.network import Op, block_ops, head_ops, stem_op
from nas.arch.parts import SqueezeExcite
from nas.arch.spec import ArchSpec

KernelKind = Literal[
    "conv", "depthwise", "gemm", "matmul", "norm", "pool", "scale", "add", "concat", "split", "activation", "block",
    "unblock",
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


class Part(NamedTuple):
    """Kernel calls of a network's stem, of one block, or of its head.

    ``path``: prefix of the paths of its calls.
    """

    path: str
    calls: tuple[Call, ...]


def network_calls(spec: ArchSpec, lane: int, resolution_px: int | None = None) -> Iterator[Call]:
    """All kernel calls of ``spec`` with full paths, roughly in execution order.

    ``lane``: channels of one block, 1 where the processor has no blocked kernels.
    """
    for path, calls in network_parts(spec, lane, resolution_px):
        yield from (Call(f"{path}.{call.op}", call.kernel) for call in calls) if path else calls


def network_parts(spec: ArchSpec, lane: int, resolution_px: int | None = None) -> Iterator[Part]:
    """Kernel calls of stem, blocks and head of ``spec``, in order."""
    stem, px, blocked = stem_calls(spec, lane, resolution_px)
    yield Part("", stem)
    for path, block, stride, channels in spec.placed_blocks():
        calls, px, blocked = block_calls(
            block, stride, channels, px, spec.activation, spec.squeeze_excite, lane, blocked
        )
        yield Part(path, calls)
    yield Part("", head_calls(spec, lane, px, blocked))


def stem_calls(spec: ArchSpec, lane: int, resolution_px: int | None = None) -> tuple[tuple[Call, ...], int, bool]:
    """Kernel calls of the stem, side of its output in px, and whether that is blocked."""
    stem = stem_op(spec, resolution_px or spec.resolution_px)
    calls, blocked = _lowered((stem,), lane, False)
    return calls, stem.out_px, blocked


@lru_cache(maxsize=65536)
def block_calls(
    block: BlockSpec,
    stride: int,
    in_channels: int,
    px: int,
    activation: str,
    se: SqueezeExcite,
    lane: int,
    blocked: bool,
) -> tuple[tuple[Call, ...], int, bool]:
    """Kernel calls of a block, side of its output in px, and whether that is blocked.

    ``px``: side of the input; ``blocked``: whether the input is in the NCHWc layout. Paths are relative to the block.
    """
    ops = block_ops(block, stride, in_channels, px, activation, se)
    calls, out_blocked = _lowered(ops, lane, blocked)
    return calls, ops[-1].out_px, out_blocked


def head_calls(spec: ArchSpec, lane: int, px: int, blocked: bool) -> tuple[Call, ...]:
    """Kernel calls of pooling, head and classifier on a last map of side ``px``.

    ``blocked``: whether that map is in the NCHWc layout.
    """
    return _lowered(tuple(head_ops(spec, px)), lane, blocked)[0]


def _lowered(ops: tuple[Op, ...], lane: int, blocked: bool) -> tuple[tuple[Call, ...], bool]:
    graph = _Graph(lane, Counter(name for op in ops for name in op.inputs))
    graph.blocked[""] = blocked
    for op in ops:
        graph.add(op)
    return tuple(graph.calls), graph.blocked[ops[-1].path]


class _Graph:
    """Kernel calls lowered so far, and the memory layout of every tensor.

    It records which tensors have been converted to the other layout already, so that each is converted once.
    """

    def __init__(self, lane: int, uses: Mapping[str, int]) -> None:
        self.calls: list[Call] = []
        self.blocked: dict[str, bool] = {}
        self._lane, self._uses = lane, uses
        self._op = ""  # path of the operation that is being lowered
        self._converted: set[str] = set()
        self._linear: dict[str, int] = {}  # tensor -> index of the call of its convolution without activation

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
            self._linear[op.path] = len(self.calls) - 1
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

        Otherwise it is a kernel of its own.
        """
        source, shortcut = op.inputs
        conv = self._linear.get(source)
        blocked = self.blocked[source] and self.blocked[shortcut]
        for name in op.inputs:
            self._want(name, op.out_channels, op.in_px, blocked=blocked)
        if conv is not None and self._uses[source] == 1 and self.calls[conv].kernel.blocked == blocked:
            self.calls[conv] = Call(source, self.calls[conv].kernel._replace(added=True))
            self.blocked[op.path] = blocked
        else:
            self._emit(op, "add", blocked=blocked)

    def _activate(self, op: Op, blocked: bool) -> None:
        """Append the element-wise kernels of ``op``'s activation."""
        function = op.activation or ""
        names = {"hard_swish": ("hard_sigmoid", "mul"), "mish": _MISH}.get(function, (function,))
        if function in _PLAIN:
            self._want(op.path, op.out_channels, op.out_px, blocked=False)
            blocked = False
        for name in names:
            self._emit(op, "activation", blocked=blocked, function=name)
        self._converted.discard(op.path)

    def _want(self, tensor: str, channels: int, px: int, *, blocked: bool) -> None:
        """Convert ``tensor`` to the layout that its reader needs, once for all readers."""
        if self.blocked[tensor] == blocked or tensor in self._converted:
            return
        self._converted.add(tensor)
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
        shape = (op.kernel, op.stride, op.dilation) if kind in ("conv", "depthwise") else (1, 1, 1)
        kernel = Kernel(
            kind, channels, op.out_channels, px, op.out_px, blocked, narrow, *shape,
            groups=op.groups, function=function, parts=parts or op.parts,
        )  # fmt: skip
        self.calls.append(Call(op.path, kernel))
        self.blocked[op.path] = blocked
