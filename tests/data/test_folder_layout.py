"""Splits and classes of image folders: found by name and content, given by hand, or refused with the readings."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from nas.core.errors import NasError
from nas.data.folder_layout import find_splits, split_role
from nas.data.sources import DataSettings, check_data, folder_splits


def make(root: Path, *patterns: str) -> Path:
    """Make empty files; ``{train,val}/{a,b}/1.png`` stands for four."""
    for pattern in patterns:
        groups = [part.strip("{}").split(",") for part in pattern.split("/")]
        for parts in product(*groups):
            path = root.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def refusal(root: Path) -> str:
    with pytest.raises(NasError) as caught:
        find_splits(root)
    text = str(caught.value)
    assert "\n" not in text
    assert str(root) in text
    return text


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("training", "testing"),  # mnist_png
        ("Training", "Testing"),  # Brain Tumor MRI, of Kaggle
        ("Train", "Val"),
        ("TRAIN", "TEST"),
        ("training_set", "test_set"),  # cats and dogs, of Kaggle
        ("seg_train", "seg_test"),  # Intel Image Classification
        ("train", "Val"),
        ("train", "dev"),
        ("train", "eval"),
        ("trainset", "testset"),
        ("train-images", "validation data"),
        ("TrainingSet", "Valid"),
        ("train2017", "val2017"),
        ("dataset_train", "dataset_val"),
    ],
)
def test_usual_names_of_splits_are_splits(tmp_path: Path, train: str, val: str) -> None:
    splits = find_splits(make(tmp_path, f"{{{train},{val}}}/{{0,1,2,3}}/1.png", ".git/x.png", "__MACOSX/a/._1.png"))
    assert (splits.train, splits.val) == (tmp_path / train, tmp_path / val)
    assert splits.class_names == ("0", "1", "2", "3")
    assert splits.unused == {}


def test_a_split_may_lie_in_a_folder_of_its_name(tmp_path: Path) -> None:
    """The archive of Intel Image Classification unpacks to this, with unlabelled images beside."""
    make(tmp_path, "seg_train/seg_train/{sea,street}/1.jpg", "seg_test/seg_test/{sea,street}/1.jpg", "seg_pred/1.jpg")
    splits = find_splits(tmp_path)
    assert (splits.train, splits.val) == (tmp_path / "seg_train/seg_train", tmp_path / "seg_test/seg_test")
    assert splits.class_names == ("sea", "street")
    assert splits.unused == {tmp_path / "seg_pred": "unlabelled"}


def test_a_test_split_is_held_out_where_another_validates(tmp_path: Path) -> None:
    splits = find_splits(make(tmp_path, "{train,Val,test}/{a,b}/1.png"))
    assert splits.val == tmp_path / "Val"
    assert splits.unused == {tmp_path / "test": "held out"}


@pytest.mark.parametrize("test", ["test/1.png", "test/unknown/1.png", "test/test/1.png", "Testing/deep/er/1.png"])
def test_unlabelled_tests_are_left_out(tmp_path: Path, test: str) -> None:
    splits = find_splits(make(tmp_path, "train/{a,b}/1.png", test))
    assert (splits.train, splits.val) == (tmp_path / "train", None)
    assert splits.unused == {tmp_path / test.partition("/")[0]: "unlabelled"}


def test_unlabelled_validation_is_refused_with_a_way_out(tmp_path: Path) -> None:
    assert f"set data.root={tmp_path / 'train'}" in refusal(make(tmp_path, "train/{a,b}/1.png", "val/1.png"))
    assert find_splits(tmp_path / "train").class_names == ("a", "b")


@pytest.mark.parametrize(
    ("patterns", "class_names"),
    [
        (("{car,bus,train}/1.png",), ("bus", "car", "train")),  # three of CIFAR-100's hundred
        (("{control,placebo,test}/1.png",), ("control", "placebo", "test")),
        (("{cat,dog}/images/1.png",), ("cat", "dog")),  # one common folder only: no task
        (("cat/{2019,2020}/1.png", "dog/{2021,2022}/1.png"), ("cat", "dog")),
        (("{cat,dog}/1.png", "dog/deep/1.png"), ("cat", "dog")),
        (("{evaluate,developer}/1.png",), ("developer", "evaluate")),
    ],
)
def test_classes_are_not_taken_for_splits(tmp_path: Path, patterns: tuple[str, ...], class_names: object) -> None:
    splits = find_splits(make(tmp_path, *patterns))
    assert (splits.train, splits.val, splits.class_names) == (tmp_path, None, class_names)


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        # Names that agree below names that say nothing: splits or classes.
        (("{fold1,fold2}/{a,b}/1.png",), ["fold1, fold2 as splits of the classes a, b", "data.train=fold1 data.val=f"]),
        (("{one,two,six}/{a,b,c}/1.png",), ["in two ways", "data.train=. "]),
        # The user's validation set has an unusual name.
        (("{train,holdout}/{a,b}/1.png",), ["in two ways", "data.train=train data.val=holdout"]),
        (("{mine,test}/{a,b}/1.png",), ["data.train=mine data.val=test"]),
        (("train/{a,b}/1.png", "samples/1.png"), ["samples, train", "data.train=train"]),
        (("{train,bus}/1.png",), ["bus, train", "data.train=."]),
        # The splits lie within the classes, or in their names.
        (("{cat,dog}/{train,test}/1.png",), ["lie within the folders cat, dog", "data.train=."]),
        (("{train_cat,train_dog,test_cat,test_dog}/1.png",), ["look like splits", "data.train=."]),
        (("{trainA,trainB,testA,testB}/1.png",), ["look like splits"]),
        # Two candidates for one role.
        (("{train,Training,val}/{a,b}/1.png",), ["Training, train", "may each be the train split"]),
        (("{train,val,dev}/{a,b}/1.png",), ["dev, val", "validation split", "data.train=train data.val=dev"]),
        # Nothing but splits, without labels.
        (("{train,test}/1.png",), ["train is unlabelled, images such as 1.png"]),
        (("Train/{a,b}/1.png", "Dev/{a,c}/1.png"), ["Dev has no folder for class b"]),
        (("data/{train,test}/{a,b}/1.png",), ["one class only, data", "data.root="]),
    ],
)
def test_what_is_unclear_is_refused_with_its_readings(
    tmp_path: Path, patterns: tuple[str, ...], words: list[str]
) -> None:
    text = refusal(make(tmp_path, *patterns))
    assert [word for word in words if word not in text] == []


def test_splits_are_given_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "{fold1,fold2}/{a,b}/1.png")
    root = str(tmp_path)
    both = folder_splits(DataSettings(name="imagefolder", root=root, train="fold1", val="fold2"))
    assert (both.train, both.val, both.class_names) == (tmp_path / "fold1", tmp_path / "fold2", ("a", "b"))
    classes = folder_splits(DataSettings(name="imagefolder", root=root, train="."))
    assert (classes.val, classes.class_names) == (None, ("fold1", "fold2"))
    monkeypatch.chdir(tmp_path)
    assert folder_splits(DataSettings(name="imagefolder", train="fold2")).train == Path("fold2")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": "fold3"}, r"data\.train: .*fold3 does not exist"),
        ({"train": "fold1/a"}, r"data\.train: .*fold1/a is unlabelled, images such as 1\.png"),
        ({"train": "fold1", "val": "fold1"}, r"data\.val: .* is the folder of data\.train too"),
        ({"train": "fold1", "val": "other"}, r"data\.val: .*other has no folder for class b"),
        ({"train": "other"}, r"data\.train: .*other contains one class only, a"),
    ],
)
def test_wrong_folders_given_by_hand_are_named(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    make(tmp_path, "{fold1,fold2}/{a,b}/1.png", "other/a/1.png")
    with pytest.raises(NasError, match=message):
        check_data(DataSettings(name="imagefolder", root=str(tmp_path), **given))


def test_splits_by_hand_are_for_image_folders() -> None:
    with pytest.raises(NasError, match=r"data\.train 'x': is for data=imagefolder"):
        DataSettings(train="x")
    with pytest.raises(NasError, match=r"data\.val 'x': needs data\.train=FOLDER"):
        DataSettings(name="imagefolder", root=".", val="x")


def test_settings_that_older_studies_lack_are_not_part_of_their_identity() -> None:
    assert {"train", "val"}.isdisjoint(DataSettings().identity())
    assert DataSettings(name="imagefolder", train="x").identity()["train"] == "x"


@pytest.mark.parametrize("name", ["trains", "cat", "evaluate_me", "device", "Teste", "", "0", "images", "set"])
def test_other_names_are_no_splits(name: str) -> None:
    assert split_role(name) is None
