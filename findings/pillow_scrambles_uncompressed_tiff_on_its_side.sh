#!/usr/bin/env bash
# Pillow scrambles an uncompressed TIFF that lies on its side, if it is opened by name
#
# Packages: pillow 13.0.0, numpy 2.4.6; Python 3.11, Linux x86-64.
#
# Behaviour: a TIFF of orientation 5 to 8 (rotated by a quarter turn) is turned upright when it is loaded. For an
# uncompressed one of 8 or 16 bits that was opened by name, Pillow maps the file into memory with the sides of the
# upright image as those of the stored one: rows are cut at the wrong places, and the result is turned once more. No
# error, no warning. The same file opened as a stream, or compressed, is right.
#
# Guessed: Image.open(name) and Image.open(stream) read the same pixels.
#
# Output seen:
#   orientation 1, by name: 24x8, right; as a stream: 24x8, right; LZW by name: 24x8, right
#   orientation 6, by name: 24x8, WRONG; as a stream: 8x24, right; LZW by name: 8x24, right
#
# Matters here: nas/data/decode.py opens streams. A scanner or microscope that writes such files would train networks
# on noise that has the right brightness and the right size.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from PIL import Image

stored = np.add.outer(10 * np.arange(8), 7 * np.arange(24)).astype(np.uint8)
seen = {}
for orientation, upright in ((1, stored), (6, np.rot90(stored, -1))):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save("plain.tif", exif=exif)
    Image.fromarray(stored).save("lzw.tif", exif=exif, compression="tiff_lzw")
    words = []
    for how, source in (("by name", "plain.tif"), ("as a stream", open("plain.tif", "rb")), ("LZW by name", "lzw.tif")):
        with Image.open(source) as image:
            image.load()
            right = np.array_equal(np.asarray(image), upright)
            words.append(f"{how}: {image.size[0]}x{image.size[1]}, {'right' if right else 'WRONG'}")
        seen[orientation, how] = right
    print(f"orientation {orientation}, {'; '.join(words)}")

wrong = [case for case, right in seen.items() if not right]
as_stated = wrong == [(6, "by name")]
print("as stated" if as_stated else "CHANGED: the behaviour is no longer as stated above")
sys.exit(0 if as_stated else 1)
PYTHON
