"""Tests of the kit's stand-in for benchmark tools, with the real runtimes that are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas.exporters.formats import FORMATS
from nas.exporters.graph import inference_graph
from nas.latency.kits.runtimes import KIT_RUNTIMES, kit_runtime
from nas.latency.kits.templates import bench
from nas.latency.kits.tool_outputs import read_stand_in
from tests.latency.kits.tiny_kit import REFERENCE, SPECS


@pytest.mark.parametrize("name", sorted(bench.RUNTIMES))
def test_it_prints_what_the_reader_of_the_tool_reads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = kit_runtime(name)
    if runtime.format not in FORMATS:
        pytest.skip(f"this version does not write networks for {name}")
    entry = FORMATS[runtime.format]
    for package in entry.packages:
        pytest.importorskip(package, reason=f"pip install 'nas[{entry.extra}]'")
    for label, spec in (("network", SPECS[3]), ("reference", REFERENCE)):
        entry.module().write_model(inference_graph(spec), tmp_path / f"{label}{entry.suffix}")
    words = [
        *("bench.py", "--runtime", name, "--seconds", "0.01", "--warmup", "1"),
        *("--network", str(tmp_path / f"network{entry.suffix}"), "--px", "32"),
        *("--reference", str(tmp_path / f"reference{entry.suffix}"), "--reference-px", "16"),
    ]
    monkeypatch.setattr(sys, "argv", words)
    bench.main()
    reference, network = capsys.readouterr().out.removeprefix("# section reference\n").split("# section network\n")
    for section in (reference, network):
        lines = section.splitlines()
        middle_ms = read_stand_in(lines).latency_ms
        reading = runtime.read(lines)
        if reading.statistic == "median":  # the tool's digits
            assert reading.latency_ms == pytest.approx(middle_ms, rel=1e-3, abs=1e-3)
        assert 0 < reading.latency_ms < 1000 * middle_ms


def test_runtimes_that_python_can_measure_are_those_with_packages() -> None:
    assert set(bench.RUNTIMES) == {name for name, runtime in KIT_RUNTIMES.items() if runtime.modules}


def test_a_slow_moment_of_the_device_is_seen_in_the_reference() -> None:
    # The device takes 1 s for the reference network and 10 s for the network, and from a moment on twice as long.
    now = [0.0]

    def run(seconds: float) -> None:
        now[0] += seconds * (2.0 if now[0] > 200 else 1.0)

    network_s, reference_s = bench.in_turns(lambda: run(10), lambda: run(1), lambda: now[0], 0.0)
    assert len(network_s) == bench.LEAST_TURNS * bench.TIMED_RUNS and {round(one) for one in network_s} == {10, 20}
    ratios = [own_s / near_s for own_s, near_s in zip(network_s, reference_s, strict=True)]
    assert sorted(ratios)[:-1] == [pytest.approx(10.0)] * (len(ratios) - 1)  # but for the run in which it changed
