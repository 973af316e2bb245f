"""Tests of folders of masks: values, names, void, faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.core.errors import NasError
from nas.data.dense import VOID, DenseDataSettings, check_dense_data, load_segmentation_data
from tests.data.dense.builders import HEIGHT, WIDTH, halves, write_image, write_mask, write_masks


def settings(root: Path, **more: object) -> DenseDataSettings:
    return DenseDataSettings(name="segmentation", root=str(root), **more)  # type: ignore[arg-type]


def write(root: Path, masks: list[np.ndarray]) -> None:
    """``train`` of all masks but the last, which validates."""
    write_masks(root / "train", {f"m{row}": mask for row, mask in enumerate(masks[:-1])})
    write_masks(root / "val", {"v": masks[-1]})


def test_values_are_class_indices_and_255_is_void(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 1), halves(2, VOID), halves(1, 2)])
    check_dense_data(settings(tmp_path), "segmentation")
    data = load_segmentation_data(settings(tmp_path))
    assert data.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(data.train.mask(0), halves(0, 1))
    np.testing.assert_array_equal(data.train.mask(1), halves(2, VOID))
    assert data.train.mask(0).dtype == np.uint8
    shares = [(one.train, one.val, one.train_images) for one in data.description.classes]
    assert shares == [(pytest.approx(1 / 3), 0, 1), (pytest.approx(1 / 3), 0.5, 1), (pytest.approx(1 / 3), 0.5, 1)]
    assert data.description.void == 0.25
    assert "a class is in no validation image (0): it is not scored" in data.description.warnings


def test_void_moves_the_classes_above_it_down(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 1), halves(1, 2), halves(1, 2)])
    data = load_segmentation_data(settings(tmp_path, void=0, classes=["road", "sky"]))
    assert data.class_names == ("road", "sky")
    np.testing.assert_array_equal(data.train.mask(0), halves(VOID, 0))
    np.testing.assert_array_equal(data.train.mask(1), halves(0, 1))


@pytest.mark.parametrize("name", ["Void", "unlabelled", "ignore"])
def test_a_name_of_void_in_the_file_of_names_makes_its_value_void(tmp_path: Path, name: str) -> None:
    write(tmp_path, [halves(0, 1), halves(1, 2), halves(0, 2)])
    (tmp_path / "labels.txt").write_text(f"road\n{name}\nsky\n")
    data = load_segmentation_data(settings(tmp_path))
    assert data.class_names == ("road", "sky")
    np.testing.assert_array_equal(data.train.mask(0), halves(0, VOID))
    np.testing.assert_array_equal(data.train.mask(1), halves(VOID, 1))
    with pytest.raises(NasError, match=r"data\.void 0: but labels\.txt name the value 1"):
        load_segmentation_data(settings(tmp_path, void=0))


def test_masks_of_one_object_have_two_classes(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 255), halves(255, 0), halves(0, 255)])
    data = load_segmentation_data(settings(tmp_path))
    assert data.class_names == ("0", "255")
    np.testing.assert_array_equal(data.train.mask(0), halves(0, 1))
    assert "both are classes" in data.notices[0]


def test_values_with_gaps_are_classes_in_order(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 38), halves(38, 75), halves(0, 75)])
    data = load_segmentation_data(settings(tmp_path))
    assert data.class_names == ("0", "38", "75")
    np.testing.assert_array_equal(data.train.mask(1), halves(1, 2))
    assert "with gaps" in data.notices[0]


@pytest.mark.parametrize("mode", ["P", "L", "I;16", "RGB", "LA", "L;4", "1"])
def test_class_numbers_are_read_from_every_kind_of_png(tmp_path: Path, mode: str) -> None:
    write(tmp_path, [halves(0, 1), halves(1, 0)])
    mask, path = halves(0, 1), tmp_path / "train" / "masks" / "m0.png"
    if mode == "I;16":
        Image.fromarray(mask.astype(np.uint16)).save(path)
    elif mode == "RGB":
        Image.fromarray(np.stack([mask] * 3, axis=-1)).save(path)
    elif mode == "LA":
        Image.fromarray(np.stack([mask, np.full_like(mask, 255)], axis=-1), mode=None).save(path)
    elif mode == "L;4":  # which Pillow does not write: a grey PNG of 4 bits, made by hand
        path.write_bytes(grey_png(mask, bits=4))
    elif mode == "1":
        Image.fromarray(mask.astype(bool)).save(path)
    else:
        write_mask(path, mask, palette=mode == "P")
    data = load_segmentation_data(settings(tmp_path))
    np.testing.assert_array_equal(data.train.mask(0), mask)


def grey_png(mask: np.ndarray, *, bits: int) -> bytes:
    """A grey PNG of few bits per pixel (PNG specification, sections 5 and 7)."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    spread = np.unpackbits(mask[..., None], axis=-1)[..., -bits:].reshape(len(mask), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in spread)
    header = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], bits, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_mask_of_another_size_is_resized_on_demand_and_one_of_another_shape_left_out(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 1), halves(1, 0), halves(0, 1), halves(0, 1)])
    write_mask(tmp_path / "train" / "masks" / "m0.png", halves(0, 1, size=(2 * WIDTH, 2 * HEIGHT)))
    write_mask(tmp_path / "train" / "masks" / "m1.png", halves(0, 1, size=(HEIGHT, WIDTH)))
    with pytest.raises(NasError, match=r"masks of another size than their image: 2, first .*m0\.png \(80x60"):
        load_segmentation_data(settings(tmp_path))
    data = load_segmentation_data(settings(tmp_path, repair=True))
    assert list(data.train.names) == ["train/images/m0.png", "train/images/m2.png"]
    np.testing.assert_array_equal(data.train.mask(0), halves(0, 1))


def test_unknown_values_are_void_on_demand(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 1), halves(1, 9), halves(0, 1)])
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    with pytest.raises(NasError, match=r"masks with values of no class: 1, first .*m1\.png \(value 9\)"):
        load_segmentation_data(settings(tmp_path))
    data = load_segmentation_data(settings(tmp_path, repair=True))
    np.testing.assert_array_equal(data.train.mask(1), halves(1, VOID))
    assert data.description.void == 0.25


def test_values_of_16_bits_are_unknown_unless_small(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 1), halves(1, 0), halves(0, 1)])
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    deep = halves(0, 1).astype(np.uint16)
    deep[0, 0] = 26_000
    Image.fromarray(deep).save(tmp_path / "train" / "masks" / "m0.png")
    with pytest.raises(NasError, match=r"values of no class: 1, first .*m0\.png \(value 26000\)"):
        load_segmentation_data(settings(tmp_path))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("colour", "masks in colours instead of class numbers"),
        ("lossy", r"masks in a lossy format \(JPEG\), whose values are not exact"),
        ("damaged", "label files that cannot be read"),
        ("missing", "images without a label file"),
        ("alone", "labels without an image"),
        ("image", "images that cannot be decoded"),
    ],
)
def test_each_fault_is_one_line_and_left_out_on_demand(tmp_path: Path, fault: str, text: str) -> None:
    write(tmp_path, [halves(0, 1), halves(1, 0), halves(0, 1)])
    image, mask = (tmp_path / "train" / kind / "m0.png" for kind in ("images", "masks"))
    if fault == "colour":
        write_image(mask)
    elif fault == "lossy":
        Image.fromarray(halves(0, 1)).save(mask, format="JPEG")
    elif fault == "damaged":
        mask.write_bytes(mask.read_bytes()[:60])
    elif fault == "missing":
        mask.unlink()
    elif fault == "alone":
        image.unlink()
    else:
        image.write_bytes(image.read_bytes()[:-500])
    with pytest.raises(NasError, match=rf"{text}: 1, first .*m0\.png"):
        load_segmentation_data(settings(tmp_path))
    data = load_segmentation_data(settings(tmp_path, repair=True))
    assert list(data.train.names) == ["train/images/m1.png"]
    assert data.notices[0].startswith("data.repair: ")


def test_pictures_instead_of_masks_and_single_classes_are_refused(tmp_path: Path) -> None:
    grey = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH).astype(np.uint8)
    write(tmp_path / "a", [grey, grey])
    with pytest.raises(NasError, match="hardly classes"):
        load_segmentation_data(settings(tmp_path / "a"))
    write(tmp_path / "b", [halves(1, 1), halves(1, 1)])
    with pytest.raises(NasError, match="two or more"):
        load_segmentation_data(settings(tmp_path / "b"))


def test_voc_lists_and_folder_names(tmp_path: Path) -> None:
    for row, name in enumerate("abc"):
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg", seed=row)
        write_mask(tmp_path / "SegmentationClass" / f"{name}.png", halves(0, 1))
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, names in (("train", "a"), ("val", "c")):
        (tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"{names}\n")
    data = load_segmentation_data(settings(tmp_path))
    assert [list(data.train.names), list(data.val.names)] == [["JPEGImages/a.jpg"], ["JPEGImages/c.jpg"]]


def test_masks_are_the_same_when_they_are_decoded_at_each_access(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 1), halves(2, VOID), halves(1, 2)])
    write_mask(tmp_path / "train" / "masks" / "m0.png", halves(0, 1, size=(2 * WIDTH, 2 * HEIGHT)))
    held = load_segmentation_data(settings(tmp_path, repair=True))
    streamed = load_segmentation_data(settings(tmp_path, repair=True, max_memory_bytes=4))
    assert not streamed.train.store.in_memory
    for row in range(2):
        np.testing.assert_array_equal(streamed.train.mask(row), held.train.mask(row))
        np.testing.assert_array_equal(streamed.train.image(row), held.train.image(row))
    assert streamed.identity() == held.identity()


def test_two_names_are_those_of_masks_of_one_object(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 255), halves(255, 0), halves(0, 255)])
    data = load_segmentation_data(settings(tmp_path, classes=["background", "road"]))
    assert data.class_names == ("background", "road")
    np.testing.assert_array_equal(data.train.mask(0), halves(0, 1))
    assert "they are background and road" in data.notices[0]
    void = load_segmentation_data(settings(tmp_path, classes=["background", "road"], void=255))
    np.testing.assert_array_equal(void.train.mask(0), halves(0, VOID))


def test_names_that_a_void_below_them_shifts_are_told(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 1), halves(2, 3), halves(0, 3)])
    data = load_segmentation_data(settings(tmp_path, void=1, classes=["sky", "road", "car"]))
    assert "the name of value 3 is car" in data.notices[0]


def test_a_split_without_a_labelled_pixel_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [halves(0, 1), halves(1, 0), halves(VOID, VOID)])
    with pytest.raises(NasError, match=r"no validation image of .* has a pixel of a class"):
        load_segmentation_data(settings(tmp_path))
