"""A kit of tiny networks, and stand-ins for a benchmark tool, ssh and adb."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.latency.kits.manifest import Kit, KitSettings, Protocol
from nas.latency.kits.writer import write_kit

SPECS = tuple(
    ArchSpec.from_strings(
        f"tiny{index}",
        [[f"ir_r1_k{3 + 2 * (index % 2)}_s2_e2_c{8 + 4 * index}"]],
        stem=StemSpec(channels=8),
        head=HeadSpec(channels=16 + 8 * index),
        resolution_px=32,
        classes=3,
    )
    for index in range(12)
)
REFERENCE = ArchSpec.from_strings(
    "reference",
    [["cn_r1_k1_s1_c8"]],
    stem=StemSpec(channels=8),
    head=HeadSpec(channels=8),
    resolution_px=16,
    classes=3,
)
# Prints what onnxruntime_perf_test does: 1 ms for the reference network, 10 ms for network 010; seconds in the file
# "slow" are added to both. It fails on the networks in the file "fails".
TOOL = """#!/bin/sh
for file; do :; done
number=$(basename "$file" .onnx)
if grep -qs "^$number$" fails; then echo "Failed to load model: $file"; exit 1; fi
case $number in reference) ms=1 ;; *) ms=${number#0}; ms=${ms#0} ;; esac
factor=$(cat slow 2>/dev/null || echo 1)
echo "Average inference time cost: 77 ms"
echo "P50 Latency: $((ms * factor))e-3 s"
"""

# Runs the last word in the folder "home" beside it, as ssh does on another machine. A file "says" beside it makes ssh
# itself fail with these words; "breaks" lets the connection end after so many lines.
SSH = """#!/bin/sh
here=$(dirname "$0")
echo "$@" | head -n 1 >>"$here/log"
for script; do :; done
if [ -f "$here/says" ]; then cat "$here/says" >&2; exit 255; fi
cd "$here/home" || exit 1
if [ -f "$here/breaks" ]; then
    sh -c "$script" | head -n "$(cat "$here/breaks")"
    echo "client_loop: send disconnect: Broken pipe" >&2
    exit 255
fi
exec sh -c "$script"
"""
# Knows the devices in the file "devices"; a shell of a device runs in the folder "home".
ADB = """#!/bin/sh
here=$(dirname "$0")
[ "$1" = -s ] && { serial=$2; shift 2; }
command=$1
shift
case $command in
devices) printf '* daemon started successfully\\nList of devices attached\\n'; cat "$here/devices"; echo; exit ;;
esac
state=$(sed -n "s/^$serial[[:space:]]*//p" "$here/devices")
[ "$state" = device ] || { echo "error: device '$serial' not found" >&2; exit 1; }
case $command in
get-state) echo device ;;
push) [ -f "$here/full" ] && { echo "adb: error: remote write failed: No space left on device"; exit 1; }
    mkdir -p "$(dirname "$2")" && cp "$1" "$2" && echo "$1: 1 file pushed" ;;
shell | exec-out) exec sh -c "$1" ;;
esac
"""


def write_tiny_kit(
    folder: Path, specs: Sequence[ArchSpec] = SPECS, runtime: str = "onnxruntime", **settings: int
) -> Kit:
    """Kit of tiny networks for ONNX Runtime, without pauses, a moment for each; one pass by default."""
    protocol = Protocol(warmup_runs=1, runs=1, seconds=0.01, pause_s=0, **{"passes": 1, **settings})
    own = KitSettings(runtime=runtime, accelerator="cpu", precision="float32", protocol=protocol)
    return write_kit(own, folder, specs=specs, reference=REFERENCE)


def install_tool(folder: Path) -> Path:
    """Put the stand-in for ``onnxruntime_perf_test`` into ``folder``."""
    return executable(folder / "onnxruntime_perf_test", TOOL)


def install_stand_ins(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put stand-ins for ssh and adb into ``place`` and first on the PATH; the devices are in its folder ``home``."""
    (place / "home").mkdir()
    executable(place / "ssh", SSH)
    executable(place / "adb", ADB)
    (place / "devices").write_text("R58M\tdevice\n", encoding="utf-8")
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


def executable(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def run_script(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run run.sh of the kit in ``folder``."""
    return subprocess.run(
        ["sh", str(folder / "run.sh")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
