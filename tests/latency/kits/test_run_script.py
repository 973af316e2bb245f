"""Tests of the script that measures a kit on a device, with a stand-in for the tool."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nas.latency.kits.manifest import Kit
from tests.latency.kits.tiny_kit import SPECS, executable, install_tool, run_script, write_tiny_kit


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Kit]:
    folder = tmp_path_factory.mktemp("kits") / "kit"
    kit = write_tiny_kit(folder)
    install_tool(folder)
    return folder, kit


@pytest.fixture
def folder(written: tuple[Path, Kit], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "a kit"))


def test_it_measures_each_network_and_goes_on_where_it_was(folder: Path) -> None:
    done = run_script(folder)
    assert done.returncode == 0, done.stdout
    assert "12 networks, 12 measurements, by ./onnxruntime_perf_test\n[1/12] networks/001.onnx; " in done.stdout
    assert done.stdout.endswith("all 12 networks are measured: results/\n") and "s left" in done.stdout
    text = (folder / "results/010.txt").read_text()
    assert text.splitlines()[1:3] == ["# network 010", "# tool ./onnxruntime_perf_test"]
    assert text.endswith("# section network\nAverage inference time cost: 77 ms\nP50 Latency: 10e-3 s\n# end\n")
    device = dict(line.split(": ", 1) for line in (folder / "results/device.txt").read_text().splitlines())
    assert device["os"] == f"{os.uname().sysname} {os.uname().machine}" and device["processor"]
    before = text
    (folder / "results/003.txt").unlink()
    half = folder / "results/005.txt"
    half.write_text(half.read_text()[:60])
    (folder / "results/006.part").write_text("# kit")
    again = run_script(folder)
    assert [line.split(";")[0] for line in again.stdout.splitlines() if line.startswith("[")] == [
        "[3/12] networks/003.onnx",
        "[5/12] networks/005.onnx",
    ]
    assert half.read_text().endswith("# end\n") and (folder / "results/010.txt").read_text() == before


def test_every_network_is_measured_once_more_after_all_others(tmp_path: Path) -> None:
    write_tiny_kit(tmp_path, SPECS[:3], passes=3)
    install_tool(tmp_path)
    done = run_script(tmp_path)
    order = [line.split(";")[0] for line in done.stdout.splitlines() if line.startswith("[")]
    assert order == [f"[{index + 1}/9] networks/00{index % 3 + 1}.onnx" for index in range(9)]
    assert (tmp_path / "results/002-3.txt").read_text().splitlines()[1] == "# network 002-3"
    (tmp_path / "results/002-3.txt").unlink()
    assert run_script(tmp_path).stdout.count("[8/9]") == 1


def test_a_network_on_which_the_tool_fails_is_left_out_and_tried_again(folder: Path) -> None:
    (folder / "fails").write_text("002\n")
    done = run_script(folder)
    assert done.returncode == 0 and "[2/12] networks/002.onnx; failed: Failed to load model" in done.stdout
    assert "failed on networks 002, which are left out" in done.stdout
    assert not (folder / "results/002.txt").exists() and (folder / "results/002.failed").exists()
    (folder / "fails").unlink()
    assert "all 12 networks are measured" in run_script(folder).stdout
    assert not (folder / "results/002.failed").exists()


def test_a_tool_that_fails_on_all_networks_ends_it(folder: Path) -> None:
    executable(folder / "onnxruntime_perf_test", "#!/bin/sh\necho cannot find libonnxruntime.so; exit 127\n")
    done = run_script(folder)
    assert done.returncode == 4 and "[4/12]" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("error: ./onnxruntime_perf_test failed on all of the first networks")
    assert "cannot find libonnxruntime.so" in done.stdout.splitlines()[-1]


def test_a_missing_tool_says_what_to_install(folder: Path) -> None:
    (folder / "onnxruntime_perf_test").unlink()
    done = run_script(folder, PYTHON="no-python")
    assert done.returncode == 3
    assert done.stdout == (
        "error: onnxruntime_perf_test is not on this device: put onnxruntime_perf_test (a build of ONNX Runtime makes "
        "it) beside run.sh, or pip install onnxruntime numpy.\n"
    )
    done = run_script(folder, TOOL="/no/tool")
    assert done.returncode == 3 and "TOOL /no/tool: there is no such program" in done.stdout
    assert not (folder / "results/001.txt").exists()


def test_it_runs_once_at_a_time(folder: Path) -> None:
    (folder / "results").mkdir()
    (folder / "results/running").write_text(f"{os.getpid()}\n")
    done = run_script(folder)
    assert done.returncode == 6 and f"already running on this device (process {os.getpid()})" in done.stdout
    (folder / "results/running").write_text("999999999\n")  # of a run that was killed
    assert run_script(folder).returncode == 0 and not (folder / "results/running").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_storage_is_said_and_leaves_no_result(folder: Path) -> None:
    (folder / "results").mkdir()
    (folder / "results/001.part").symlink_to("/dev/full")
    done = run_script(folder)
    assert done.returncode == 5 and "results/001.txt cannot be written: is the storage full?" in done.stdout
    assert not (folder / "results/001.txt").exists()


def test_words_before_the_tool_and_a_pause(folder: Path) -> None:
    executable(folder / "with", '#!/bin/sh\necho "with $1" >>with.log\nshift\nexec "$@"\n')
    executable(folder / "sleep", '#!/bin/sh\necho "$1" >>slept.log\n')
    done = run_script(folder, RUN_WITH="./with core7", PAUSE_S="9", PATH=f"{folder}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stdout
    assert (folder / "with.log").read_text() == 24 * "with core7\n"
    assert (folder / "slept.log").read_text() == 11 * "9\n"
    assert "run_with: ./with core7" in (folder / "results/device.txt").read_text()
