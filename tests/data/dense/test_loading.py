"""Tests of what all layouts share: decoding, memory, orientation, identity, notices."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from nas.core.errors import NasError
from nas.data.dense import (
    DenseDataSettings,
    check_dense_data,
    load_detection_data,
    load_segmentation_data,
    read_dense_description,
    write_dense_description,
)
from nas.data.dense.description import DENSE_DATASET_FILE
from tests.data.dense.builders import HEIGHT, WIDTH, halves, voc_xml, write_image, write_masks, write_voc
from tests.paths import CONF

BOX = [("cat", 2, 3, 20, 15)]
ORIENTATION = 274  # tag of Exif


def settings(root: Path, **more: object) -> DenseDataSettings:
    return DenseDataSettings(root=str(root), **more)  # type: ignore[arg-type]


def write(root: Path, count: int = 6, suffix: str = ".png") -> None:
    """A VOC set with ``count`` train images and 2 of validation, as PNG or JPEG."""
    train = {f"t{row}": BOX for row in range(count)}
    write_voc(root, train, {"v0": BOX, "v1": BOX})
    if suffix != ".png":
        for row, path in enumerate(sorted((root / "JPEGImages").glob("*.png"))):
            path.unlink()
            write_image(path.with_suffix(suffix), seed=row)


def test_mean_and_deviation_are_those_of_the_train_images(tmp_path: Path) -> None:
    write(tmp_path)
    data = load_detection_data(settings(tmp_path))
    pixels = np.concatenate([data.train.image(row).reshape(-1, 3) for row in range(6)]) / 255
    np.testing.assert_allclose([data.mean, data.std], [pixels.mean(axis=0), pixels.std(axis=0)], rtol=1e-9)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_are_the_same_when_they_are_decoded_at_each_access(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, suffix=suffix)
    held, streamed = (
        load_detection_data(settings(tmp_path, max_memory_bytes=most)) for most in (8 * 3 * WIDTH * HEIGHT, 28_799)
    )
    assert held.train.store.in_memory
    assert not streamed.train.store.in_memory
    for row in range(6):
        np.testing.assert_array_equal(held.train.image(row), streamed.train.image(row))
    assert held.identity() == streamed.identity()
    assert any("each is decoded when it is used" in notice for notice in streamed.notices)


@pytest.mark.parametrize("most", [10**9, 4])
def test_a_subset_has_images_and_labels_of_its_rows(tmp_path: Path, most: int) -> None:
    boxes = [BOX, [], [*BOX, ("dog", 1, 1, 5, 5), ("cat", 4, 4, 9, 9)], [("dog", 3, 3, 30, 20)]]
    write_voc(tmp_path / "boxes", {f"t{row}": one for row, one in enumerate(boxes)}, {"v0": BOX})
    write_masks(tmp_path / "masks", {f"m{row}": halves(row, 4 - row) for row in range(5)})
    for data in (
        load_detection_data(settings(tmp_path / "boxes", max_memory_bytes=most)),
        load_segmentation_data(
            settings(tmp_path / "masks", name="segmentation", val_fraction=0.2, max_memory_bytes=most)
        ),
    ):
        whole, part = data.train, data.train.subset([3, 1, 2])
        methods = ("boxes", "labels", "is_ignored") if data.settings.task == "detection" else ("mask",)
        assert (len(part), part.names) == (3, [whole.names[row] for row in (3, 1, 2)])
        for row, of_whole in enumerate((3, 1, 2)):
            assert part.size(row) == whole.size(of_whole)
            for name in ("image", *methods):
                np.testing.assert_array_equal(getattr(part, name)(row), getattr(whole, name)(of_whole))
        assert whole.subset(range(4)).digest() == whole.digest() != part.digest()
        assert len(whole.subset([])) == 0


@pytest.mark.parametrize("most", [4_000_000_000, 1])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_images_are_counted(tmp_path: Path, suffix: str, most: int) -> None:
    write(tmp_path, suffix=suffix)
    for name in ("t1", "v0"):
        path = tmp_path / "JPEGImages" / f"{name}{suffix}"
        path.write_bytes(path.read_bytes()[:-300])
    given = settings(tmp_path, max_memory_bytes=most)
    with pytest.raises(NasError, match=rf"images that cannot be decoded: 2, first .*t1\{suffix}"):
        load_detection_data(given)
    data = load_detection_data(replace(given, repair=True))
    assert [Path(name).stem for name in data.train.names] == ["t0", "t2", "t3", "t4", "t5"]
    assert len(data.val) == 1


def test_a_file_that_is_no_image_is_counted_and_nothing_left_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, count=1)
    (tmp_path / "JPEGImages" / "t0.png").write_text("no image")
    with pytest.raises(NasError, match=r"images that cannot be decoded: 1, first .*t0\.png"):
        load_detection_data(settings(tmp_path))
    with pytest.raises(NasError, match="has no train images with labels that can be used"):
        load_detection_data(settings(tmp_path, repair=True))


@pytest.mark.parametrize("most", [4_000_000_000, 1])
def test_images_are_upright_and_boxes_are_those_of_the_upright_image(tmp_path: Path, most: int) -> None:
    write(tmp_path)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored on its side: rotate by 270 degrees to show it
    stored = write_image(tmp_path / "JPEGImages" / "t0.png", size=(HEIGHT, WIDTH), exif=exif)
    (tmp_path / "Annotations" / "t0.xml").write_text(voc_xml([("cat", 1, 1, WIDTH, HEIGHT)]))
    data = load_detection_data(settings(tmp_path, max_memory_bytes=most))
    assert data.train.size(0) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(data.train.image(0), np.rot90(stored, k=-1))
    (tmp_path / "Annotations" / "t0.xml").write_text(voc_xml([("cat", 1, 1, HEIGHT, WIDTH)], size=(HEIGHT, WIDTH)))
    with pytest.raises(NasError, match=r"t0\.png \(40x30, the label states 30x40\)"):
        load_detection_data(settings(tmp_path))


def test_an_image_that_changes_while_it_is_used_is_an_error(tmp_path: Path) -> None:
    write(tmp_path)
    data = load_detection_data(settings(tmp_path, max_memory_bytes=1))
    write_image(tmp_path / "JPEGImages" / "t0.png", size=(WIDTH, 7))
    with pytest.raises(NasError, match=r"t0\.png is 40x7, but was 40x30"):
        data.train.image(0)


def test_validation_images_that_are_train_images_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    folder = tmp_path / "JPEGImages"
    (folder / "v1.png").write_bytes((folder / "t3.png").read_bytes())
    data = load_detection_data(settings(tmp_path))
    assert any("1 of 2 validation images are identical" in notice and "v1.png" in notice for notice in data.notices)


def test_identity_is_that_of_older_trainings_so_that_they_resume(tmp_path: Path) -> None:
    """Hashes of the train images that were stored before boxes and masks shared their code."""
    rows = [("cell", 2, 3, 20, 15), ("dot", 5, 5, 12, 28)]
    write_voc(tmp_path / "a", {f"a{row}": rows[: 1 + row % 2] for row in range(6)}, {"b": rows})
    write_masks(tmp_path / "b", {f"m{row}": halves(0, 1) for row in range(8)})
    boxes = load_detection_data(settings(tmp_path / "a")).identity()
    masks = load_segmentation_data(settings(tmp_path / "b", name="segmentation")).identity()
    assert boxes[0] == "d7e54d83341dce0d425c845550d639f25a16ee4c2ebecdc65576101dd696ac68" and len(boxes) == 6
    assert masks[0] == "0569d46f001b14eebf039a6fdbce32db30b887bde242a6e106868335eaad8045" and len(masks) == 7
    assert masks[2:4] == ["", ["0", "1"]]


def test_identity_is_that_of_labels_names_and_settings(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    first = load_detection_data(settings(tmp_path / "a")).identity()
    assert load_detection_data(settings(tmp_path / "b")).identity() == first
    assert load_detection_data(settings(tmp_path / "b", fit="pad")).identity() != first
    (tmp_path / "b" / "Annotations" / "v0.xml").write_text(voc_xml([("cat", 2, 3, 20, 16)]))
    assert load_detection_data(settings(tmp_path / "b")).identity() != first


def test_the_digest_of_a_description_is_that_of_names_sizes_and_labels(tmp_path: Path) -> None:
    write(tmp_path)
    first = load_detection_data(settings(tmp_path)).description.digest
    assert first == load_detection_data(settings(tmp_path)).description.digest != ""
    label = tmp_path / "Annotations" / "t0.xml"
    label.write_text(label.read_text().replace("<xmax>20</xmax>", "<xmax>21</xmax>"))
    assert load_detection_data(settings(tmp_path)).description.digest != first


def test_progress_is_reported_for_headers_and_pixels(tmp_path: Path) -> None:
    write(tmp_path)
    calls: list[tuple[int, int]] = []
    load_detection_data(settings(tmp_path), on_progress=lambda *call: calls.append(call))
    assert calls == [(8, 8), (8, 8)]


def test_the_description_is_kept_on_disk(tmp_path: Path) -> None:
    write(tmp_path)
    description = load_detection_data(settings(tmp_path, subset=4)).description
    assert read_dense_description(tmp_path) is None
    write_dense_description(description, tmp_path)
    assert read_dense_description(tmp_path) == description
    noted = replace(description, notices=("data.repair: one box is left out",))
    write_dense_description(noted, tmp_path)
    assert read_dense_description(tmp_path) == noted
    assert description.box_size_text == "4 small, 0 medium, 0 large"  # 19 x 13 px each
    assert "a class is in fewer than 10 train images ('cat' in 4): add images" in description.warnings
    for text in (
        "",
        "[]",
        "{}",
        '{"format": "nas.dense_dataset/1"}',
        '{"format": "nas.dense_dataset/1", "classes": [1]}',
        '{"format": "nas.dense_dataset/1", "classes": [], "notices": "one"}',
    ):
        (tmp_path / DENSE_DATASET_FILE).write_text(text)
        with pytest.raises(NasError, match=DENSE_DATASET_FILE):
            read_dense_description(tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": "classification"}, "unknown data.name"),
        ({"layout": "npz"}, "unknown data.layout"),
        ({"val": "v"}, "needs data.train"),
        ({"val_fraction": 1.0}, "data.val_fraction"),
        ({"subset": 0}, "data.subset"),
        ({"subset": True}, "data.subset"),
        ({"seed": -1}, "data.seed"),
        ({"void": 256}, "data.void"),
        ({"first_pixel": 2}, "data.first_pixel"),
        ({"fit": "crop"}, "unknown data.fit"),
        ({"repair": "yes"}, "data.repair"),
        ({"background": "red"}, "data.background"),
        ({"classes": ["a", "a"]}, "occurs twice"),
        ({"classes": "cat"}, "must be a list"),
        ({"classes": [""]}, "1 to 200 printable characters"),
        ({"classes": ["a\x1b[2J"]}, "1 to 200 printable characters"),
        ({"max_memory_bytes": 0}, "data.max_memory_bytes"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict, match: str) -> None:
    with pytest.raises(NasError, match=match):
        DenseDataSettings(**change)


def test_folders_without_a_layout_or_with_several_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"data\.root: missing, detection needs a folder"):
        check_dense_data(DenseDataSettings(), "detection")
    with pytest.raises(NasError, match="does not exist"):
        check_dense_data(settings(tmp_path / "none"), "detection")
    with pytest.raises(NasError, match="finds none of coco, voc, yolo"):
        check_dense_data(settings(tmp_path), "detection")
    with pytest.raises(NasError, match="is not for task=segmentation; use data=segmentation"):
        check_dense_data(settings(tmp_path), "segmentation")
    write(tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "t0.txt").write_text("0 0.5 0.5 0.5 0.5")
    with pytest.raises(NasError, match="auto finds voc and yolo"):
        check_dense_data(settings(tmp_path), "detection")
    check_dense_data(settings(tmp_path, layout="voc"), "detection")


@pytest.mark.parametrize("name", ["detection", "segmentation"])
def test_the_configuration_has_every_setting_at_its_default(name: str) -> None:
    given = yaml.safe_load((CONF / "data" / f"{name}.yaml").read_text(encoding="utf-8"))
    proxy_px = given.pop("proxy_resolution_px")  # by task
    assert DenseDataSettings(**given, proxy_resolution_px=proxy_px) == DenseDataSettings(
        name=name, proxy_resolution_px=proxy_px
    )
    of_the_other = {"detection": {"void"}, "segmentation": {"allow_unlabelled", "first_pixel"}}[name]
    assert {field.name for field in fields(DenseDataSettings)} - given.keys() == of_the_other | {"proxy_resolution_px"}
