"""What is refused or told of whole data sets: few bits, constant images, area lost, damaged and huge files."""

from __future__ import annotations

import random
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas.core.errors import NasError
from nas.data import images as images_module
from nas.data.images import ImageData, load_images
from nas.data.sources import DataSettings
from tests.data.image_bytes import write_png, write_tiff

SIZE = (10, 10)


def write_set(root: Path, *images: NDArray[Any], suffix: str = "png") -> Path:
    """Write ``images`` into each of two classes."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number, pixels in enumerate(images):
            Image.fromarray(pixels).save(root / name / f"{number}.{suffix}")
    return root


def noise(high: int = 256, low: int = 0, *, size: tuple[int, ...] = SIZE, seed: int = 0) -> NDArray[Any]:
    """Uniform values from ``low`` to ``high - 1``, both of which occur."""
    values = np.random.default_rng(seed).integers(low, high, size)
    values.flat[:2] = low, high - 1
    return values.astype(np.uint8 if high <= 256 else np.uint16)


def load(root: Path, **fields: Any) -> ImageData:
    return load_images(
        DataSettings(name="imagefolder", root=str(root), val_fraction=0.5, **{"resolution_px": 10, **fields})
    )


def refused(root: Path, **fields: Any) -> str:
    with pytest.raises(NasError) as caught:
        load(root, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("low", "high", "advice"),
    [
        (0, 255, "[0,255]"),
        (3, 1000, "[0,1023]"),
        (0, 4095, "[0,4095]"),
        (40, 16000, "[0,16383]"),
        (28012, 31970, "[28012,31970]"),
        (900, 1020, "[900,1020]"),
    ],
)
def test_few_bits_in_files_of_16_are_refused_with_the_range_to_set(
    tmp_path: Path, low: int, high: int, advice: str
) -> None:
    root = write_set(tmp_path, *(noise(high + 1, low, seed=seed).astype(np.uint16) for seed in (1, 2)))
    text = refused(root)
    assert f"{tmp_path}/a/" in text and f".png and 3 more are only {low} to {high}" in text
    assert f"set data.value_range={advice}, or [0,65535]" in text
    black, white = map(int, advice.strip("[]").split(","))
    data = load(root, value_range=[black, white])
    assert int(data.train_images.min()) == round(255 * (low - black) / (white - black))
    assert int(data.train_images.max()) == round(255 * (high - black) / (white - black))
    assert int(load(root, value_range=[0, 65535], allow_constant=True).train_images.max()) == round(high / 257)


def test_values_beyond_the_range_are_told(tmp_path: Path) -> None:
    root = write_set(tmp_path, noise(4096), noise(65536))  # of the second, 15 of 16 values are beyond 12 bits
    (notice,) = load(root, value_range=[0, 4095]).notices
    assert notice.startswith("2 of 4 files have more than a tenth of their values beyond data.value_range")
    assert notice.endswith("/1.png")
    assert load(root, value_range=[0, 65535]).notices == ()


def test_colour_of_few_bits_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(2):
            pixels = noise(4096, size=(10, 10, 3), seed=number).astype(">u2").tobytes()
            file = tmp_path / name / f"{number}.png"
            write_png(file, width=10, height=10, depth=16, colour_type=2, pixels=pixels, chunks={})
    assert "are only 0 to 3855; scale them to 8 bits before" in refused(tmp_path)  # 15 * 257: Pillow keeps high bytes
    assert "scale them to 8 bits before" in refused(tmp_path, value_range=[0, 4095])


def test_dark_images_among_bright_ones_are_taken_as_they_are(tmp_path: Path) -> None:
    data = load(write_set(tmp_path, noise(65536), noise(4096)))
    assert int(data.train_images.max()) == 255 or int(data.val_images.max()) == 255


def test_constant_train_images_are_refused_with_number_and_example(tmp_path: Path) -> None:
    plain = np.full((*SIZE, 3), (1, 2, 3), dtype=np.uint8)
    root = write_set(tmp_path, noise(size=(*SIZE, 3)), plain, noise(size=(*SIZE, 3), seed=1), plain)
    settings = DataSettings(name="imagefolder", root=str(root), resolution_px=10, val_fraction=0.5, allow_constant=True)
    seen = load_images(settings).train_images.flatten(2).float()
    count = int((seen.std(2) == 0).all(1).sum())
    assert 0 < count < 4
    text = refused(root)
    assert f"{count} of 4 train images are of one colour at 10 px, such as {tmp_path}/" in text
    example = Path(text.partition("such as ")[2].partition(";")[0])
    assert example.stem in ("1", "3") and "data.allow_constant false" in text


def test_one_colour_in_three_channels_of_detail_is_not_constant(tmp_path: Path) -> None:
    """One channel is enough."""
    red = np.zeros((*SIZE, 3), dtype=np.uint8)
    red[0, 0, 0] = 1
    assert load(write_set(tmp_path, red, red)).train_images.sum() == 2


def test_an_image_whose_content_is_white_in_alpha_is_told(tmp_path: Path) -> None:
    cut_out = np.full((*SIZE, 4), 255, dtype=np.uint8)
    cut_out[2:8, 2:8, 3] = 0
    root = write_set(tmp_path, cut_out, cut_out)
    assert "choose another data.background" in refused(root)
    data = load(root, background="black")
    assert data.train_images.unique().tolist() == [0, 255]
    (notice,) = data.notices
    assert notice.startswith("4 of 4 files are transparent in parts, which show data.background=black; for instance")


def test_an_opaque_alpha_channel_is_not_told(tmp_path: Path) -> None:
    opaque = np.dstack([noise(size=(*SIZE, 3)), np.full(SIZE, 255, dtype=np.uint8)])
    assert load(write_set(tmp_path, opaque, opaque)).notices == ()


def test_constant_images_of_other_sources_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels, names = images_module._load_packaged("digits")
    pixels[:] = 7
    monkeypatch.setattr(images_module, "_load_packaged", lambda _: (pixels, labels, names))
    with pytest.raises(
        NasError, match=r"\d+ of \d+ train images are of one colour at 8 px, such as number \d+ of digits"
    ):
        load_images(DataSettings())


@pytest.mark.parametrize(
    ("wide", "square", "told"),
    [(3, 1, "75%"), (2, 2, ""), (1, 3, "")],
)
def test_the_crop_is_told_where_most_images_lose_more_than_a_tenth(
    tmp_path: Path, wide: int, square: int, told: str
) -> None:
    shapes = [(20, 79)] * wide + [SIZE] * square  # keeps 20 / 79 of its area, loses 75%
    root = write_set(tmp_path, *(noise(size=shape) for shape in shapes))
    notices = load(root).notices
    assert bool(notices) == bool(told)
    assert load(root, fit="pad").notices == load(root, fit="stretch").notices == ()
    if told:
        (notice,) = notices
        assert "data.fit=crop: 6 of 8 images (75%) lose more than a tenth" in notice
        assert "75% at the median" in notice and "(79x20)" in notice
        assert "data.fit=pad" in notice and "data.fit=stretch" in notice


def test_a_tenth_is_not_told(tmp_path: Path) -> None:
    assert load(write_set(tmp_path, noise(size=(18, 20)), noise(size=(20, 18)))).notices == ()
    assert load(write_set(tmp_path / "more", noise(size=(179, 200)), noise(size=(200, 179)))).notices != ()


def test_files_of_several_images_are_told(tmp_path: Path) -> None:
    root = write_set(tmp_path, noise(), noise(seed=1))
    assert load(root).notices == ()
    pages = [Image.fromarray(noise(seed=seed)) for seed in (2, 3)]
    for number, suffix in enumerate(("tif", "gif", "png", "webp")):
        pages[0].save(root / "a" / f"more{number}.{suffix}", save_all=True, append_images=pages[1:])
        (notice,) = load(root).notices
        assert notice.startswith(
            f"{number + 1} of {5 + number} files hold several images (pages or frames), of which the"
        )
        assert notice.endswith(f"{root}/a/more0.tif")


def huge_png(path: Path, side: int) -> Path:
    """A black image of ``side`` x ``side`` px of one bit."""
    row = bytes(1 + side // 8)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    write_png(path, width=8, height=1, depth=1, colour_type=0, pixels=b"\0", chunks={})
    head = path.read_bytes()[:8]
    pieces = {b"IHDR": side.to_bytes(4, "big") * 2 + b"\1\0\0\0\0", b"IDAT": data, b"IEND": b""}
    body = (
        len(part).to_bytes(4, "big") + kind + part + zlib.crc32(kind + part).to_bytes(4, "big")
        for kind, part in pieces.items()
    )
    path.write_bytes(head + b"".join(body))
    return path


@pytest.mark.parametrize(
    ("side", "reason"),
    [(9700, "9700x9700 pixels take 1.4 GB of memory, 1.4 GB are the limit"), (16000, "more than 179 million pixels")],
)
def test_a_huge_image_is_refused_by_name_without_warnings(tmp_path: Path, side: int, reason: str) -> None:
    root = write_set(tmp_path, noise(), noise(seed=1))
    file = huge_png(root / "b" / "0.png", side)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text = refused(root)
    assert f"{file} is too large to be decoded ({reason}" in text and caught == []


def test_a_huge_photograph_is_read_at_a_smaller_scale(tmp_path: Path) -> None:
    root = write_set(tmp_path, noise(), noise(seed=1))
    picture = Image.new("L", (9600, 9600))
    picture.paste(255, (0, 0, 4800, 9600))
    picture.save(root / "a" / "0.jpg")
    (root / "a" / "0.png").unlink()
    data = load(root)
    levels = [image[0].float().mean(0)[[1, 8]].tolist() for image in (*data.train_images, *data.val_images)]
    assert any(left > 250 and right < 5 for left, right in levels)


FORMATS = {
    "bmp": {},
    "gif": {},
    "jpg": {"progressive": True},
    "png": {},
    "ppm": {},
    "tif": {"compression": "tiff_lzw"},
    "webp": {},
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_decoded_or_refused_by_name(tmp_path: Path, suffix: str) -> None:
    """Nothing but a NasError, whichever bytes are changed or missing."""
    root = write_set(tmp_path, noise(), noise(seed=1))
    file = root / "a" / f"0.{suffix}"
    (root / "a" / "0.png").unlink()
    Image.fromarray(noise(size=(*SIZE, 3))).save(file, **FORMATS[suffix])
    whole, draw, outcomes = file.read_bytes(), random.Random(0), set()
    for _ in range(60):
        content = bytearray(whole[: draw.choice([len(whole), draw.randrange(len(whole))])])
        for _ in range(draw.randrange(4) if content else 0):
            content[draw.randrange(len(content))] = draw.randrange(256)
        file.write_bytes(content)
        try:
            load(root, allow_constant=True)
            outcomes.add("decoded")
        except NasError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"decoded", "refused"}


@pytest.mark.parametrize(
    ("bits", "sample_format", "kind"),
    [(64, 3, "1 x 64-bit float"), (16, 3, "1 x 16-bit float"), (64, 1, "1 x 64-bit unsigned")],
)
def test_samples_that_are_not_read_are_named(tmp_path: Path, bits: int, sample_format: int, kind: str) -> None:
    root = write_set(tmp_path, noise(), noise(seed=1))
    file = root / "a" / "0.tif"
    write_tiff(file, width=2, height=2, bits=bits, sample_format=sample_format, pixels=bytes(bits // 2))
    assert f"cannot decode {file} (a TIFF of {kind} samples is not read" in refused(root)


def test_no_program_is_run_for_an_image(tmp_path: Path) -> None:
    """EPS, whatever its suffix, would be given to Ghostscript."""
    root = write_set(tmp_path, noise(), noise(seed=1))
    Image.fromarray(noise(size=(*SIZE, 3))).save(root / "a" / "0.png", format="EPS")
    assert f"cannot decode {root}/a/0.png (it is of no known format: JPEG, PNG" in refused(root)
