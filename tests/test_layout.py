"""Tests of the project layout: top level, packaging, imports, docstrings."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib

import pytest

from tests.deadline import DEADLINE_S
from tests.paths import ROOT

TOP_LEVEL = {"pyproject.toml", "README.md", "nas", "search_spaces", "conf", "runs", "tests", "findings"}

MAX_FIRST_LINE = 80  # characters of a docstring's first line, without quotes


def project() -> dict[str, dict]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_top_level_is_fixed() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    ).stdout.splitlines()
    if not listed:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_every_package_is_listed_for_the_wheel() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("nas", "search_spaces")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(project()["tool"]["setuptools"]["packages"]) == found | {"nas.conf"}


@pytest.mark.parametrize(
    "module", ["nas", "nas.arch.zoo", "nas.arch.files", "nas.methods.search.config", "search_spaces.mixnet"]
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    heavy = "{'torch', 'timm', 'optuna', 'sklearn', 'matplotlib', 'onnxruntime', 'pandas'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stdout.strip() == "[]"


def test_first_lines_of_docstrings_are_short() -> None:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    first_lines = {
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}": text.partition("\n")[0]
        for top in ("nas", "search_spaces")
        for path in (ROOT / top).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, documented) and (text := ast.get_docstring(node))
    }
    assert len(first_lines) > 1000
    too_long = [f"{place}: {line}" for place, line in sorted(first_lines.items()) if len(line) > MAX_FIRST_LINE]
    assert not too_long, "\n".join(too_long)


def test_commands_are_installed_under_their_names() -> None:
    scripts = project()["project"]["scripts"]
    assert all(target == f"nas.{name.removeprefix('nas-').replace('-', '_')}:main" for name, target in scripts.items())
    assert {"nas-search", "nas-compound-grid", "nas-show", "nas-scale"} <= set(scripts)
