"""Tests of the readers of the tools' outputs, on outputs that people posted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from nas.latency.kits.runtimes import KIT_RUNTIMES
from nas.latency.kits.tool_outputs import (
    UnreadableOutput,
    read_benchmark_model,
    read_benchncnn,
    read_perf_test,
    read_stand_in,
    read_trtexec,
    runs_on_gpu,
)
from tests.paths import ROOT

OUTPUTS = json.loads((ROOT / "tests/reference/tool_outputs.json").read_text(encoding="utf-8"))["outputs"]


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda one: f"{one['tool']}: {one['what']}")
def test_the_most_robust_figure_of_real_outputs_is_read_in_ms(output: Mapping[str, Any]) -> None:
    runtime = KIT_RUNTIMES[output["runtime"]]
    assert runtime.tool == output["tool"]
    reading = runtime.read(output["lines"])
    assert reading.latency_ms == pytest.approx(output["latency_ms"], rel=1e-12)
    assert (reading.statistic, reading.version) == (output["statistic"], output["version"])


@pytest.mark.parametrize(
    "prefix", ["I tflite  : ", "I/tflite  (12345): ", "INFO: ", "01-01 12:00:00.000  99  99 I tflite: "]
)
def test_lines_may_come_from_the_log_of_android(prefix: str) -> None:
    lines = ["count=50 first=9 curr=7 min=6 max=20 avg=7.5 std=1 p5=6 median=7 p95=9", "Inference (avg): 7.5"]
    assert read_benchmark_model([prefix + line for line in lines]).latency_ms == pytest.approx(0.007)


@pytest.mark.parametrize(
    ("read", "lines", "words"),
    [
        (read_benchmark_model, ["STARTING!", "ERROR: Failed to mmap model", ""], "last line is 'ERROR: Failed to mmap"),
        (read_perf_test, [], "no latency in the output of onnxruntime_perf_test; it is empty"),
        (read_perf_test, ["P50 Latency: 3 fortnights"], "unit 'fortnights' of 3: known are s, sec, ms, us"),
        (
            read_benchncnn,
            ["fopen a.param failed", "network graph not ready", "  a  min =    0.00  max =    0.00  avg =    0.00"],
            "last line is 'network graph not ready'",
        ),
        (read_trtexec, ["&&&& FAILED TensorRT.trtexec [TensorRT v8601]"], "last line is '&&&& FAILED TensorRT"),
        (read_benchmark_model, ["Inference timings in us: Init: 1, Inference (avg): 0"], "a latency of 0 ms"),
        (read_perf_test, ["P50 Latency: 1e99 s"], r"a latency of 1e\+102 ms"),
    ],
)
def test_output_without_a_latency_is_shown(read: Any, lines: list[str], words: str) -> None:
    with pytest.raises(UnreadableOutput, match=words) as raised:
        read(lines)
    assert "\n" not in str(raised.value)


def test_a_gpu_is_noticed() -> None:
    assert runs_on_gpu(["INFO: Created TensorFlow Lite delegate for GPU."])
    assert not runs_on_gpu(["INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", "Use gpu: [0]"])


def test_the_stand_in_states_its_own_figures() -> None:
    reading = read_stand_in(["bench.py: ncnn 1.0, Python 3.11, wall time", "bench.py: median 1.75 ms of 9 runs"])
    assert (reading.latency_ms, reading.statistic, reading.version) == (1.75, "median", "1.0")
