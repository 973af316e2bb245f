"""Readers of the output of the runtimes' own benchmark tools.

A reader takes the lines of one run and returns the most robust figure that they contain: the median where there is one,
else the mean without the slowest run, else the mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from nas.core.errors import NasError, quoted
from nas.latency.device import MAX_MS, MIN_MS

_FIGURE: Final = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_MS: Final = {"s": 1e3, "sec": 1e3, "ms": 1.0, "us": 1e-3}
_LEAST_RUNS: Final = 3  # from which a mean without the slowest run is taken
_MEDIAN: Final = "median"
_TRIMMED: Final = "mean without the slowest run"
_MEAN: Final = "mean"


class UnreadableOutput(NasError):
    """Output of a tool in which there is no latency; the message shows a line of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReading:
    """Latency of one network in the output of a tool.

    ``latency_ms``: the figure named by ``statistic``. ``version``: of the runtime, "" where the tool does not say it.

    Raises: UnreadableOutput for a latency of 0 or out of range.
    """

    latency_ms: float
    statistic: str
    version: str = ""

    def __post_init__(self) -> None:
        if not MIN_MS <= self.latency_ms <= MAX_MS:
            raise UnreadableOutput(f"a latency of {self.latency_ms:g} ms: the tool did not run the network.")


def read_benchmark_model(lines: Sequence[str]) -> ToolReading:
    """Latency in the output of ``benchmark_model``, of TensorFlow Lite and LiteRT.

    Versions print microseconds in lines ``count=... avg=...`` (since 2024 with a median), LiteRT 2 prints milliseconds
    in lines ``Inference (avg): ... ms``; the summary of each is the last resort.

    Raises: UnreadableOutput.
    """
    counts = [_pairs(line) for line in lines if re.search(r"\bcount=\d", line)]
    if counts and "median" in counts[-1]:
        return ToolReading(latency_ms=counts[-1]["median"] * 1e-3, statistic=_MEDIAN)
    new = {name: _ms(value, unit) for name, value, unit in _found(lines, rf"Inference \((\w+)\): +({_FIGURE}) (\w+)")}
    if "median" in new:
        return ToolReading(latency_ms=new["median"], statistic=_MEDIAN)
    if counts and {"count", "avg", "max"} <= counts[-1].keys():
        last = counts[-1]
        return _mean(last["count"], last["avg"] * 1e-3, last["max"] * 1e-3)
    if "avg" in new:
        runs = _found(lines, r"Inference \(avg\):.*\((\d+) runs\)")
        return _mean(float(runs[-1][0]) if runs else 1, new["avg"], new.get("max", new["avg"]))
    for pattern in (r"timings in us:.*Inference \(avg\): ", r"timings in us:.*(?:no stats|with stats): "):
        if found := _found(lines, f"{pattern}({_FIGURE})"):
            return ToolReading(latency_ms=float(found[-1][0]) * 1e-3, statistic=_MEAN)
    raise _unreadable("benchmark_model", lines)


def read_perf_test(lines: Sequence[str]) -> ToolReading:
    """Latency in the output of ``onnxruntime_perf_test``.

    The median is in seconds, the mean in milliseconds; before 2020 the median read ``P50 Latency is ... sec``.

    Raises: UnreadableOutput.
    """
    if found := _found(lines, rf"P50 Latency(?: is|:) *({_FIGURE}) *(\w+)"):
        value, unit = found[-1]
        return ToolReading(latency_ms=_ms(value, unit), statistic=_MEDIAN)
    if found := _found(lines, rf"Average (?:inference )?time cost: *({_FIGURE}) *(\w+)"):
        value, unit = found[-1]
        return ToolReading(latency_ms=_ms(value, unit), statistic=_MEAN)
    raise _unreadable("onnxruntime_perf_test", lines)


def read_benchncnn(lines: Sequence[str]) -> ToolReading:
    """Latency in the output of ``benchncnn``.

    It has milliseconds: ``min = ... max = ... avg = ...``. Raises: UnreadableOutput.
    """
    found = _found(lines, rf"min = +{_FIGURE} +max = +({_FIGURE}) +avg = +({_FIGURE})")
    if not found:
        raise _unreadable("benchncnn", lines)
    slowest_ms, mean_ms = map(float, found[-1])
    if mean_ms <= 0:
        raise _unreadable("benchncnn", [line for line in lines if "min =" not in line])
    loops = _found(lines, r"loop_count = (\d+)")
    return _mean(float(loops[-1][0]) if loops else 1, mean_ms, slowest_ms)


def read_trtexec(lines: Sequence[str]) -> ToolReading:
    """Latency in the output of ``trtexec``: the median of the GPU's own time.

    It is without copies of images and logits. TensorRT 8 and later print it in one line, TensorRT 7 below a heading;
    where it is missing, it is the latency with the copies.

    Raises: UnreadableOutput.
    """
    versions = _found(lines, r"TensorRT[ .]v(?:ersion: )?(\d\S*?)\]") or _found(lines, r"TensorRT version: (\d\S*)")
    version = versions[0][0] if versions else ""
    for name in ("GPU Compute Time", "Latency"):
        if found := _found(lines, rf"\] {name}: .*median = ({_FIGURE}) (\w+)"):
            return ToolReading(latency_ms=_ms(*found[-1]), statistic=_MEDIAN, version=version)
    for heading in ("GPU Compute", "Host Latency"):
        if found := _found(_below(lines, heading), rf"\] median: ({_FIGURE}) (\w+)"):
            return ToolReading(latency_ms=_ms(*found[0]), statistic=_MEDIAN, version=version)
    raise _unreadable("trtexec", lines)


def read_stand_in(lines: Sequence[str]) -> ToolReading:
    """Latency in what ``bench.py`` states besides the tool's format, and the version.

    The tool's format has fewer digits. Raises: UnreadableOutput.
    """
    found = _found(lines, rf"^bench\.py: median ({_FIGURE}) ms")
    if not found:
        raise _unreadable("bench.py", lines)
    versions = _found(lines, r"^bench\.py: \w+ ([^\s,]+),")
    return ToolReading(latency_ms=float(found[-1][0]), statistic=_MEDIAN, version=versions[0][0] if versions else "")


def runs_on_gpu(lines: Iterable[str]) -> bool:
    """Whether ``benchmark_model`` says that a GPU ran the network, or parts of it."""
    marks = ("Created TensorFlow Lite delegate for GPU", "GPU delegate created", "TfLiteGpuDelegate", "GPU accelerator")
    return any(mark in line for line in lines for mark in marks)


def _mean(runs: float, mean_ms: float, slowest_ms: float) -> ToolReading:
    """The mean without the slowest run, or the mean of few runs."""
    if runs < _LEAST_RUNS:
        return ToolReading(latency_ms=mean_ms, statistic=_MEAN)
    return ToolReading(latency_ms=(mean_ms * runs - slowest_ms) / (runs - 1), statistic=_TRIMMED)


def _pairs(line: str) -> dict[str, float]:
    """Figures of a line ``name=figure name=figure``."""
    return {name: float(value) for name, value in re.findall(rf"(\w+)=({_FIGURE})", line)}


def _found(lines: Iterable[str], pattern: str) -> list[tuple[str, ...]]:
    """Groups of ``pattern`` in each line that has it, in order."""
    return [found.groups() for line in lines if (found := re.search(pattern, line))]


def _below(lines: Sequence[str], heading: str) -> list[str]:
    """Lines after the last one that ends with ``heading``."""
    starts = [index for index, line in enumerate(lines) if line.rstrip().endswith(f"] {heading}")]
    return list(lines[starts[-1] :]) if starts else []


def _ms(value: str, unit: str) -> float:
    """``value`` in milliseconds. Raises: UnreadableOutput for an unknown unit."""
    if unit not in _MS:
        raise UnreadableOutput(f"unit {quoted(unit)} of {value}: known are {', '.join(_MS)}.")
    return float(value) * _MS[unit]


def _unreadable(tool: str, lines: Sequence[str]) -> UnreadableOutput:
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    shown = f"its last line is {quoted(last)}" if last else "it is empty"
    return UnreadableOutput(f"there is no latency in the output of {tool}; {shown}.")
