"""Tests of comparisons of rules and of tables as commands, on real images.

Their output files, and their continuation with more seeds.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nas.compound_grid import command
from nas.study.trial_attributes import count_finished
from tests.methods.scaling.tiny import TINY, Page, networks, outcomes
from tests.studies import open_study_file


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Studies run in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_rules_are_compared_with_the_same_machinery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([*TINY, "compare=[depth,width,resolution,compound,stepwise]"]) == 0
    folder = tmp_path / "runs" / "tiny"
    rows, rules = networks(folder), {"depth", "width", "resolution", "compound", "stepwise"}
    assert next(iter(rows)) == "baseline" and set(rows) == {"baseline", *rules}
    assert {row["seeds"] for row in rows.values()} == {"2"} and count_finished(open_study_file(tmp_path)) == 10
    assert all(1.8 < float(row["macs_x"]) < 2.2 for name, row in rows.items() if name != "baseline")
    said = capsys.readouterr().out
    (axis,) = re.findall(r"Step 1 \(x2\.\d\d MACs\) chose (\w+), ", said)
    assert "5 rules at macs x2" in said and rows["stepwise"]["arch_id"] == rows[axis]["arch_id"]
    assert not (folder / "family").exists() and not (folder / "surface.svg").exists()
    drawn = (folder / "rules.svg").read_text(encoding="utf-8")
    assert all(f">{name}</text>" in drawn for name in rows)


def test_a_table_leaves_lines_a_matrix_and_every_network_as_often(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requested = [*TINY, "compare=width_resolution", "table.widths=[1.0,0.75]", "table.sides_px=[224,160]"]
    assert command(requested) == 0
    said, folder = capsys.readouterr().out, tmp_path / "runs" / "tiny"
    rows = networks(folder)
    assert set(rows) == {"w1 224px", "w1 160px", "w0.75 224px", "w0.75 160px"}
    assert {row["seeds"] for row in rows.values()} == {"2"} and count_finished(open_study_file(tmp_path)) == 8
    best = max(rows.values(), key=lambda row: float(row["accuracy"]))
    assert f"Best: {best['network']} with" in said and "the baseline has" in said and "224px" in said
    page = (folder / "report.html").read_text(encoding="utf-8")
    Page(page)
    assert "table of width x resolution" in page and "Accuracy by width and input side" in page
    for name in ("macs", "latency", "table"):
        assert (folder / f"{name}.svg").is_file() and (folder / f"{name}.png").is_file(), name
    assert not (folder / "family").exists() and not (folder / "surface.svg").exists()
    before = outcomes(tmp_path)
    assert command([*requested, "race.seeds=3"]) == 0
    assert outcomes(tmp_path)[:8] == before and [seed for _, seed, _, _ in outcomes(tmp_path)[8:]] == [2] * 4
