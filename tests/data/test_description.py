"""What is said of a data set: lines, warnings, and the file in which a study stores it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.data.description import (
    DATASET_FILE,
    ClassCount,
    DatasetDescription,
    IdenticalImages,
    read_description,
    write_description,
)


def described(train: list[int], val: list[int], found: list[int] | None = None, **fields: object) -> DatasetDescription:
    """Classes a, b, ... with so many images each."""
    names = [chr(ord("a") + place) if len(train) < 27 else f"c{place:04}" for place in range(len(train))]
    counts = zip(names, found or train, train, val, strict=True)
    classes = tuple(ClassCount(name=name, found=f, train=t, val=v) for name, f, t, v in counts)
    return DatasetDescription(name="imagefolder", classes=classes, **fields)  # type: ignore[arg-type]


def test_lines_say_where_the_images_are_and_how_many() -> None:
    one = described(
        [100, 400],
        [25, 75],
        [1000, 4000],
        path="/photos",
        train_folder="training",
        val_folder="testing",
        left_out={"hidden": 2, "extension .heic is not read": 1234},
    )
    assert one.lines == [
        "data imagefolder: /photos",
        "  train: training/, 5,000 images, 500 of them used (data.subset); validation: testing/, 100 images",
        "  2 classes: a, b; images per class: 100 to 400 train, 25 to 75 validation",
        "  always guessing 'b' is right for 75.00% of the validation images",
        "  left out: 1,234 (extension .heic is not read), 2 (hidden)",
    ]


def test_of_many_classes_the_first_are_named_and_the_largest_and_smallest_shown() -> None:
    many = described([20 + place for place in range(1000)], [5] * 1000)
    assert "1,000 classes: c0000, c0001, c0002, c0003, c0004, ...; images per class: 20 to 1,019 train" in many.lines[2]
    assert [one.name for one in many.shown_classes] == [f"c{n:04}" for n in (*range(999, 993, -1), *range(5, -1, -1))]


@pytest.mark.parametrize(
    ("val", "warned"),
    [
        ([50, 50], False),
        ([59, 41], False),
        ([61, 39], True),  # of two classes the half is what everybody expects
        ([51, 25, 24], True),
        ([50, 25, 25], False),
    ],
)
def test_one_class_with_most_images_is_warned_of_with_the_accuracy_of_guessing_it(val: list[int], warned: bool) -> None:
    texts = described([1000] * len(val), val).warnings
    share = f"class 'a' has {val[0]}.00% of the validation images: always guessing it gives this accuracy"
    assert [share in text for text in texts] == [True] * warned


def test_classes_with_few_images_are_warned_of() -> None:
    assert described([10, 10], [5, 5]).warnings == []
    assert described([10, 9], [4, 5]).warnings == [
        "a class has fewer than 10 train images ('b' has 9): add images or leave it out",
        "a class has fewer than 5 validation images ('a' has 4): accuracy says little about it",
    ]
    (drawn,) = described([2] * 100, [50] * 100, [500] * 100).warnings
    assert drawn == "100 of 100 classes have fewer than 10 train images ('c0000' has 2): raise data.subset"


def test_images_in_both_splits_are_warned_of() -> None:
    same = IdenticalImages(count=12, train="train/a/1.png", val="val/a/7.png")
    (text,) = described([50, 50], [50, 50], identical=same).warnings
    assert "12 validation images are identical to train images (such as val/a/7.png and train/a/1.png)" in text


def test_a_description_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_description(tmp_path) is None  # a study of an earlier version
    one = described([1, 2], [3, 4], path="/é\n", left_out={"hidden": 1}, identical=IdenticalImages(count=1))
    write_description(one, tmp_path)
    assert read_description(tmp_path) == one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no json", "is damaged"),
        ("[" * 20_000, "is damaged"),
        ("[]", "its format is not nas.dataset/1"),
        ({"format": "nas.dataset/2"}, "its format is not"),
        ({"classes": []}, "lists no classes"),
        ({"classes": [{"name": "a", "found": -1, "train": 1, "val": 1}]}, r"classes\.found -1"),
        ({"classes": [{"name": "a", "found": 1, "train": 1, "val": 1, "sample": '"><script>'}]}, "no base64"),
        ({"left_out": {"hidden": "2"}}, "left_out must be"),
        ({"identical": 3}, "identical: must be a mapping"),
        ({"sample_px": 0}, "sample_px 0"),
        ({"extra": 1}, "extra: unknown field"),
    ],
)
def test_a_damaged_description_is_one_line(tmp_path: Path, change: object, message: str) -> None:
    write_description(described([1, 2], [3, 4]), tmp_path)
    path = tmp_path / DATASET_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(change if isinstance(change, str) else json.dumps({**content, **change}), encoding="utf-8")  # type: ignore[dict-item]
    with pytest.raises(NasError, match=message) as caught:
        read_description(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
