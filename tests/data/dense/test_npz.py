"""Tests of arrays of images and masks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from nas.core.errors import NasError
from nas.data.dense import VOID, DenseDataSettings, check_dense_data, load_segmentation_data
from tests.data.dense.builders import halves
from tests.paths import SHARED_DATA

CAMVID = SHARED_DATA / "camvid160"


def settings(root: Path, **more: object) -> DenseDataSettings:
    return DenseDataSettings(name="segmentation", root=str(root), **more)  # type: ignore[arg-type]


def arrays(count: int = 4, seed: int = 0, **more: object) -> dict:
    images = np.random.RandomState(seed).randint(0, 256, (count, 30, 40, 3), dtype=np.uint8)
    return {"images": images, "masks": np.stack([halves(0, 1)] * count), **more}


def write(root: Path, **more: object) -> None:
    np.savez(root / "my_train.npz", **arrays(**more))
    np.savez(root / "my_val.npz", **arrays(2, seed=1, **more))


def test_arrays_are_the_splits(tmp_path: Path) -> None:
    write(tmp_path)
    check_dense_data(settings(tmp_path), "segmentation")
    data = load_segmentation_data(settings(tmp_path))
    expected = arrays()["images"]
    assert (len(data.train), len(data.val), data.train.size(0), data.train.names[3]) == (4, 2, (40, 30), "my_train[3]")
    np.testing.assert_array_equal(data.train.image(2), expected[2])
    pixels = expected.reshape(-1, 3) / 255
    np.testing.assert_allclose([data.mean, data.std], [pixels.mean(axis=0), pixels.std(axis=0)], rtol=1e-9)
    assert data.description.val_place == "my_val.npz"


def test_validation_images_that_are_train_images_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    assert not any("identical" in notice for notice in load_segmentation_data(settings(tmp_path)).notices)
    val = arrays(2, seed=1)
    val["images"][1] = arrays()["images"][3]
    np.savez(tmp_path / "my_val.npz", **val)
    (notice,) = [one for one in load_segmentation_data(settings(tmp_path)).notices if "identical" in one]
    assert "1 of 2 validation images are identical to train images (such as my_val[1] and my_train[3])" in notice


def test_names_of_images_and_classes_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", **arrays(names=np.array(list("abcd")), class_names=np.array(["road", "sky"])))
    data = load_segmentation_data(settings(tmp_path, val_fraction=0.25))
    assert data.class_names == ("road", "sky")
    assert sorted([*data.train.names, *data.val.names]) == list("abcd")
    assert "split off" in data.description.lines[1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"masks": np.zeros((3, 30, 40), dtype=np.uint8)}, "4 images, but 3 masks"),
        ({"masks": np.zeros((4, 30, 40), dtype=np.int64)}, "masks are int64"),
        ({"images": np.zeros((4, 30, 40), dtype=np.uint8)}, "images are uint8"),
        ({"images": np.zeros((4, 3, 30, 40), dtype=np.uint8)}, "images are uint8"),
        ({"images": np.array([None] * 4)}, "images are object"),
        ({"names": np.array(["a"])}, "4 images, but 1 names"),
        ({"names": np.array([object()] * 4)}, "names are object"),
        ({"class_names": np.array(["a", "a"])}, "occurs twice"),
        ({"masks": np.zeros((4, 40, 30), dtype=np.uint8)}, "masks of another size than their image: 4"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, change: dict, match: str) -> None:
    np.savez(tmp_path / "train.npz", **(arrays() | change))
    with pytest.raises(NasError, match=match):
        load_segmentation_data(settings(tmp_path))


def test_damaged_files_and_missing_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", **arrays())
    whole = (tmp_path / "train.npz").read_bytes()
    for content in (b"", b"PK", whole[:-200], whole[:1000] + b"x" * 50 + whole[1050:], whole[200:]):
        (tmp_path / "train.npz").write_bytes(content)
        with pytest.raises(NasError, match=r"train\.npz"):
            load_segmentation_data(settings(tmp_path))
    np.savez(tmp_path / "train.npz", images=arrays()["images"])
    with pytest.raises(NasError, match="needs the arrays images and masks, it has images"):
        load_segmentation_data(settings(tmp_path))


def test_a_small_file_that_states_a_huge_array_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", **arrays())
    with zipfile.ZipFile(tmp_path / "train.npz") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sizes = b"(9999999, 99, 99, 3)"
    huge = parts["images.npy"].replace(b"(4, 30, 40, 3), }      ", sizes + b", }")
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        archive.writestr("images.npy", huge)
        archive.writestr("masks.npy", parts["masks.npy"].replace(b"(4, 30, 40), }      ", b"(9999999, 30, 40), }"))
    with pytest.raises(NasError, match=r"more than data\.max_memory_bytes leaves"):
        load_segmentation_data(settings(tmp_path))


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the street scenes are not on this machine")
def test_street_scenes_have_eleven_classes_when_their_void_is_named() -> None:
    data = load_segmentation_data(settings(CAMVID, void=11))
    with np.load(CAMVID / "camvid160_train.npz") as raw:
        masks, images, names = raw["masks"], raw["images"], raw["names"]
    counts = np.bincount(masks.reshape(-1), minlength=12)
    assert data.class_names == tuple(map(str, range(11)))
    shares = [one.train for one in data.description.classes]
    np.testing.assert_allclose(shares, counts[:11] / counts[:11].sum(), rtol=1e-12)
    assert data.description.void == pytest.approx(counts[11] / counts.sum())
    assert list(data.train.names) == names.tolist()
    row = int((masks == 11).any(axis=(1, 2)).argmax())
    np.testing.assert_array_equal(data.train.mask(row), np.where(masks[row] == 11, VOID, masks[row]))
    np.testing.assert_array_equal(data.train.image(row), images[row])
    assert (len(data.train), len(data.val)) == (367, 101)
    assert len(load_segmentation_data(settings(CAMVID)).class_names) == 12
