"""Tests of COCO files: boxes as pycocotools reads them, ids with gaps, faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from nas.core.errors import NasError
from nas.data.dense import DenseDataSettings, load_detection_data
from tests.data.dense.builders import HEIGHT, WIDTH, coco_json, write_image

CATEGORIES = {3: "cat", 7: "dog", 90: "cow"}


def settings(root: Path, **more: object) -> DenseDataSettings:
    return DenseDataSettings(root=str(root), **more)  # type: ignore[arg-type]


def write(root: Path, *, name: str = "annotations/instances_{}2017.json", folder: str = "{}2017") -> dict[str, Path]:
    """Two splits with random boxes; the files by split."""
    random, files = np.random.RandomState(0), {}
    for split, ids in (("train", (42, 7, 1000)), ("val", (5, 8))):
        images = [(number, f"{number:06d}.png") for number in ids]
        annotations = []
        for number, file in images:
            write_image(root / folder.format(split) / file, seed=number)
            for _ in range(random.randint(1, 5) if number != 7 else 0):
                x, y = random.uniform(0, 20, 2)
                annotations.append((number, int(random.choice(list(CATEGORIES))), (x, y, 5.25, 7.5)))
        files[split] = root / name.format(split)
        files[split].parent.mkdir(parents=True, exist_ok=True)
        files[split].write_text(coco_json(images, annotations, CATEGORIES))
    return files


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}.json", "images/{}"),
        ("{}/_annotations.coco.json", "{}"),
        ("{}.json", "images"),
    ],
)
def test_boxes_and_classes_are_those_of_pycocotools(tmp_path: Path, name: str, folder: str) -> None:
    files = write(tmp_path, name=name, folder=folder)
    data = load_detection_data(settings(tmp_path))
    for split, path in ((data.train, files["train"]), (data.val, files["val"])):
        coco = COCO(path)
        rows = {Path(split.names[row]).name: row for row in range(len(split))}
        assert rows.keys() == {image["file_name"] for image in coco.dataset["images"]}
        for number, image in coco.imgs.items():
            row = rows[image["file_name"]]
            expected = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
            corners = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in expected)]
            np.testing.assert_allclose(split.boxes(row), np.array(corners).reshape(-1, 4), rtol=1e-6)
            names = [data.class_names[label] for label in split.labels(row)]
            assert names == [coco.cats[one["category_id"]]["name"] for one in expected]
    assert data.class_names == ("cat", "dog", "cow")
    assert "have gaps (3 to 90 for 3 classes): they are mapped to 0 to 2" in data.notices[0]


def test_crowds_are_ignored(tmp_path: Path) -> None:
    files = write(tmp_path)
    content = json.loads(files["train"].read_text())
    for one in content["annotations"]:
        one["iscrowd"] = int(one["id"] == 1)
    files["train"].write_text(json.dumps(content))
    data = load_detection_data(settings(tmp_path))
    assert data.description.ignored == data.train.all_ignored.sum() == 1


def test_one_file_is_split_and_others_can_be_given(tmp_path: Path) -> None:
    files = write(tmp_path)
    data = load_detection_data(settings(tmp_path, train=str(files["train"]), val_fraction=0.3, seed=2))
    assert (len(data.train), len(data.val)) == (2, 1)
    data = load_detection_data(settings(tmp_path, train="annotations/instances_val2017.json"))
    assert len(data.train) + len(data.val) == 2
    (tmp_path / "annotations" / "train_other.json").write_text(files["train"].read_text())
    with pytest.raises(NasError, match="may each be the train split"):
        load_detection_data(settings(tmp_path))


def test_classes_are_mapped_by_name_where_the_splits_number_them_otherwise(tmp_path: Path) -> None:
    files = write(tmp_path)
    images = [(1, "000005.png"), (2, "000008.png")]
    files["val"].write_text(coco_json(images, [(1, 0, (1, 2, 3, 4)), (2, 1, (5, 6, 7, 8))], {0: "cow", 1: "cat"}))
    data = load_detection_data(settings(tmp_path))
    assert [data.val.labels(0).tolist(), data.val.labels(1).tolist()] == [[2], [0]]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda one: one.update(bbox=[1, 2, 0, 4]), "boxes of no area"),
        (lambda one: one.update(bbox=[1, 2, 3, -4]), "boxes of no area"),
        (lambda one: one.update(bbox=[30, 2, 20, 4]), "boxes that reach beyond their image"),
        (lambda one: one.update(bbox=[1, 2, 3]), "labels that cannot be read"),
        (lambda one: one.update(bbox=[1, 2, 3, "4"]), "labels that cannot be read"),
        (lambda one: one.update(bbox=[1, 2, 3, 1e400]), "labels that cannot be read"),
        (lambda one: one.pop("bbox"), "labels that cannot be read"),
        (lambda one: one.update(category_id=4), "boxes of unknown class"),
        (lambda one: one.update(category_id=[4]), "boxes of unknown class"),
        (lambda one: one.update(image_id=4), "labels without an image"),
        (lambda one: one.update(image_id={}), "labels without an image"),
    ],
)
def test_each_fault_is_one_line_and_repaired_on_demand(tmp_path: Path, change, fault: str) -> None:
    files = write(tmp_path)
    content = json.loads(files["train"].read_text())
    count = len(content["annotations"])
    change(content["annotations"][0])
    files["train"].write_text(json.dumps(content))
    with pytest.raises(NasError, match=rf"{fault}: 1, first .*instances_train2017\.json"):
        load_detection_data(settings(tmp_path))
    data = load_detection_data(settings(tmp_path, repair=True))
    assert len(data.train.all_labels) == count - (fault != "boxes that reach beyond their image")


def test_a_listed_image_that_is_missing_is_a_fault_and_one_that_is_not_listed_is_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    write_image(tmp_path / "train2017" / "more.png")
    data = load_detection_data(settings(tmp_path))
    assert data.description.left_out == {"images not listed in instances_train2017.json": 1}
    (tmp_path / "train2017" / "000042.png").unlink()
    with pytest.raises(NasError, match=r"labels without an image: 1, first .*000042\.png"):
        load_detection_data(settings(tmp_path))
    assert len(load_detection_data(settings(tmp_path, repair=True)).train) == 2


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[" * 100_000, "JSON"),
        ('{"info": {}, "images": 1}', "images must be a list"),
        ('{"info": ' + "9" * 5000 + "}", "JSON"),
        (
            '{"info": {}, "images": [], "annotations": [], "categories": []}',
            "must be a list of 1 to 10,000 class names",
        ),
        (coco_json([(1, "../a.png")], [], {0: "a"}), "must be a path within the images"),
        (coco_json([(1, "/etc/passwd")], [], {0: "a"}), "must be a path within the images"),
        (coco_json([(1, "C:\\..\\a.png")], [], {0: "a"}), "must be a path within the images"),
        (coco_json([(1, "000042.png"), (1, "000007.png")], [], {0: "a"}), "whole number of its own"),
        (coco_json([(1, "000042.png")], [], {0: "a", 1: "a"}), "occurs twice"),
        (coco_json([(1, "nowhere.png")], [], {0: "a"}), "in none of the folders"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, match: str) -> None:
    files = write(tmp_path)
    files["train"].write_text(text)
    with pytest.raises(NasError, match=match) as caught:
        load_detection_data(settings(tmp_path, layout="coco", train=str(files["train"])))
    assert str(files["train"]) in str(caught.value)


def test_an_image_of_another_size_than_stated(tmp_path: Path) -> None:
    write(tmp_path)
    write_image(tmp_path / "train2017" / "000042.png", size=(HEIGHT, WIDTH))
    with pytest.raises(NasError, match=r"000042\.png \(30x40, the label states 40x30\)"):
        load_detection_data(settings(tmp_path))


def test_names_of_categories_are_compared_without_blanks_around_them(tmp_path: Path) -> None:
    files = write(tmp_path)
    expected = load_detection_data(settings(tmp_path))
    for file in files.values():
        file.write_text(file.read_text().replace('"cat"', '" cat "'))
    data = load_detection_data(settings(tmp_path))
    assert data.class_names == ("cat", "dog", "cow")
    np.testing.assert_array_equal(data.train.all_labels, expected.train.all_labels)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "cat"}]}, "class name 'cat' occurs twice"),
        ({"categories": [{"id": "3", "name": "cat"}]}, "needs an id of its own, a whole number, and a name"),
        ({"categories": [{"id": True, "name": "cat"}]}, "needs an id of its own, a whole number, and a name"),
        ({"images": [{"id": "5", "file_name": "a.png"}]}, "id '5' must be a whole number of its own"),
        (
            {"images": [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "./a.png"}]},
            "file_name './a.png' is that of the images 5 and 6; list each file once",
        ),
    ],
)
def test_names_ids_and_files_of_a_file_must_be_unique(tmp_path: Path, split: str, change: dict, match: str) -> None:
    file = write(tmp_path)[split]
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(NasError, match=match):
        load_detection_data(settings(tmp_path, classes=("cat",)))


def test_a_first_pixel_that_has_no_effect_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    assert not any("first_pixel" in one for one in load_detection_data(settings(tmp_path)).notices)
    notices = load_detection_data(settings(tmp_path, first_pixel=1)).notices
    assert any("data.first_pixel has no effect on coco" in one for one in notices)


def test_a_fault_of_a_box_names_its_image(tmp_path: Path) -> None:
    file = write(tmp_path)["train"]
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [-9, 0, 20, 7]
    file.write_text(json.dumps(content))
    with pytest.raises(NasError, match=r"instances_train2017\.json, 000042\.png, box -9,0,11,7 of 40x30 px"):
        load_detection_data(settings(tmp_path))
