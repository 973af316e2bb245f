"""Tests of a search's output in a narrow terminal and in a log.

A log has no colours and no control characters.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Thread

import pytest

from nas.search import command
from tests.deadline import DEADLINE_S
from tests.paths import ROOT

COLUMNS = 80
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
FORCED = ("COLUMNS", "LINES", "FORCE_COLOR")
SEARCH = (
    "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "data.subset=100",
    "study.n_trials=2",
)  # fmt: skip
COLOUR = re.compile(r"\x1b\[[\d;]*(?:3|4|9|10)[0-7](?:;[\d;]*)?m")
CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


def environment() -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in FORCED}
    return {**plain, "PYTHONPATH": str(ROOT)}


@contextmanager
def terminal_of(columns: int) -> Iterator[list[bytes]]:
    """A terminal as the standard streams of this process; what is written to it is there when it is closed."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    before = [os.dup(number) for number in range(3)]
    for number in range(3):
        os.dup2(terminal, number)
    os.close(terminal)
    written: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # Linux's way to say that nobody writes any more
            while chunk := os.read(controller, 65536):
                written.append(chunk)

    reader = Thread(target=read)
    reader.start()
    try:
        with pytest.MonkeyPatch.context() as streams, open(1, "w", encoding="utf-8", closefd=False) as stream:
            streams.setattr(sys, "stdout", stream)
            streams.setattr(sys, "stderr", stream)
            yield written
    finally:
        for number, copied in enumerate(before):
            os.dup2(copied, number)
            os.close(copied)
        reader.join()
        os.close(controller)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_fits_a_terminal(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(SCRIPTS[script].removesuffix(":main"))
    assert module.command(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    output = " ".join(" ".join(lines).split())
    assert output.startswith(f"python -m {module.__name__}") and f"{script} -sc install=bash" in output
    assert "json=true" in output and "--cfg job" in output


def test_a_narrow_terminal_without_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in FORCED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal_of(COLUMNS) as written:
        assert command(list(SEARCH)) == 0
    output = b"".join(written).decode()
    assert not COLOUR.search(output)
    drawn = [CONTROL.sub("", part) for part in re.split(r"[\r\n]+", output)]
    bars = [part for part in drawn if part.startswith("trials ")]
    assert any("2/2" in part for part in bars) and max(map(len, bars)) <= COLUMNS
    tables = [part for part in drawn if part[:1] in "┏┃┡│└"]
    assert tables and max(map(len, tables)) <= COLUMNS
    assert any(part.startswith("open runs/") for part in drawn)


def test_unwritable_output_is_at_most_one_line_of_error() -> None:
    show = [sys.executable, "-m", "nas.show", "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    gone = subprocess.run(show, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S)
    os.close(writer)
    assert (gone.returncode, gone.stderr) == (1, "")
    with Path("/dev/full").open("w") as full:
        completed = subprocess.run(
            show, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S
        )
    assert completed.returncode == 1
    assert completed.stderr == "error: cannot write the output: No space left on device; redirect it elsewhere.\n"


def test_a_log_has_one_plain_line_for_each_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in FORCED:
        monkeypatch.delenv(name, raising=False)
    assert command(list(SEARCH)) == 0
    output, error = capfd.readouterr()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output) and error == ""
    lines = output.splitlines()
    assert [line for line in lines if re.match(r"\d/2 ", line)] == [line for line in lines if ": accuracy" in line]
    assert sum("survey of space" in line for line in lines) == 1
