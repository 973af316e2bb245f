"""Pixels of image files by the rules of the manual: bit depth, transparency, orientation, fit."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nas.core.errors import NasError
from nas.data.decode import decode_images
from nas.data.sources import DataSettings
from tests.data.image_bytes import write_png, write_tiff

RED = (255, 0, 0)


def decoded(file: Path, **fields: Any) -> NDArray[np.uint8]:
    """The image as (H, W, 3), at its own size unless told otherwise; it must be a square then."""
    settings = DataSettings(name="imagefolder", root=".", **{"background": list(RED), **fields})
    images, _ = decode_images([file], settings, check_size=lambda *_: None)
    return images[0].permute(1, 2, 0).numpy()


def grey(file: Path, **fields: Any) -> list[list[int]]:
    """The levels of a grey image."""
    pixels = decoded(file, **fields)
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[:, :, 0].tolist()


def refused(file: Path, **fields: Any) -> str:
    with pytest.raises(NasError) as caught:
        decoded(file, **fields)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    return str(caught.value)


# Levels of 8 bits are 257 apart in 16 bits: 65535 = 255 * 257.
SIXTEEN = np.array([[0, 257], [25700, 65535]], dtype=np.uint16)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "lzw.tif", "big_endian.tif", "grey.pgm"])
def test_16_bits_are_scaled_by_their_depth(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "big_endian.tif":
        write_tiff(file, width=2, height=2, bits=16, pixels=SIXTEEN.astype(">u2").tobytes(), order=">")
    elif name == "grey.pgm":
        file.write_bytes(b"P5 2 2 65535\n" + SIXTEEN.astype(">u2").tobytes())
    else:
        Image.fromarray(SIXTEEN).save(file, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
    assert grey(file) == [[0, 1], [100, 255]]


def test_a_depth_that_the_file_states_is_its_range(tmp_path: Path) -> None:
    # Two samples of 12 bits in three bytes: 4095 is white; 1365 = 4095 / 3.
    packed = bytes([0xFF, 0xF5, 0x55]) * 2
    assert grey(write_tiff(tmp_path / "12.tif", width=2, height=2, bits=12, pixels=packed)) == [[255, 85]] * 2
    pgm = tmp_path / "12.pgm"
    pgm.write_bytes(b"P5 2 2 4095\n" + struct.pack(">4H", 4095, 1365, 0, 4095))
    assert grey(pgm) == [[255, 85], [0, 255]]


def test_white_at_zero_is_turned(tmp_path: Path) -> None:
    file = write_tiff(tmp_path / "a.tif", width=2, height=2, bits=16, pixels=SIXTEEN.tobytes(), photometric=0)
    assert grey(file) == [[255, 254], [155, 0]]
    assert grey(file, value_range=[0, 25700]) == [[255, 252], [0, 0]]  # 255 - 255 / 100 is 252.45


VALUES = np.array([[-5, 0], [150, 300]])
WIDE: dict[str, tuple[int, int, str]] = {  # bits, sample format, code of struct
    "int16": (16, 2, "h"),
    "int32": (32, 2, "i"),
    "uint32": (32, 1, "I"),
    "float32": (32, 3, "f"),
}


@pytest.mark.parametrize("kind", WIDE)
def test_values_without_a_range_are_refused_until_it_is_set(tmp_path: Path, kind: str) -> None:
    bits, sample_format, code = WIDE[kind]
    values = [abs(value) if kind == "uint32" else value for value in VALUES.flatten().tolist()]
    file = write_tiff(
        tmp_path / "a.tif",
        width=2,
        height=2,
        bits=bits,
        sample_format=sample_format,
        pixels=struct.pack("<4" + code, *values),
    )
    mode = "F" if kind == "float32" else "I"
    text = refused(file)
    assert f"(mode {mode}, here {min(values)} to 300)" in text and "data.value_range=[BLACK,WHITE]" in text
    assert grey(file, value_range=[0, 300]) == [[4 if kind == "uint32" else 0, 0], [128, 255]]  # 4.25, 127.5


def test_unsigned_values_of_32_bits_do_not_wrap(tmp_path: Path) -> None:
    pixels = struct.pack("<4I", 0, 2**31, 2**32 - 1, 2**30)
    file = write_tiff(tmp_path / "a.tif", width=2, height=2, bits=32, pixels=pixels)
    assert grey(file, value_range=[0, 2**32 - 1]) == [[0, 128], [255, 64]]


def test_no_image_is_stretched_to_its_own_range(tmp_path: Path) -> None:
    for name, high in (("dim", 0.5), ("bright", 1.0)):
        Image.fromarray(np.array([[0, high], [high, high]], dtype=np.float32)).save(tmp_path / f"{name}.tif")
    assert grey(tmp_path / "dim.tif", value_range=[0, 1]) == [[0, 128], [128, 128]]
    assert grey(tmp_path / "bright.tif", value_range=[0, 1]) == [[0, 255], [255, 255]]


def test_nan_is_refused(tmp_path: Path) -> None:
    pixels = struct.pack("<4f", 0, float("nan"), 1, float("inf"))
    file = write_tiff(tmp_path / "a.tif", width=2, height=2, bits=32, sample_format=3, pixels=pixels)
    assert "(mode F) contains NaN" in refused(file, value_range=[0, 1])


def disc(mode: str) -> Image.Image:
    """A black disc whose shape is in alpha only; level 0 or colour (0, 0, 0) all over."""
    alpha = Image.new("L", (16, 16))
    ImageDraw.Draw(alpha).ellipse((4, 4, 11, 11), fill=255)
    image = Image.new("RGBA", (16, 16))
    image.putalpha(alpha)
    return image.quantize(8) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGBA", "png"), ("LA", "png"), ("P", "png"), ("RGBA", "gif"), ("RGBA", "webp"), ("RGBA", "tif")],
)
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    disc(mode).save(file, **({"lossless": True} if suffix == "webp" else {}))
    inside = np.asarray(disc("RGBA"))[:, :, 3] > 0
    for name, colour in (("white", (255, 255, 255)), ("black", (0, 0, 0)), ([9, 99, 199], (9, 99, 199))):
        pixels = decoded(file, background=name)
        assert (pixels[inside] == 0).all() and (pixels[~inside] == colour).all()
    assert DataSettings().background == "white"


def test_half_transparent_pixels_are_mixed(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (100, 200, 0, 51)).save(tmp_path / "a.png")  # a fifth of it, four fifths of white
    assert (decoded(tmp_path / "a.png", background="white") == (224, 244, 204)).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_level_counts_in_the_depth_of_the_file(tmp_path: Path, depth: int) -> None:
    top = 2**depth - 1
    bits = "".join(f"{level:0{depth}b}" for level in (0, top))
    size = max(1, 2 * depth // 8)
    pixels = int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big") * 2
    file = write_png(
        tmp_path / "a.png",
        width=2,
        height=2,
        depth=depth,
        colour_type=0,
        pixels=pixels,
        chunks={b"tRNS": struct.pack(">H", top)},
    )
    assert decoded(file).tolist() == [[[0, 0, 0], list(RED)]] * 2


def test_a_transparent_colour_of_16_bits(tmp_path: Path) -> None:
    key = struct.pack(">3H", 65535, 12345, 100)
    pixels = (key + struct.pack(">3H", 65535, 0, 0)) * 2
    file = write_png(
        tmp_path / "a.png", width=2, height=2, depth=16, colour_type=2, pixels=pixels, chunks={b"tRNS": key}
    )
    assert decoded(file, background="black").tolist() == [[[0, 0, 0], [255, 0, 0]]] * 2


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "16.png", "16.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Of four blocks, upright, the lower right one is white: EXIF 2.3 says in which corner of the file it is then."""
    bottom, right = {1: (1, 1), 2: (1, 0), 3: (0, 0), 4: (0, 1), 5: (1, 1), 6: (0, 1), 7: (0, 0), 8: (1, 0)}[
        orientation
    ]
    stored = np.zeros((16, 16), dtype=np.uint16 if "16" in suffix else np.uint8)
    stored[8 * bottom : 8 * bottom + 8, 8 * right : 8 * right + 8] = np.iinfo(stored.dtype).max
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(file, exif=exif)
    wanted = np.zeros((16, 16))
    wanted[8:, 8:] = 255
    assert np.abs(np.array(grey(file)) - wanted).max() < 32  # JPEG and WebP are lossy


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_uncompressed_tiff_on_its_side_is_not_scrambled(tmp_path: Path, orientation: int) -> None:
    """A gradient of 24 x 8: rows of the file become columns from the right, with orientation 6."""
    stored = np.add.outer(10 * np.arange(8), 7 * np.arange(24)).astype(np.uint8)
    file = write_tiff(tmp_path / "a.tif", width=24, height=8, bits=8, pixels=stored.tobytes(), orientation=orientation)
    upright = stored if orientation == 1 else np.rot90(stored, -1)
    start = (slice(None), slice(8, 16)) if orientation == 1 else (slice(8, 16), slice(None))
    assert grey(file, resolution_px=8) == upright[start].tolist()


def stripes(path: Path) -> Path:
    """A lossless image of 720 x 184 px: red in the left third, green in the middle, blue to the right."""
    image = Image.new("RGB", (720, 184), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, 240, 184))
    image.paste((0, 0, 255), (480, 0, 720, 184))
    image.save(path)
    return path


def test_fit_crops_pads_or_stretches(tmp_path: Path) -> None:
    file = stripes(tmp_path / "a.png")
    crop, stretch = (decoded(file, fit=fit, resolution_px=36) for fit in ("crop", "stretch"))
    assert (crop == (0, 255, 0)).all()
    assert stretch[[0, -1]][:, [2, 18, 33]].tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]] * 2
    pad = decoded(file, fit="pad", resolution_px=36, background=[7, 8, 9])
    assert pad[18, [2, 18, 33]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    bars = (pad == (7, 8, 9)).all(2).all(1)
    assert bars.sum() == 36 - 9 and bars[:13].all() and bars[-13:].all()  # 36 * 184 / 720 = 9.2 rows hold the image


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 400), (400, 1), (3, 2)])
def test_every_shape_becomes_a_square(tmp_path: Path, fit: str, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (0, 0, 200)).save(tmp_path / "a.png")
    pixels = decoded(tmp_path / "a.png", fit=fit, resolution_px=12, background="white")
    assert pixels.shape == (12, 12, 3) and (pixels == (0, 0, 200)).all(2).any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fit": "padd"}, r"unknown data\.fit 'padd': choose from crop, pad, stretch\. Did you mean 'pad'"),
        ({"background": "pink"}, r"data\.background 'pink': must be white, gray, black or three whole numbers"),
        ({"background": [1, 2]}, r"data\.background \[1, 2\]"),
        ({"background": [1, 2, 256]}, r"data\.background \[1, 2, 256\]"),
        ({"background": None}, r"data\.background null"),
        ({"value_range": [1, 1]}, r"data\.value_range \[1, 1\]: must be null or two numbers"),
        ({"value_range": 4095}, r"data\.value_range 4095"),
        ({"value_range": [0, float("inf")]}, r"data\.value_range \[0, inf\]"),
    ],
)  # fmt: skip
def test_invalid_rules_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        DataSettings(name="imagefolder", root=".", **fields)


def test_identity_is_that_of_older_studies_unless_the_images_change() -> None:
    older = {"name", "root", "val_fraction", "resolution_px", "proxy_resolution_px", "subset", "flip", "seed"}
    assert DataSettings(allow_constant=True).identity().keys() == older | {"max_memory_bytes"}
    changed: dict[str, Any] = {"fit": "pad", "background": [1, 2, 3], "value_range": [0, 4095]}
    assert DataSettings(name="imagefolder", root=".", **changed).identity().keys() - older == {
        *changed,
        "max_memory_bytes",
    }


def test_rules_of_image_files_are_refused_where_there_are_none() -> None:
    for field, value in {"fit": "pad", "background": "black", "value_range": (0, 1)}.items():
        with pytest.raises(NasError, match=rf"data\.{field} .*: is for image files, those of data=imagefolder"):
            DataSettings(name="cifar10", root=".", **{field: value})


def test_colour_and_8_bits_are_unchanged(tmp_path: Path) -> None:
    levels = torch.randint(0, 256, (9, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert (decoded(tmp_path / "a.png") == levels).all()
    pixels = (levels.astype(">u2") * 257).tobytes()
    file = write_png(tmp_path / "b.png", width=9, height=9, depth=16, colour_type=2, pixels=pixels, chunks={})
    assert (decoded(file) == levels).all()
