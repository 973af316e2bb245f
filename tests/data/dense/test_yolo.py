"""Tests of YOLO text: boxes, polygons, data.yaml, faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.core.errors import NasError
from nas.data.dense import DenseDataSettings, load_detection_data
from tests.data.dense.builders import HEIGHT, WIDTH, write_image


def write(root: Path, split: str, name: str, text: str | None, *, first: bool = True) -> None:
    """``images/SPLIT/NAME.png`` and ``labels/SPLIT/NAME.txt``, or with ``first`` false ``SPLIT/images``."""
    images, labels = (f"{kind}/{split}" if first else f"{split}/{kind}" for kind in ("images", "labels"))
    write_image(root / images / f"{name}.png", seed=ord(name[0]))
    (root / labels).mkdir(parents=True, exist_ok=True)
    if text is not None:
        (root / labels / f"{name}.txt").write_text(text)


def settings(root: Path, **more: object) -> DenseDataSettings:
    return DenseDataSettings(root=str(root), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [True, False])
def test_centre_and_size_become_corners_in_px(tmp_path: Path, first: bool) -> None:
    write(tmp_path, "train", "a", "1 0.5 0.5 0.25 0.2\n0 0.5 0.5 1 1\n\n", first=first)
    write(tmp_path, "val", "b", "", first=first)
    write(tmp_path, "val", "c", "0 0.5 0.5 1 1", first=first)
    data = load_detection_data(settings(tmp_path))
    # The centre is (20, 15); a quarter of 40 px is 10, a fifth of 30 px is 6.
    np.testing.assert_allclose(data.train.boxes(0), [[15, 12, 25, 18], [0, 0, WIDTH, HEIGHT]], rtol=1e-6)
    np.testing.assert_array_equal(data.train.labels(0), [1, 0])
    assert data.val.boxes(0).shape == (0, 4)
    assert data.class_names == ("0", "1")
    assert "numbers are their names" in data.notices[0]
    assert data.description.val_empty == 1


def test_the_bounding_box_of_a_polygon_is_taken(tmp_path: Path) -> None:
    write(tmp_path, "train", "a", "0 0.1 0.2 0.5 0.1 0.3 0.9")
    write(tmp_path, "val", "b", "0 0.5 0.5 0.5 0.5")
    data = load_detection_data(settings(tmp_path))
    np.testing.assert_allclose(data.train.boxes(0), [[4, 3, 20, 27]], rtol=1e-6)


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}", "{'0': cat, '1': dog}"])
@pytest.mark.parametrize("prefix", ["", "../", "missing/"])
def test_data_yaml_states_splits_and_names(tmp_path: Path, names: str, prefix: str) -> None:
    for split, name in (("alpha", "a"), ("beta", "b"), ("gamma", "c")):
        write(tmp_path, split, name, "1 0.5 0.5 0.5 0.5", first=False)
    text = f"train: {prefix}beta/images\nval: {prefix}alpha/images\nnc: 2\nnames: {names}\n"
    (tmp_path / "data.yaml").write_text(text)
    data = load_detection_data(settings(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert [list(data.train.names), list(data.val.names)] == [["beta/images/b.png"], ["alpha/images/a.png"]]
    assert data.train.boxes(0).tolist() == [[10, 7.5, 30, 22.5]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("names: [a, a]\ntrain: t\n", "occurs twice"),
        ("names: {0: a, 2: b}\ntrain: t\n", "without gaps"),
        ("names: [a]\nnc: 2\ntrain: t\n", "nc 2: names lists 1; make"),
        ("- a\n", "must be a mapping"),
        ("names: [a\n", "not valid YAML"),
        ("train: [a, b]\n", "one folder or list"),
        ("train: 3\n", "one folder or list"),
        ("train: nowhere\n", "does not exist"),
        ("&a [*a]", "alias"),
    ],
)
def test_an_invalid_data_yaml_is_named(tmp_path: Path, text: str, match: str) -> None:
    write(tmp_path, "train", "a", "0 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(NasError, match=rf"data\.yaml.*{match}"):
        load_detection_data(settings(tmp_path))


def test_lists_of_paths_and_a_file_of_names(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, "all", name, "1 0.5 0.5 0.5 0.5")
    (tmp_path / "train.txt").write_text("./images/all/a.png\n./images/all/c.png\n")
    (tmp_path / "val.txt").write_text("images/all/b.png\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    data = load_detection_data(settings(tmp_path))
    assert [len(data.train), list(data.val.names)] == [2, ["images/all/b.png"]]
    assert data.class_names == ("cat", "dog")
    assert "a class is in no train image (cat)" in data.description.warnings[0]


def test_an_image_without_a_file_is_refused_unless_it_is_said_to_show_nothing(tmp_path: Path) -> None:
    write(tmp_path, "train", "a", "0 0.5 0.5 0.5 0.5")
    write(tmp_path, "train", "n", None)
    write(tmp_path, "val", "b", "0 0.5 0.5 0.5 0.5")
    with pytest.raises(NasError, match=r"images without a label file: 1, first .*n\.png.*allow_unlabelled=true"):
        load_detection_data(settings(tmp_path))
    assert len(load_detection_data(settings(tmp_path, repair=True)).train) == 1
    data = load_detection_data(settings(tmp_path, allow_unlabelled=True))
    assert [len(data.train), data.description.train_empty] == [2, 1]
    assert "without any box: 1 of 2 train images" in "\n".join(data.description.lines)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("0 0.5 0.5 0.5", "labels that cannot be read"),
        ("0 0.5 0.5 0.5 0.5 0.9", "labels that cannot be read"),
        ("0 0.5 x 0.5 0.5", "labels that cannot be read"),
        ("0 0.5 nan 0.5 0.5", "labels that cannot be read"),
        ("0.5 0.5 0.5 0.5 0.5", "labels that cannot be read"),
        ("-1 0.5 0.5 0.5 0.5", "labels that cannot be read"),
        ("7 0.5 0.5 0.5 0.5", "boxes of unknown class"),
        ("0 0.5 0.5 0 0.5", "boxes of no area"),
        ("0 0.5 0.5 0.5 -0.5", "boxes of no area"),
        ("0 0.9 0.5 0.5 0.5", "boxes that reach beyond their image"),
        ("0 1.9 0.5 0.5 0.5", "boxes that reach beyond their image"),
        ("0 0.25 0.25 0.25 0.25", "boxes that repeat another of the same class"),
    ],
)
def test_each_fault_is_one_line_with_its_file(tmp_path: Path, line: str, fault: str) -> None:
    (tmp_path / "classes.txt").write_text("cat\n")
    write(tmp_path, "train", "a", f"0 0.25 0.25 0.25 0.25\n{line}\n")
    write(tmp_path, "val", "b", "0 0.5 0.5 0.5 0.5")
    with pytest.raises(NasError) as caught:
        load_detection_data(settings(tmp_path))
    lines = [text for text in str(caught.value).splitlines() if fault in text and "first" in text]
    assert len(lines) == 1
    assert f"{fault}: 1, first {tmp_path}/labels/train/a.txt" in lines[0]
    data = load_detection_data(settings(tmp_path, repair=True))
    assert data.notices[0].startswith(f"data.repair: {fault}: 1")
    kept = [[5, 3.75, 15, 11.25]]
    if line.startswith("0 0.9"):  # from 0.65 to 1.15 of 40 px
        kept.append([26, 7.5, 40, 22.5])
    np.testing.assert_allclose(data.train.boxes(0), kept, rtol=1e-6)


def test_rounding_is_clipped_and_told(tmp_path: Path) -> None:
    write(tmp_path, "train", "a", "0 0.900001 0.5 0.2 0.5")
    write(tmp_path, "val", "b", "0 0.5 0.5 0.5 0.5")
    data = load_detection_data(settings(tmp_path))
    assert data.train.boxes(0)[0, 2] == WIDTH
    assert any("at most half a pixel: 1, clipped" in notice for notice in data.notices)


def test_files_of_one_name_and_labels_without_an_image(tmp_path: Path) -> None:
    write(tmp_path, "train", "a", "0 0.5 0.5 0.5 0.5")
    write(tmp_path, "val", "b", "0 0.5 0.5 0.5 0.5")
    (tmp_path / "labels" / "train" / "lost.txt").write_text("")
    with pytest.raises(NasError, match=r"labels without an image: 1, first .*lost\.txt"):
        load_detection_data(settings(tmp_path))
    write_image(tmp_path / "images" / "train" / "a.jpg")
    with pytest.raises(NasError, match="two images of one name"):
        load_detection_data(settings(tmp_path))
