"""Tests of Pascal-VOC XML: coordinates, splits, faults."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from nas.core.errors import NasError
from nas.data.dense import DenseDataSettings, check_dense_data, load_detection_data
from tests.data.dense.builders import HEIGHT, WIDTH, voc_xml, write_image, write_voc
from tests.paths import SHARED_DATA

BCCD = SHARED_DATA / "bccd"


def settings(root: Path, **more: object) -> DenseDataSettings:
    return DenseDataSettings(root=str(root), **more)  # type: ignore[arg-type]


def test_pixels_are_numbered_from_one_and_the_last_belongs_to_the_box(tmp_path: Path) -> None:
    whole = ("cat", 1, 1, WIDTH, HEIGHT)
    write_voc(tmp_path, {"a": [whole, ("dog", 11, 6, 20, 15)]}, {"b": [whole]})
    data = load_detection_data(settings(tmp_path))
    assert data.class_names == ("cat", "dog")
    np.testing.assert_array_equal(data.train.boxes(0), [[0, 0, WIDTH, HEIGHT], [10, 5, 20, 15]])
    np.testing.assert_array_equal(data.train.labels(0), [0, 1])
    assert data.train.boxes(0).dtype == np.float32
    assert data.train.labels(0).dtype == np.int64
    assert (data.train.names[0], data.train.size(0)) == ("JPEGImages/a.png", (WIDTH, HEIGHT))
    assert data.notices == ()


@pytest.mark.parametrize("row", [("cat", 0, 5, 10, 15), ("cat", 2.5, 5, 10, 15)])
def test_a_coordinate_below_one_or_a_fraction_means_counted_from_zero(tmp_path: Path, row: tuple) -> None:
    write_voc(tmp_path, {"a": [row]}, {"b": [("cat", 3, 4, 5, 6)]})
    data = load_detection_data(settings(tmp_path))
    np.testing.assert_array_equal(data.train.boxes(0), [row[1:]])
    np.testing.assert_array_equal(data.val.boxes(0), [[3, 4, 5, 6]])
    assert "counted from 0" in data.notices[0]
    with pytest.raises(NasError, match="boxes that reach beyond their image: 1") if row[1] == 0 else nullcontext():
        load_detection_data(settings(tmp_path, first_pixel=1))


def test_difficult_objects_are_ignored(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": []}, {"b": [("cat", 1, 1, 9, 9)]})
    rows = [("cat", 1, 1, 9, 9), ("cat", 5, 5, 19, 19)]
    (tmp_path / "Annotations" / "a.xml").write_text(voc_xml(rows, difficult=(1,)))
    data = load_detection_data(settings(tmp_path))
    np.testing.assert_array_equal(data.train.is_ignored(0), [False, True])
    assert data.description.ignored == 1


@pytest.mark.parametrize(
    ("images", "labels"),
    [("train", "train"), ("train/images", "train/Annotations"), ("images/train", "annotations/train")],
)
def test_folders_of_splits_are_found(tmp_path: Path, images: str, labels: str) -> None:
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        write_image(tmp_path / images.replace("train", split) / f"{name}.png", seed=ord(name))
        folder = tmp_path / labels.replace("train", split)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.xml").write_text(voc_xml([("cat", 1, 1, 9, 9)]))
    data = load_detection_data(settings(tmp_path))
    assert [Path(data.train.names[0]).stem, Path(data.val.names[0]).stem] == ["a", "b"]
    assert (len(data.train), len(data.val)) == (1, 1)
    assert data.description.left_out == {"in test/, held out": 1}


def test_a_folder_within_the_only_folder_is_found(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOCdevkit" / "VOC2007", {"a": [("cat", 1, 1, 9, 9)]}, {"b": [("cat", 1, 1, 9, 9)]})
    data = load_detection_data(settings(tmp_path))
    assert data.train.names[0] == "VOCdevkit/VOC2007/JPEGImages/a.png"


def test_without_a_validation_split_one_is_drawn_by_the_seed(tmp_path: Path) -> None:
    rows = {f"i{number}": [("cat", 1, 1, 9, 9)] for number in range(20)}
    write_voc(tmp_path, rows, {})
    (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
    first = load_detection_data(settings(tmp_path, val_fraction=0.25))
    assert (len(first.train), len(first.val)) == (15, 5)
    again = load_detection_data(settings(tmp_path, val_fraction=0.25))
    other = load_detection_data(settings(tmp_path, val_fraction=0.25, seed=1))
    assert list(again.val.names) == list(first.val.names) != list(other.val.names)
    assert set(first.val.names) | set(first.train.names) == {f"JPEGImages/i{number}.png" for number in range(20)}
    small = load_detection_data(settings(tmp_path, val_fraction=0.25, subset=4))
    assert (len(small.train), list(small.val.names)) == (4, list(first.val.names))
    assert "4 of them used (data.subset)" in small.description.lines[1]


def test_a_list_of_names_or_a_folder_can_be_given(tmp_path: Path) -> None:
    rows = {name: [("cat", 1, 1, 9, 9)] for name in "abc"}
    write_voc(tmp_path, rows, {"d": rows["a"]})
    (tmp_path / "mine.txt").write_text("b\nJPEGImages/c.png\n")
    data = load_detection_data(settings(tmp_path, train="mine.txt", val="val"))
    assert [list(data.train.names), list(data.val.names)] == [
        ["JPEGImages/b.png", "JPEGImages/c.png"],
        ["JPEGImages/d.png"],
    ]
    with pytest.raises(NasError, match=r"data\.train: .*none.* does not exist"):
        check_dense_data(settings(tmp_path, train="none"), "detection")


def test_an_image_that_was_resized_after_labelling_is_scaled_only_on_demand(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [], "b": []}, {"c": [("cat", 1, 1, 9, 9)]})
    folder = tmp_path / "Annotations"
    (folder / "a.xml").write_text(voc_xml([("cat", 21, 11, 40, 30)], size=(2 * WIDTH, 2 * HEIGHT)))
    (folder / "b.xml").write_text(voc_xml([("cat", 1, 1, 9, 9)], size=(HEIGHT, WIDTH)))
    with pytest.raises(NasError, match=r"images of another size than their label states: 2, first .*a\.png"):
        load_detection_data(settings(tmp_path))
    data = load_detection_data(settings(tmp_path, repair=True))
    assert list(data.train.names) == ["JPEGImages/a.png"]
    np.testing.assert_array_equal(data.train.boxes(0), [[10, 5, 20, 15]])


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx">]><annotation><object><name>&x;</name></object></annotation>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
        '<?xml version="1.0" encoding="utf-16"?>' + '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>',
        "<a>" * 60 + "</a>" * 60,
        "<annotation>",
        "",
        '<?xml version="1.0" encoding="no-such"?><annotation/>',
        "\0",
    ],
)
def test_xml_that_is_damaged_or_has_entities_is_a_fault_of_the_label(tmp_path: Path, text: str) -> None:
    write_voc(tmp_path, {"a": [], "b": [("cat", 1, 1, 9, 9)]}, {"c": [("cat", 1, 1, 9, 9)]})
    (tmp_path / "Annotations" / "a.xml").write_bytes(text.encode("utf-16" if "utf-16" in text else "utf-8"))
    with pytest.raises(NasError, match=r"label files that cannot be read: 1, first .*a\.xml"):
        load_detection_data(settings(tmp_path))
    data = load_detection_data(settings(tmp_path, repair=True))
    assert list(data.train.names) == ["JPEGImages/b.png"]


@pytest.mark.skipif(not BCCD.is_dir(), reason="the blood cells are not on this machine")
def test_the_blood_cells_are_refused_for_two_boxes_and_read_when_repaired() -> None:
    check_dense_data(settings(BCCD), "detection")
    with pytest.raises(NasError, match=r"boxes of no area: 2, first .*BloodImage_00343\.xml, object 4") as caught:
        load_detection_data(settings(BCCD))
    assert "data.repair=true" in str(caught.value)
    data = load_detection_data(settings(BCCD, repair=True))
    # Counted with ElementTree in the files of ImageSets/Main, without the two boxes of no area.
    assert data.class_names == ("Platelets", "RBC", "WBC")
    assert [one.train for one in data.description.classes] == [209, 2381, 214]
    assert (len(data.train), len(data.val)) == (205, 87)
    assert data.description.val == 87
    boxes = data.train.all_boxes
    assert boxes.min() == 0
    assert boxes.max(axis=0).tolist() == [*boxes[:, :2].max(axis=0).tolist(), 640, 480]


def test_a_split_without_a_box_that_counts_is_refused(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [("cat", 1, 1, 9, 9)]}, {"b": []})
    with pytest.raises(NasError, match=r"no validation image of .* has a box that counts"):
        load_detection_data(settings(tmp_path))
    (tmp_path / "Annotations" / "b.xml").write_text(voc_xml([("cat", 1, 1, 9, 9)]))
    (tmp_path / "Annotations" / "a.xml").write_text(voc_xml([("cat", 1, 1, 9, 9)], difficult=(0,)))
    with pytest.raises(NasError, match=r"no train image of .* has a box that counts"):
        load_detection_data(settings(tmp_path))


def test_where_a_repair_leaves_nothing_it_says_what_it_left_out(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [("cat", 1, 1, 9, 9)]}, {"b": [("dog", 1, 1, 9, 9)]})
    with pytest.raises(NasError, match=r"no train image(.|\n)*unknown class: 1, first .*a\.xml.*: they are left out"):
        load_detection_data(settings(tmp_path, classes=("dog",), repair=True))
