"""Image folders of which files are decoded when they are needed: the same images, checks and description."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.core.errors import NasError
from nas.data import streaming
from nas.data.decode import open_image
from nas.data.identical import equal_files_by_size
from nas.data.image_files import PathTable
from nas.data.images import ImageData, load_images
from nas.data.sources import DataSettings
from nas.data.streaming import DecodedImages, list_images

SIZES = ((20, 16), (16, 16), (40, 30))


def write_images(root: Path, *, per_class: int = 6) -> Path:
    """Write noise of three classes: JPEG and PNG by turns, of several sizes, every third one to be turned upright."""
    noise = np.random.default_rng(0)
    for name in ("ant", "bee", "cat"):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            width, height = SIZES[index % 3]
            image = Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 6 if index % 3 == 2 else 1
            image.save(root / name / f"{index}.{'png' if index % 2 else 'jpg'}", exif=exif)
    return root


def folder(root: Path, **fields: Any) -> DataSettings:
    return DataSettings(name="imagefolder", root=str(root), **fields)


@pytest.mark.parametrize("fields", [{}, {"subset": 9, "seed": 3, "val_fraction": 0.4, "fit": "pad", "flip": False}])
def test_splits_labels_statistics_and_description_are_those_of_images_in_memory(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    settings = folder(write_images(tmp_path), **fields)
    listed, loaded = (
        list_images(settings, 12),
        load_images(DataSettings(**{**settings.identity(), "resolution_px": 12})),
    )
    assert torch.equal(listed.train_labels, loaded.train_labels)
    assert torch.equal(listed.val_labels, loaded.val_labels)
    assert (listed.mean, listed.std) == (loaded.mean, loaded.std)
    assert listed.description == loaded.description
    assert [notice.split(": ")[1] for notice in listed.notices] == [notice.split(": ")[0] for notice in loaded.notices]
    assert (listed.flips, listed.classes, listed.channels) == (loaded.flips, loaded.classes, loaded.channels)


def test_statistics_may_be_given(tmp_path: Path) -> None:
    listed = list_images(folder(write_images(tmp_path)), 8, normalisation=([0.5] * 3, [0.25] * 3))
    assert (listed.mean, listed.std) == ((0.5,) * 3, (0.25,) * 3)


def test_of_many_images_a_sample_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_SAMPLE", 4)
    settings = folder(write_images(tmp_path), fit="crop")
    decoded: list[int] = []
    first = list_images(settings, 8, on_progress=lambda done, total: decoded.append(total))
    assert decoded == [4]
    assert first.mean == list_images(settings, 8).mean
    exact = load_images(replace(settings, resolution_px=8)).mean
    assert first.mean != exact
    assert first.mean == pytest.approx(exact, abs=0.1)
    (notice,) = [notice for notice in first.notices if "data.fit=crop" in notice]
    assert notice.startswith("among a sample of 4 of the 14 train images: data.fit=crop: ")


def test_a_data_set_does_not_grow_with_its_images(tmp_path: Path) -> None:
    small = list_images(folder(write_images(tmp_path / "a")), 8)
    large = list_images(folder(write_images(tmp_path / "b")), 256)
    assert len(pickle.dumps(large)) == pytest.approx(len(pickle.dumps(small)), abs=64)
    assert len(pickle.dumps(large)) < 256 * 256


def test_paths_of_any_bytes_are_stored(tmp_path: Path) -> None:
    paths = [tmp_path / "a b", Path(os.fsdecode(b"/caf\xe9/\xf0\x9f\x90\x9c.png")), Path("."), tmp_path]
    table = PathTable(paths)
    assert list(table) == paths == [table[row] for row in range(-len(paths), 0)]
    assert table[1:3] == paths[1:3]
    assert list(pickle.loads(pickle.dumps(table))) == paths
    assert len({table.digest(), PathTable(paths[::-1]).digest(), PathTable(paths[:3]).digest()}) == 3
    assert list(PathTable([])) == []
    with pytest.raises(IndexError):
        table[4]


def test_files_of_the_same_bytes_are_found_by_their_sizes(tmp_path: Path) -> None:
    contents = {"a": b"1234", "b": b"5678", "c": b"56789", "d": b"1234", "e": b"5678", "f": b"abcd", "g": b"?"}
    files = {name: tmp_path / name for name in contents}
    for name, content in contents.items():
        files[name].write_bytes(content)
    train = [files[name] for name in "abc"]
    val = [files[name] for name in "defg"] + [tmp_path / "missing"]
    assert equal_files_by_size(train, val, 100) == [(files["a"], files["d"]), (files["b"], files["e"])]
    assert equal_files_by_size(train, val, 19) is None
    assert equal_files_by_size(train[2:], val, 0) == []


def test_it_is_said_where_equal_files_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = folder(write_images(tmp_path))
    image = tmp_path / "ant" / "1.png"
    for name in ("bee", "cat"):
        for index in range(6):
            (tmp_path / name / f"{index}.png").write_bytes(image.read_bytes())
    assert list_images(settings, 8).description.identical.count > 0
    monkeypatch.setattr(streaming, "_MOST_COMPARED_BYTES", 0)
    listed = list_images(settings, 8)
    assert listed.description.identical.count == 0
    assert any("not checked whether validation images are among the train images" in one for one in listed.notices)


@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 48)), (3, (64, 48)), (6, (48, 64)), (8, (48, 64))])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_suffices(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    gradient = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient).save(tmp_path / "a.jpg", exif=exif, quality=95)
    settings = folder(tmp_path)
    for divisor, least in (
        (4, (12, 12)),
        (2, (size[0] // 2, 1)),
        (2, (1, size[1] // 2 - 1)),
        (1, (size[0] // 2 + 1, 1)),
    ):
        with open_image(tmp_path / "a.jpg", settings) as image:
            assert image.size == size
            decoded = image.decode(least)
        assert decoded.size == (size[0] // divisor, size[1] // divisor)
    with open_image(tmp_path / "a.jpg", settings) as image:
        whole = np.asarray(image.decode(image.size), dtype=int)
    turned = {1: gradient, 3: gradient[::-1, ::-1], 6: np.rot90(gradient, -1), 8: np.rot90(gradient)}[orientation]
    assert np.abs(whole - turned).mean() < 4


def test_a_file_that_breaks_later_is_named_when_it_is_opened(tmp_path: Path) -> None:
    listed = list_images(folder(write_images(tmp_path)), 8)
    file = listed.val_files[1]
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(NasError, match=rf"data\.root: cannot decode {file} \("), listed.open("val", 1) as image:
        image.decode((8, 8))
    file.unlink()
    with pytest.raises(NasError, match=rf"cannot decode {file} \(.*No such file"), listed.open("val", 1):
        pass


def test_an_image_that_becomes_one_colour_is_named(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    listed, tolerant = list_images(folder(root), 8), list_images(folder(root, allow_constant=True), 8)
    listed.check_row(2)
    file = listed.train_files[2]
    Image.new("RGB", (20, 20), (200, 10, 10)).save(file)
    with pytest.raises(NasError, match=rf"data\.allow_constant false: {file} is of one colour; remove it"):
        listed.check_row(2)
    tolerant.check_row(2)


def test_identity_follows_files_labels_and_rules(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    same, *others = [
        list_images(settings, side).identity()
        for settings, side in (
            (folder(root), 8),
            (folder(root), 9),
            (folder(root, seed=1), 8),
            (folder(root, background="black"), 8),
        )
    ]
    assert same == list_images(folder(root), 8).identity()
    assert same not in others
    (root / "ant" / "0.jpg").rename(root / "ant" / "7.jpg")
    assert list_images(folder(root), 8).identity() != same


def test_grey_images_in_memory_are_opened_as_rgb(digits: ImageData) -> None:
    images = DecodedImages(digits)
    with images.open("val", 3) as image:
        assert image.size == (16, 16)
        pixels = np.asarray(image.decode((1, 1)))
    assert np.array_equal(pixels, np.repeat(digits.val_images[3].permute(1, 2, 0).numpy(), 3, axis=2))
