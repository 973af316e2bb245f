"""The study of a plan in its storage: what is looked at before anything else is loaded."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nas import compound_grid, search
from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.methods.scaling import session as grids
from nas.methods.search import session as searches
from nas.study.session import check_storage


@pytest.mark.parametrize(
    ("prepare", "make_plan", "arguments"),
    [
        (searches.prepare_search, search.make_plan, ["space=mobilenet_v1"]),
        (grids.prepare_scaling, compound_grid.make_plan, []),
    ],
    ids=["search", "grid"],
)
def test_a_storage_that_cannot_be_opened_is_told_before_anything_is_loaded(
    prepare: Callable[[Any, Console], Any],
    make_plan: Callable[[list[str]], Any],
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("the images were loaded first")

    path = tmp_path / "optuna.db"
    path.write_text("no database " * 99, encoding="utf-8")
    plan = make_plan([*arguments, f"study.storage=sqlite:///{path}", f"runs_dir={tmp_path}"])
    monkeypatch.setattr("nas.study.session.load_images", load)
    with pytest.raises(NasError, match=r"study\.storage .* cannot be opened"):
        prepare(plan, Console(file=io.StringIO()))


def test_notices_of_the_images_are_printed_once(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.study.session.load_images", lambda *_, **__: replace(digits, notices=("bars", "frames")))
    console = Console(file=io.StringIO())
    searches.prepare_search(search.make_plan(["space=mobilenet_v1", "latency=macs", f"runs_dir={tmp_path}"]), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("note: bars\nnote: frames\n") == 1


def test_looking_at_a_storage_makes_none(tmp_path: Path) -> None:
    plan = search.make_plan(["space=mobilenet_v1", f"runs_dir={tmp_path}", "study.patience_s=7"])
    assert check_storage(plan, Console(file=io.StringIO())).limit_s == 7
    assert list(tmp_path.iterdir()) == []
