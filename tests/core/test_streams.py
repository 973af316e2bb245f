"""What reaches terminals and files: no control characters, any encoding, and nothing of a stream that is closed."""

from __future__ import annotations

import ast
import io
import os
import signal
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nas.core.console import StudyConsole, announced, label_column, print_lines, progress_bar
from nas.core.errors import NasError
from nas.core.files import write_text_atomically
from nas.core.formatting import escape_controls
from nas.core.streams import prepare_streams, write_error, write_lines, write_unbuffered
from nas.core.tables import print_table
from nas.reporting.columns import Column, print_columns
from tests.paths import ROOT

DASH = "\N{EN DASH}"
TEXT = f"Jürgen's photos {DASH} 3×3, 50% café 猫"
HOSTILE = "a\x1b[31m\nb\r\x07\u202ec\x9b2J"


def ascii_stream() -> io.TextIOWrapper:
    """A terminal of an ASCII locale (``LC_ALL=C PYTHONUTF8=0``)."""
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)


def written(stream: io.TextIOWrapper) -> str:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode("ascii")


def is_harmless(text: str) -> bool:
    """Whether a terminal obeys nothing in ``text`` but its newlines."""
    return not any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in text if one != "\n")


@given(st.text())
def test_escaped_text_is_one_line_that_a_terminal_only_shows(text: str) -> None:
    shown = escape_controls(text)
    assert is_harmless(shown) and len(shown.splitlines()) <= 1
    assert shown.isprintable() and escape_controls(shown) == shown
    narrow = escape_controls(text, ascii_only=True)
    assert narrow.isascii() and escape_controls(narrow) == narrow


def test_text_of_people_stays_as_it_is() -> None:
    assert escape_controls(TEXT) == TEXT
    assert escape_controls("two\nlines\x1b[1m") == r"two\nlines\x1b[1m"


def test_every_way_to_the_terminal_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    print_lines(console, HOSTILE, "[red]:smile:{x}")
    print_table([HOSTILE], [(HOSTILE,), None, ("[/bold]",)], [HOSTILE], console=console)
    column: Column[str] = Column(name="name", heading=HOSTILE, unit=HOSTILE, value=str, align="left")
    print_columns(console, HOSTILE, [column], [HOSTILE, "[/bold]"])
    with progress_bar(console, HOSTILE) as report:
        report(1, 2)
    with announced(console, HOSTILE):
        pass
    write_lines(HOSTILE)
    write_error(f"error: {NasError(HOSTILE)}")
    shown = stream.getvalue() + "".join(capsys.readouterr())
    assert is_harmless(shown) and shown.count(escape_controls(HOSTILE)) == 12
    assert shown.count("[/bold]") == 2 and "[red]:smile:{x}\n" in shown
    assert label_column("{name} [x]").text_format.format() == "{name} [x]"


def test_commands_print_through_the_streams_alone() -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "nas").rglob("*.py"))
        if "templates" not in path.parts  # programs for devices, which stand alone
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_what_an_encoding_lacks_is_shown_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ascii_stream()
    monkeypatch.setattr(sys, "stdout", stream)
    prepare_streams()
    write_lines(f"3×3 {DASH} 0.5±0.1 …", "café 猫", "\udcff undecodable file name")
    print_table(["name", "× ms"], [("ü", "1.0")], ["≤ 5"])
    lines = written(stream).splitlines()
    assert lines[:3] == ["3x3 - 0.5+-0.1 ...", r"caf\xe9 \u732b", r"\udcff undecodable file name"]
    assert lines[3].split("|") == ["name ", "x ms"] and lines[-1] == "<= 5"


def test_a_file_takes_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff")
    write_text_atomically(tmp_path / "report.html", f"photos in {name}, {TEXT}")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == f"photos in bad\\udcff, {TEXT}"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_takes_what_is_written(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    number = {"stdout": 1, "stderr": 2}[name]
    kept = os.dup(number)
    monkeypatch.setattr(sys, name, None)  # as Python starts after >&-
    os.close(number)
    try:
        prepare_streams()
        getattr(sys, name).write("nobody reads this")
        with (tmp_path / "results.db").open("w") as file:
            assert file.fileno() > 2  # a library's output would end in it
        getattr(sys, name).close()
    finally:
        os.dup2(kept, number)
        os.close(kept)
    assert (tmp_path / "results.db").read_text() == ""


def test_a_study_whose_output_nobody_reads_is_interrupted_once(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    console = StudyConsole(file=stream)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            print_lines(console, "trial 1")
        print_lines(console, "trial 2")
    finally:
        signal.signal(signal.SIGINT, before)
    write_unbuffered(stream, "trial 3")
    stream.close()
    assert capsys.readouterr().err == "nobody reads the output any more: interrupted\n"
