"""Per-kernel times of whole networks, from ONNX Runtime's profiles."""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nas.arch.spec import ArchSpec
from nas.latency.kernels.ort_lowering import Call, Kernel, network_calls
from nas.latency.measure.backends import onnx_session, random_images
from nas.latency.predictors.op_features import LANES

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
_FREE: Final = ("Flatten",)  # a reshape
_COARSEST: Final = LANES[-1]
# Durations are whole microseconds, rounded down.
_HALF_US: Final = 0.5
# A kernel's time is the mean of its runs between these quantiles. Interference only adds time, but some processors also
# have rare fast moments (exclusive use of a shared core).
_QUANTILES: Final = (0.1, 0.5)

Event = Mapping[str, Any]
Key = tuple[str | int, ...]


class ProfiledNetwork:
    """A network whose every run is profiled, kernel by kernel."""

    def __init__(self, spec: ArchSpec, *, threads: int, batch: int, seed: int) -> None:
        from nas.export.onnx.graph import INPUT, to_onnx

        self._folder = tempfile.TemporaryDirectory(prefix="nas-profile-")
        model = to_onnx(spec, batch=batch, seed=seed).SerializeToString()
        self._session = onnx_session(model, threads, str(Path(self._folder.name) / "run"))
        self._feed = {INPUT: random_images(spec, batch, seed)}
        self._runs = 0

    def run(self) -> None:
        """Run the network once, on one batch of ``random_images``."""
        self._session.run(None, self._feed)
        self._runs += 1

    def finish(self, *, counted: Sequence[bool]) -> list[tuple[Event, float]]:
        """Kernels of one run in order: (event of the profile, time in microseconds).

        ``counted``: for each run, whether its times count; repeated cyclically if there were more runs.
        """
        path = Path(self._session.end_profiling())
        nodes = [event for event in json.loads(path.read_text(encoding="utf-8")) if event["cat"] == "Node"]
        self._folder.cleanup()
        count, used = len(nodes) // self._runs, np.resize(counted, self._runs)
        durations = np.sort(np.array([node["dur"] for node in nodes], dtype=float).reshape(self._runs, count)[used], 0)
        low, high = (round(quantile * len(durations)) for quantile in _QUANTILES)
        trimmed = durations[low : max(high, low + 1)]  # (runs, kernels)
        return list(zip(nodes[:count], (trimmed.mean(axis=0) + _HALF_US).tolist(), strict=True))


def call_times_us(events: Sequence[tuple[Event, float]], calls: Sequence[Call]) -> list[float]:
    """Times of ``calls`` in microseconds, from a profile of the same network.

    ``events``: of that profile, with their times, see ``ProfiledNetwork.finish``.

    NaN for a call without an event, and for all calls if an event is left over. Kernels other than convolutions are
    matched by shape alone: if two are alike, either may come first.
    """
    times: dict[Key, list[float]] = defaultdict(list)
    for event, duration_us in events:
        if event["args"]["op_name"] not in _FREE:
            times[_event_key(event)].append(duration_us)
    matched_us = [times[key].pop(0) if times[key] else math.nan for key in map(_call_key, calls)]
    return matched_us if not any(times.values()) else [math.nan] * len(matched_us)


def detect_lane(events: Sequence[tuple[Event, float]], spec: ArchSpec) -> int | None:
    """Block size in channels of this processor's kernels, from a profile of ``spec``.

    None if, for every block size, the kernels that ran differ from those that ``nas.latency.kernels.ort_lowering``
    predicts.
    """
    for lane in LANES:
        if not any(map(math.isnan, call_times_us(events, list(network_calls(spec, lane))))):
            return lane
    return None


def _event_key(event: Event) -> Key:
    """Key by which an event of a profile is matched with a call."""
    kind, name = event["args"]["op_name"], event["name"].removesuffix("_kernel_time")
    if kind in _CONVOLUTIONS:
        return "Conv", name.removesuffix("_nchwc").removesuffix(".linear")
    if kind == "Gemm":
        return (kind,)
    end = "output" if kind == "Concat" else "input"
    shape = next(iter(event["args"][f"{end}_type_shape"][0].values()))
    return kind, _blocks(shape[1]), shape[2]


def _call_key(call: Call) -> Key:
    """Key by which a call is matched with an event of a profile."""
    kernel = call.kernel
    if kernel.kind in ("conv", "depthwise"):
        return "Conv", call.op
    if kernel.kind == "gemm":
        return ("Gemm",)
    return _type(kernel), _blocks(kernel.out_channels if kernel.kind == "concat" else kernel.in_channels), kernel.in_px


def _type(kernel: Kernel) -> str:
    return _FUNCTIONS[kernel.function] if kernel.kind == "activation" else _TYPES.get(kernel.kind, kernel.kind)


def _blocks(channels: int) -> int:
    """Channels in units of the coarsest block.

    Profiles report the channels of a blocked tensor with or without padding.
    """
    return -(-channels // _COARSEST)
