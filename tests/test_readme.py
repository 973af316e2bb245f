"""The README's promises that a machine can check: its space, its Python, its files, its commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nas.cli.resolve.networks import resolve_arch
from nas.scale import command as scale
from nas.search import make_plan
from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_space_shown_is_the_one_that_is_tested() -> None:
    tested = (ROOT / "tests" / "search_spaces" / "data" / "tiny.yaml").read_text(encoding="utf-8")
    assert [text.strip() for text in blocks("yaml")] == [tested.strip()]


def test_the_space_shown_can_be_searched_from_a_folder_of_one_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "space").mkdir(parents=True)
    (tmp_path / "conf" / "space" / "tiny.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert make_plan(["+space=tiny"]).space.name == "tiny"


def test_the_python_shown_runs() -> None:
    for text in blocks("python"):
        exec(compile(text, "README.md", "exec"), {})


def test_commands_shown_are_accepted(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for name in ("a/1.png", "b/1.png"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"")
    lines = re.findall(r"python -m nas\.search (\+space=\S[^\n#`]*)", README)
    assert len(lines) >= 5
    for line in lines:
        if "tiny" in line or "/path/" in line:
            continue
        words = [word.strip("'").replace("data.root=photos", f"data.root={root}") for word in line.split()]
        assert make_plan(words).space.name in line


def test_scalings_shown_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"python -m nas\.scale (arch=[^\n#`]*)", README)
    assert len(lines) >= 5
    for line in lines:
        assert scale([*line.split(), "latency=macs"]) == 0
    assert resolve_arch("b0_25ms.yaml").depth >= resolve_arch("efficientnet_b0").depth


def test_files_and_networks_shown_exist() -> None:
    for path in re.findall(r"\]\((runs/[^)]+)\)", README):
        assert (ROOT / path).is_file(), path
    for name in re.findall(r"arch=([a-z0-9_/]+)\s", README):
        assert resolve_arch(name)
    tree = next(text for text in README.split("```\n") if text.startswith("pyproject.toml"))
    top = [line.split()[0] for line in tree.splitlines() if line and not line.startswith(" ")]
    assert all((ROOT / name).exists() for name in top)
