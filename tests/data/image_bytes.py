"""Image files written byte by byte, as the PNG and TIFF specifications say, for what Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path


def write_png(
    path: Path, *, width: int, height: int, depth: int, colour_type: int, pixels: bytes, chunks: dict[bytes, bytes]
) -> Path:
    """Write a PNG of ``pixels``, whole rows without filter bytes; ``chunks`` stand before them."""
    row = -(-width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type] // 8)
    rows = b"".join(b"\0" + pixels[start : start + row] for start in range(0, row * height, row))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = {b"IHDR": header, **chunks, b"IDAT": zlib.compress(rows), b"IEND": b""}
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    return path


def write_tiff(
    path: Path,
    *,
    width: int,
    height: int,
    bits: int,
    pixels: bytes,
    order: str = "<",
    sample_format: int = 1,
    photometric: int = 1,
    orientation: int = 1,
) -> Path:
    """Write an uncompressed grey TIFF; ``order`` as in ``struct``.

    ``sample_format`` 1 is unsigned, 2 signed, 3 float; ``photometric`` 0 is white at zero, 1 black at zero.
    """
    tags = {
        256: width, 257: height, 258: bits, 259: 1, 262: photometric, 274: orientation, 277: 1, 278: height,
        339: sample_format,
    }  # fmt: skip
    entries = {tag: struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items()}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    for tag, value in ((273, start), (279, len(pixels))):
        entries[tag] = struct.pack(order + "HHII", tag, 4, 1, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    path.write_bytes(head + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4) + pixels)
    return path
