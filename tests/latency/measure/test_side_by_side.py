"""Runtimes side by side: each by its own clock and device, ratios as they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.latency.host import describe
from nas.latency.measure import side_by_side
from nas.latency.measure.side_by_side import measure_side_by_side


def test_ratios_of_runners_and_their_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runners that advance a clock by known amounts, each the clock of its backend."""
    clocks = {"onnxruntime": 0.0, "torch": 0.0}

    def runner(backend: str, seconds: float) -> object:
        def run() -> None:
            clocks[backend] += seconds

        return run

    def stopwatch(backend: str, threads: int) -> object:
        def timed(run: object) -> float:
            start = clocks[backend]
            run()  # type: ignore[operator]
            return clocks[backend] - start

        return timed

    monkeypatch.setattr(side_by_side, "stopwatch", stopwatch)
    monkeypatch.setattr("nas.latency.measure.timer.speed_probe", lambda device: runner("onnxruntime", 1e-4))
    here = describe("onnxruntime")
    devices = [here, replace(here, backend="torch")]
    found = measure_side_by_side(
        [runner("onnxruntime", 2e-3), runner("torch", 3e-3)],
        devices,
        rounds=3,
        runs=2,  # type: ignore[list-item]
    )
    assert [one.latency_ms for one in found.measurements] == pytest.approx([2.0, 3.0])
    assert [one.device.backend for one in found.measurements] == ["onnxruntime", "torch"]
    assert found.ratio_errors[0][1] == pytest.approx(0, abs=1e-9)
