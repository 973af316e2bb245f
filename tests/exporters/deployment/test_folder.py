"""The folder of an export is there whole or not at all, and replaces nothing that is no export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.exporters.deployment.folder import CARD_FILE, PREPROCESSING_FILE, staged_folder


def write(folder: Path, text: str, *, overwrite: bool = False) -> None:
    with staged_folder(folder, overwrite=overwrite) as staged:
        for name in (CARD_FILE, PREPROCESSING_FILE):
            (staged / name).write_text(text, encoding="utf-8")
        if text == "old":
            (staged / "old").touch()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_it_is_moved_into_place_and_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    write(folder, "old")
    with pytest.raises(NasError, match=r"b': holds an export already; overwrite=true replaces it"):
        write(folder, "new")
    assert (folder / CARD_FILE).read_text(encoding="utf-8") == "old"
    write(folder, "new", overwrite=True)
    assert (folder / CARD_FILE).read_text(encoding="utf-8") == "new"
    assert files(tmp_path) == {"a", "a/b", f"a/b/{CARD_FILE}", f"a/b/{PREPROCESSING_FILE}"}
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "new")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path: Path, overwrite: bool) -> None:
    with pytest.raises(ZeroDivisionError), staged_folder(tmp_path / "a" / "b", overwrite=overwrite) as staged:
        (staged / "half").touch()
        raise ZeroDivisionError
    assert files(tmp_path) == set()
    write(tmp_path / "c", "old")
    with pytest.raises(NasError, match="broken"), staged_folder(tmp_path / "c", overwrite=True) as staged:
        (staged / "half").touch()
        raise NasError("broken")
    assert files(tmp_path) == {"c", "c/old", f"c/{CARD_FILE}", f"c/{PREPROCESSING_FILE}"}


def test_what_is_no_export_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "file").touch()
    for name, message in (("photos", "holds files that are no export"), ("file", "is a file; give a folder")):
        with pytest.raises(NasError, match=message):
            write(tmp_path / name, "new", overwrite=True)
    with pytest.raises(NasError, match="cannot be written to: Not a directory"):
        write(tmp_path / "file" / "below", "new")
    assert files(tmp_path) == {"photos", "photos/cat.jpg", "file"}


@pytest.mark.parametrize("name", [".", "..", "/", "../current"])
def test_the_current_folder_is_not_replaced_under_the_user_s_feet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    with pytest.raises(NasError, match="is the current folder, or above it; give a folder of its own"):
        write(Path(name), "new", overwrite=True)
    assert files(tmp_path) == {"current"}


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with staged_folder(tmp_path / "onnx", overwrite=False) as staged:
        own = staged.name
    host, _, _ = own.removeprefix(".onnx.").partition("-")
    abandoned, running = f".onnx.{host}-{child.pid}-0", f".onnx.{host}-{os.getpid()}-0"
    elsewhere, other = f".onnx.000000-{child.pid}-0", f".litert.{host}-{child.pid}-0"
    for name in (abandoned, running, elsewhere, other):
        (tmp_path / name).mkdir()
    with staged_folder(tmp_path / "onnx", overwrite=True):
        pass
    assert not (tmp_path / abandoned).exists()
    assert all((tmp_path / name).exists() for name in (running, elsewhere, other))
