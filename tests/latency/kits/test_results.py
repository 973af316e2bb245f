"""Tests of reading results back: drift, other kits, output that cannot be read, and the fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.latency.kits.fit import fit_kit
from nas.latency.kits.manifest import Kit, KitSettings, Protocol, load_kit
from nas.latency.kits.results import read_results
from nas.latency.kits.writer import write_kit
from tests.latency.kits.tiny_kit import REFERENCE, SPECS, write_tiny_kit

DEVICE = "processor: Pixel 6\ncores: 8\nos: Linux aarch64\nrun_with: taskset 80\n"


@pytest.fixture(scope="module")
def kit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kits") / "kit"
    write_tiny_kit(folder)
    return folder


@pytest.fixture
def kit(kit_folder: Path) -> Kit:
    return load_kit(kit_folder)


def perf_test(ms: float) -> list[str]:
    return [f"P50 Latency: {ms * 1e-3!r} s"]


def write_result(
    folder: Path,
    kit: Kit,
    number: str,
    network_ms: float,
    reference_ms: float = 1.0,
    *,
    time_s: int = 1000,
    tool: str = "./onnxruntime_perf_test",
    show: Callable[[float], list[str]] = perf_test,
) -> Path:
    """A result file as run.sh writes it."""
    folder.mkdir(exist_ok=True)
    head = [f"# kit {kit.kit_id}", f"# network {number}", f"# tool {tool}", f"# time {time_s}"]
    lines = [*head, "# section reference", *show(reference_ms), "# section network", *show(network_ms), "# end"]
    (folder / f"{number}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "device.txt").write_text(DEVICE, encoding="utf-8")
    return folder / f"{number}.txt"


def true_ms(position: int) -> float:
    return 2.0 + 1.5 * position


def write_results(folder: Path, kit: Kit, slowdown: Callable[[float], float] = lambda position: 1.0) -> None:
    """Results on a device that takes ``slowdown`` times as long at each position in time.

    The reference network takes 0.4 ms; it is measured at position i, network i at i + 1/2.
    """
    for position, network in enumerate(kit.networks):
        write_result(
            folder,
            kit,
            network.number,
            true_ms(position) * slowdown(position + 0.5),
            0.4 * slowdown(position),
            time_s=1000 + 5 * position,
        )


def test_the_device_is_described(kit: Kit, tmp_path: Path) -> None:
    write_results(tmp_path, kit)
    results = read_results(kit, tmp_path)
    assert str(results.device) == (
        "Pixel 6 (8 cores, Linux aarch64), onnxruntime (onnxruntime_perf_test taskset 80), 1 thread, batch 1, float32"
    )
    assert results.pairs == [(spec, pytest.approx(true_ms(index))) for index, spec in enumerate(SPECS)]
    assert results.missing == () and results.failed == {}


def test_throttling_is_divided_out(kit: Kit, tmp_path: Path) -> None:
    # It gets slower by a constant factor from network to network, so that the speed at a network is exactly the
    # geometric mean of those at the references before and after it. The last network has none after it.
    rate = math.log(2) / len(kit.networks)
    write_results(tmp_path, kit, lambda position: math.exp(rate * position))
    found = [ms for _, ms in read_results(kit, tmp_path).pairs]
    typical = (math.exp(rate * 5) + math.exp(rate * 6)) / 2  # the median of the references, 0 to 11
    assert found[:-1] == [pytest.approx(true_ms(position) * typical) for position in range(len(kit.networks) - 1)]
    assert found[-1] == pytest.approx(true_ms(len(kit.networks) - 1) * typical * math.exp(rate / 2))


def test_a_network_during_which_the_speed_changed_is_left_out(kit: Kit, tmp_path: Path) -> None:
    write_results(tmp_path, kit, lambda position: 1.6 if position > 4.2 else 1.0)
    results = read_results(kit, tmp_path)
    assert results.unsteady == {"005": pytest.approx(0.6)}
    assert len(results.pairs) == 11 and results.noise is None


def test_passes_that_agree_are_averaged_and_of_others_the_fastest_counts(tmp_path: Path) -> None:
    kit = write_tiny_kit(tmp_path / "kit", SPECS[:10], passes=2)
    results = tmp_path / "results"
    for position, network in enumerate(kit.networks):
        for turn, factor in enumerate((1.0, 1.1 if position else 1.3), start=1):
            label = network.number if turn == 1 else f"{network.number}-{turn}"
            write_result(results, kit, label, 10 * factor, time_s=1000 * turn + 5 * position)
    found = read_results(kit, results)
    assert [ms for _, ms in found.pairs] == [pytest.approx(ms) for ms in [10.0, *[10.5] * 9]]
    spreads = [math.log(factor) ** 2 / 2 for factor in (1.3, *[1.1] * 9)]  # variances of two values
    assert found.noise == pytest.approx(math.sqrt(sum(spreads) / 10))
    (results / "001.txt").unlink()
    (results / "002-2.txt").unlink()
    again = read_results(kit, results)
    assert [ms for _, ms in again.pairs[:2]] == [pytest.approx(13.0), pytest.approx(10.0)] and again.missing == ()


def test_days_later_the_next_reference_says_nothing(kit: Kit, tmp_path: Path) -> None:
    write_results(tmp_path, kit)
    write_result(tmp_path, kit, "012", 2 * true_ms(11), 0.8, time_s=90_000)
    results = read_results(kit, tmp_path)
    assert results.unsteady == {}
    assert results.pairs[11][1] == pytest.approx(true_ms(11)) and results.pairs[10][1] == pytest.approx(true_ms(10))


def test_the_stand_in_measures_in_turns(kit: Kit, tmp_path: Path) -> None:
    def show(ms: float) -> list[str]:
        return [*perf_test(7 * ms), f"bench.py: median {ms!r} ms of 9 runs"]

    for position, network in enumerate(kit.networks):
        factor = 1.5 if position % 2 else 1.0
        ms = true_ms(position) * factor
        write_result(tmp_path, kit, network.number, ms, 0.4 * factor, tool="bench.py", show=show)
    results = read_results(kit, tmp_path)
    assert [ms for _, ms in results.pairs] == [pytest.approx(true_ms(index) * 1.25) for index in range(12)]


def test_lines_may_end_as_in_windows_and_hold_anything(kit: Kit, tmp_path: Path) -> None:
    write_results(tmp_path, kit)
    path = tmp_path / "004.txt"
    path.write_bytes(
        path.read_bytes().replace(b"\n", b"\r\n").replace(b"# section network", b"\xff\xfe\n# section network")
    )
    assert len(read_results(kit, tmp_path).networks) == 12


def test_errors_show_the_file_and_the_line(kit: Kit, tmp_path: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(NasError, match=words) as raised:
            read_results(kit, tmp_path)
        assert "\n" not in str(raised.value)

    refused("no network is measured; run run.sh there first")
    (tmp_path / "001.failed").write_text("Killed\n\n")
    refused("no network is measured; the tool failed: 'Killed'")
    write_results(tmp_path, kit)
    path = tmp_path / "003.txt"
    text = path.read_text()
    path.write_text(text.replace(perf_test(true_ms(2))[0], "Segmentation fault"))
    refused(
        r"003\.txt, line 8: network: there is no latency in the output of onnxruntime_perf_test; its last line is "
        "'Segmentation fault'; delete the file, and run run.sh again"
    )
    path.write_text(text.replace(kit.kit_id, "0123456789"))
    refused(rf"003\.txt: measured with kit '0123456789', but this is kit {kit.kit_id}; delete it")
    path.write_text(text.replace("# network 003", "# network 004"))
    refused(r"003\.txt: its first lines are not those that run\.sh writes")
    path.write_text(
        text.replace("./onnxruntime_perf_test", "/data/local/tmp/bench.py").replace(
            " s\n", " s\nbench.py: median 1 ms of 9 runs\n"
        )
    )
    refused("measured by bench.py and onnxruntime_perf_test, which differ")
    path.write_bytes(b"x" * 1_000_001)
    refused(r"003\.txt: has more than 1,000,000 bytes, which no tool prints")


def test_a_gpu_where_the_cpu_was_meant_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "nas.latency.kits.writer.format_of", lambda name: pytest.importorskip("nas.exporters.formats").FORMATS["onnx"]
    )
    kit = write_kit(
        KitSettings(runtime="litert", accelerator="cpu", precision="float32", protocol=Protocol()),
        tmp_path / "kit",
        specs=SPECS[:10],
        reference=REFERENCE,
    )
    lines = [
        "INFO: Created TensorFlow Lite delegate for GPU.",
        "Inference timings in us: Init: 5, Inference (avg): 900",
    ]
    write_result(tmp_path, kit, "001", 1.0, show=lambda ms: lines)
    with pytest.raises(
        NasError, match=r"a GPU ran the network, in float16, but the kit is for float32 on the CPU; .* acc"
    ):
        read_results(kit, tmp_path)


def test_the_fit_names_what_it_left_out(kit_folder: Path, kit: Kit, tmp_path: Path, few_starts: None) -> None:
    write_results(tmp_path, kit)
    write_result(tmp_path, kit, "006", 60.0, 0.4, time_s=1025)
    (tmp_path / "012.txt").rename(tmp_path / "012.failed")
    fit = fit_kit(kit_folder, tmp_path)
    assert len(fit.predictor.checks) == 10 and "tiny5" not in {check.name for check in fit.predictor.checks}
    text = "\n".join(fit.notes)
    assert "11 networks measured (median of the runs); the reference network took 1.00 to 1.00 times" in text
    assert "1 network not measured: 012." in text and "the tool failed on network 012: # end" in text
    assert "tiny5 left out: 60 ms measured, where the others predict" in text
    (tmp_path / "011.txt").unlink()
    (tmp_path / "010.txt").unlink()
    with pytest.raises(NasError, match=r"9 networks of 12 can be used, too few.*at least 10 are needed") as raised:
        fit_kit(kit_folder, tmp_path)
    assert "\n" not in str(raised.value)
