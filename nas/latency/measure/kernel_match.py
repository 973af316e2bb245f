"""Matching of kernels in ONNX Runtime's profiles with those predicted.

The predicted ones are the calls of ``ort_lowering``. A kernel that is not predicted, as another processor or version of
ONNX Runtime may run it, is learned with the operation that it belongs to: its time counts to that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nas.arch.spec import ArchSpec
from nas.latency.kernels.ort_lowering import Call, Kernel, network_calls
from nas.latency.measure.ort_profile import Event

# Kernel types as profiles name them. Convolutions are identified by path, all others by shape.
_TYPES: Final = {
    "gemm": "Gemm", "pool": "GlobalAveragePool", "scale": "Mul", "add": "Add", "concat": "Concat", "split": "Split",
    "block": "ReorderInput", "unblock": "ReorderOutput",
}  # fmt: skip
_FUNCTIONS: Final = {
    "relu": "Relu", "relu6": "Clip", "swish": "QuickGelu", "sigmoid": "Sigmoid", "hard_sigmoid": "HardSigmoid",
    "gelu": "Gelu", "min": "Min", "exp": "Exp", "add_constant": "Add", "mul": "Mul", "div": "Div",
}  # fmt: skip
_CONVOLUTIONS: Final = ("Conv", "FusedConv")
_TIME: Final = "_kernel_time"  # ends the name of a kernel; ONNX Runtime 1.20 adds _fence_before and _fence_after
_FREE: Final = ("Flatten",)  # a reshape
_WRITERS: Final = ("Concat", "ReorderOutput")  # kernels whose output has the channels that identify them
# Block sizes of MLAS, the kernels of ONNX Runtime: without blocked ones, SSE to AVX2, AVX-512 and NEON.
_LANES: Final = (1, 8, 16)
_COARSEST: Final = _LANES[-1]
_LEAST_KNOWN: Final = 0.5  # share of the time in predicted kernels

Key = tuple[str | int, ...]
Profile = Sequence[tuple[Event, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMatch:
    """Kernels that ran in a network, matched with predicted calls.

    ``times_us``: of the calls in microseconds, 0 for a call that no kernel ran for. ``unknown_us``: by kernel type, the
    time of kernels that are none of the calls, which ``times_us`` includes. ``absent``: the number of calls that no
    matching kernel ran for.
    """

    times_us: tuple[float, ...]
    unknown_us: Mapping[str, float]
    absent: int

    @property
    def known_share(self) -> float:
        """Share of the time in kernels that are predicted."""
        return 1 - sum(self.unknown_us.values()) / max(sum(self.times_us), 1e-9)

    @property
    def is_known(self) -> bool:
        """Whether predicted kernels take at least half of the time."""
        return self.known_share >= _LEAST_KNOWN


def call_times_us(profile: Profile, calls: Sequence[Call]) -> list[float]:
    """Times of ``calls`` in microseconds, from a profile of the same network.

    ``profile``: kernels that ran and their times, see ``ProfiledNetwork.finish``. The times add up to theirs: a kernel
    that is none of the calls counts to one of the operation whose name it bears or, if it bears none, of a neighbour.
    0 for a call that no kernel ran for.
    """
    return list(match_kernels(profile, calls).times_us)


def best_match(profile: Profile, spec: ArchSpec) -> tuple[int, KernelMatch]:
    """Block size of this processor's kernels in channels, and the match with it.

    It is the one whose predicted kernels take most of the time. ``profile``: of ``spec``.
    """
    matches = [(lane, match_kernels(profile, list(network_calls(spec, lane)))) for lane in _LANES]
    return max(matches, key=lambda match: (match[1].known_share, -match[1].absent))


def match_kernels(profile: Profile, calls: Sequence[Call]) -> KernelMatch:
    """Match the kernels of a profile with ``calls`` of the same network.

    See ``call_times_us``. Kernels other than convolutions are matched by shape alone: if two are alike, either may come
    first.
    """
    ran = [(event, time_us) for event, time_us in profile if _is_kernel(event)]
    rows: dict[Key, list[int]] = defaultdict(list)
    for row, call in enumerate(calls):
        rows[_call_key(call)].append(row)
    times_us, unknown = [0.0] * len(calls), list[int]()
    for position, (event, time_us) in enumerate(ran):
        same = rows[_event_key(event)]
        if same:
            times_us[same.pop(0)] = time_us
        else:
            unknown.append(position)
    absent = {row for left in rows.values() for row in left}
    owners = _owners([event for event, _ in ran], calls, absent)
    unknown_us: dict[str, float] = defaultdict(float)
    for position in unknown:
        event, time_us = ran[position]
        times_us[owners(position)] += time_us
        unknown_us[event["args"]["op_name"]] += time_us
    return KernelMatch(times_us=tuple(times_us), unknown_us=dict(unknown_us), absent=len(absent))


def _owners(ran: Sequence[Event], calls: Sequence[Call], absent: Collection[int]) -> Callable[[int], int]:
    """Function from an unknown kernel to the call that its time counts to.

    It maps a position in ``ran`` to an index of ``calls``: a call without a kernel, if the operation has one (the
    unknown kernel replaces it), otherwise the operation's last call. Kernels that do not bear an operation's name
    belong to those before or after them, or between these. ``absent``: indices of calls without a kernel.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, call in enumerate(calls):
        rows[call.op].append(row)
    names, paths, left = [_operation(event, rows.keys()) for event in ran], list(rows), set(absent)

    def owner(position: int) -> int:
        before, after = _first(names[position::-1], paths[0]), _first(names[position:], paths[-1])
        start, stop = sorted((paths.index(before), paths.index(after)))
        near = [after, before, *paths[start + 1 : stop]]  # the same operation if the kernel bears a name
        row = next((row for name in near for row in rows[name] if row in left), rows[before][-1])
        left.discard(row)
        return row

    return owner


def _first(names: Iterable[str | None], default: str) -> str:
    """First of ``names`` that is one."""
    return next((name for name in names if name), default)


def _operation(event: Event, operations: Collection[str]) -> str | None:
    """Path of the operation that a kernel belongs to, by its name.

    Nodes are named after operations; ONNX Runtime appends to these names, or invents its own.
    """
    name = _name(event)
    while name and name not in operations:
        name = name[: max(0, *map(name.rfind, "._/:"))]
    return name or None


def _event_key(event: Event) -> Key:
    """Key by which a kernel that ran is matched with a call."""
    kind = event["args"]["op_name"]
    if kind in _CONVOLUTIONS:
        return "Conv", _name(event).removesuffix("_nchwc").removesuffix(".linear")
    if kind == "Gemm":
        return (kind,)
    tensors = event["args"].get("output_type_shape" if kind in _WRITERS else "input_type_shape") or [{}]
    shape: Sequence[int] = next(iter(tensors[0].values()), ())
    return (kind, _channels(kind, shape[1]), shape[2]) if len(shape) > 2 else (kind, *shape)


def _call_key(call: Call) -> Key:
    """Key by which a call is matched with a kernel that ran."""
    kernel, kind = call.kernel, _type(call.kernel)
    if kernel.kind in ("conv", "depthwise"):
        return "Conv", call.op
    if kernel.kind == "gemm":
        return (kind,)
    channels = kernel.out_channels if kind in _WRITERS else kernel.in_channels
    return kind, _channels(kind, channels), kernel.in_px


def _is_kernel(event: Event) -> bool:
    """Whether an event of a profile is a kernel, no mark of its begin or end."""
    return event["name"].endswith(_TIME) and event["args"]["op_name"] not in _FREE


def _name(event: Event) -> str:
    return str(event["name"]).removesuffix(_TIME)


def _type(kernel: Kernel) -> str:
    if kernel.kind == "resize":
        return "Upsample" if kernel.blocked else "Resize"
    return _FUNCTIONS[kernel.function] if kernel.kind == "activation" else _TYPES.get(kernel.kind, kernel.kind)


def _channels(kind: str, channels: int) -> int:
    """Channels by which kernels of one type are told apart.

    They are in units of the coarsest block: profiles report the channels of a blocked tensor with or without padding.
    Those of a conversion between layouts are exact, of its plain side.
    """
    return channels if kind.startswith("Reorder") else -(-channels // _COARSEST)
