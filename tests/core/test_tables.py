"""Tables: dispensable columns omitted on narrow terminals, all of them when piped."""

from __future__ import annotations

import pytest
from rich.console import Console

from nas.core import tables
from nas.core.tables import print_table

COLUMNS = ("layer", "kind", "acts", "ms")
ROWS = [("blocks.0.0.conv_dw", "depthwise 3x3", "1.5M", "0.25"), None, ("classifier", "linear", "1.0k", "0.5")]


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, **options: bool
) -> list[str]:
    monkeypatch.setattr(tables, "Console", lambda: Console(width=width, color_system=None, **options))
    print_table(COLUMNS, ROWS, ["0.75 ms in total"], left=2, dispensable=("acts", "kind"))
    return capsys.readouterr().out.splitlines()


# 18, 13, 4 and 4 letters with two spaces between are 45, without "acts" 39, with neither 24.
@pytest.mark.parametrize(
    ("width", "omitted"), [(45, []), (44, ["acts"]), (39, ["acts"]), (38, ["acts", "kind"]), (20, ["acts", "kind"])]
)
def test_columns_omitted_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, omitted: list[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    lines = printed(capsys, monkeypatch, width, force_terminal=True)
    assert lines[0].split() == [name for name in COLUMNS if name not in omitted]
    assert [line for line in lines if line.startswith("columns omitted")] == (
        [f"columns omitted, the terminal is too narrow: {', '.join(omitted)}"] if omitted else []
    )
    assert lines[-1] == "0.75 ms in total"
    if width > 20:
        assert any(line.startswith("blocks.0.0.conv_dw ") for line in lines)


def test_piped_tables_are_complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(capsys, monkeypatch, 20, force_terminal=False)
    assert lines[0].split() == list(COLUMNS)
    assert lines[2].split() == ["blocks.0.0.conv_dw", "depthwise", "3x3", "1.5M", "0.25"]
