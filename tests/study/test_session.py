"""The study of a plan in its storage: what is looked at before anything else is loaded."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from nas import compound_grid, search
from nas.core.errors import NasError
from nas.data.description import DATASET_FILE
from nas.data.images import ImageData
from nas.methods.scaling import session as grids
from nas.methods.search import session as searches
from nas.methods.search.session import SearchSession
from nas.study.manifest import CONFIG_FILE
from nas.study.session import check_storage
from tests.data.test_images import make_images


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


def prepared(tmp_path: Path, *more: str) -> tuple[SearchSession, str]:
    """A search on the images of ``tmp_path``, and what it prints before its first trial."""
    plan = search.make_plan(
        [
            "space=mobilenet_v1",
            "data=imagefolder",
            "data.allow_constant=true",
            f"data.root={tmp_path / 'photos'}",
            "latency=macs",
            "estimator=proxy",
            "proxy=tiny",
            f"runs_dir={tmp_path / 'runs'}",
            "study.name=mine",
            *more,
        ]
    )
    console = Console(file=io.StringIO(), width=200)
    session = searches.prepare_search(plan, console)
    return session, console.file.getvalue()  # type: ignore[attr-defined]


def start(session: SearchSession) -> None:
    session.write_manifest()
    session.open()


def test_images_and_classes_are_printed_before_the_first_trial(tmp_path: Path) -> None:
    for split, count in (("Training", 20), ("Testing", 6)):
        make_images(tmp_path / "photos" / split, count=count)
    session, said = prepared(tmp_path)
    assert session.data.class_names == ("dark", "light")
    lines = said.splitlines()
    assert f"data imagefolder: {tmp_path / 'photos'}" in lines
    assert "  train: Training/, 40 images; validation: Testing/, 12 images" in lines
    assert "  2 classes: dark, light; images per class: 20 train, 6 validation" in lines
    (warning,) = (line for line in lines if line.startswith("warning: "))
    assert "12 validation images are identical to train images (such as Testing/dark/0.png and Training" in warning


def test_a_study_does_not_go_on_with_other_classes(tmp_path: Path) -> None:
    make_images(tmp_path / "photos")
    start(prepared(tmp_path)[0])
    assert prepared(tmp_path)[0].find() is not None
    (tmp_path / "photos" / "dark").rename(tmp_path / "photos" / "grey")
    with pytest.raises(NasError, match=r"2 classes, now the images have 2 \(missing now: dark; new: grey\)"):
        prepared(tmp_path)[0].find()


def test_a_study_of_an_earlier_version_does_not_go_on_with_other_classes(tmp_path: Path) -> None:
    """It read ``training/`` and ``testing/`` as two classes."""
    make_images(tmp_path / "photos")
    start(prepared(tmp_path)[0])
    folder = tmp_path / "runs" / "mine"
    (folder / DATASET_FILE).unlink()
    assert prepared(tmp_path)[0].find() is not None
    config = (folder / CONFIG_FILE).read_text(encoding="utf-8")
    (folder / CONFIG_FILE).write_text(config.replace("classes: 2", "classes: 4"), encoding="utf-8")
    with pytest.raises(NasError, match=r"'mine' was started with 4 classes, now the images have 2: its"):
        prepared(tmp_path)[0].find()


def test_more_images_than_before_are_warned_of(tmp_path: Path) -> None:
    make_images(tmp_path / "photos")
    session, said = prepared(tmp_path)
    assert "was started with" not in said
    start(session)
    Image.new("RGB", (12, 12), (90, 90, 90)).save(tmp_path / "photos" / "dark" / "more.png")
    session, said = prepared(tmp_path)
    assert "warning: mine was started with 8 train and 2 validation images, now there are 8 and 3" in said
    assert session.find() is not None


def test_a_study_goes_on_whose_folders_are_refused_now_without_a_word(tmp_path: Path) -> None:
    """The first version took folders for classes though theirs have the same names; ``data.train=.`` says so."""
    for name in ("dark", "light"):
        for part, level in (("east", 30), ("west", 60)):
            (tmp_path / "photos" / name / part).mkdir(parents=True)
            for index in range(5):
                image = Image.new("RGB", (12, 12), (level, index, len(name)))
                image.putpixel((0, 0), (0, 0, 0))
                image.save(tmp_path / "photos" / name / part / f"{index}.png")
    with pytest.raises(NasError, match="can be read in two ways"):
        prepared(tmp_path)
    session, _ = prepared(tmp_path, "data.train=.")
    assert session.data.class_names == ("dark", "light")
    assert not {"data.train", "data.val"} & session.identity.keys()  # as that version stored it
    start(session)
    assert prepared(tmp_path, "data.train=.")[0].find() is not None
