"""Images and masks as arrays in ``*_train.npz`` and ``*_val.npz``.

Keys: ``images`` uint8 (N, H, W, 3), ``masks`` uint8 (N, H, W); optional ``names`` (N,) of the images, and
``class_names`` of the values 0, 1, ... of masks.
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import NasError
from nas.core.files import file_sha256
from nas.data.dense.problems import LabelProblems
from nas.data.dense.records import MaskSource, shown_place
from nas.data.dense.settings import DenseDataSettings, checked_class_names
from nas.data.folder_layout import split_role

_MAX_NAMES_BYTES: Final = 400_000_000
_WORD: Final = re.compile(r"[^\W_]+")


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size_bytes(self) -> int:
        """Bytes of the array."""
        count = self.dtype.itemsize
        for side in self.shape:
            count *= side
        return count


def is_npz(root: Path) -> bool:
    """Whether there are npz files whose name ends as that of a split."""
    return bool(_by_role(root))


def find_npz(root: Path, settings: DenseDataSettings) -> tuple[Path, Path | None]:
    """Files of the train and validation split; the latter None if it is split off.

    Raises: NasError for a file that is missing or not unique.
    """
    if settings.train is not None:
        train = _given(root, "train", settings.train)
        return train, None if settings.val is None else _given(root, "val", settings.val)
    roles = _by_role(root)
    for role, files in roles.items():
        if len(files) > 1:
            raise NasError(
                f"data.root: {files[0].name} and {files[1].name} in {root} may each be the {role} split; say which "
                "with data.train=FILE data.val=FILE, relative to data.root."
            )
    if "train" not in roles:
        raise NasError(f"data.root: {root} holds no *_train.npz; add it, or set data.train=FILE.")
    val = roles.get("val") or roles.get("test")
    return roles["train"][0], val[0] if val else None


def read_npz(root: Path, settings: DenseDataSettings, problems: LabelProblems) -> MaskSource:
    """Read the arrays of all splits.

    Raises: NasError for files that are damaged, of other keys or shapes, or larger than ``max_memory_bytes``.
    """
    files = [file for file in find_npz(root, settings) if file is not None]
    limit = settings.max_memory_bytes
    parts = []
    for file in files:
        parts.append(_read(file, limit))
        limit -= sum(part.nbytes for part in parts[-1][:2])
    class_names = {part[3] for part in parts if part[3] is not None}
    if len(class_names) > 1:
        raise NasError(f"data.root: {files[0]} and {files[1]} have other class_names; they must be equal.")
    return MaskSource(
        images=[image for part in parts for image in part[0]],
        masks=[mask for part in parts for mask in part[1]],
        names=[name for part in parts for name in part[2]],
        train_count=len(parts[0][0]),
        has_val=len(parts) > 1,
        train_text=shown_place(files[0], root),
        val_text=shown_place(files[1], root) if len(files) > 1 else "",
        class_names=next(iter(class_names), None),
        names_place=f"class_names in {files[0].name}",
        digest=" ".join(file_sha256(file) for file in files),
    )


def _read(
    file: Path, limit_bytes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[str], tuple[str, ...] | None]:
    """Images, masks, names of images, and class names or None."""
    try:
        headers = _headers(file)
        images, masks = headers.get("images"), headers.get("masks")
        if images is None or masks is None:
            raise NasError(f"{file}: needs the arrays images and masks, it has {', '.join(headers) or 'none'}.")
        for key, header, axes in (("images", images, "(N, H, W, 3)"), ("masks", masks, "(N, H, W)")):
            sides = axes.count(",") + 1
            is_rgb = key == "masks" or header.shape[-1:] == (3,)
            if header.dtype != np.uint8 or len(header.shape) != sides or not is_rgb or 0 in header.shape:
                raise NasError(f"{file}: {key} are {header.dtype} {header.shape}, must be uint8 {axes}, not empty.")
        if images.shape[0] != masks.shape[0]:
            raise NasError(f"{file}: has {images.shape[0]:,} images, but {masks.shape[0]:,} masks; give each its mask.")
        need = images.size_bytes + masks.size_bytes
        if need > limit_bytes:
            raise NasError(
                f"{file}: needs {need:,} bytes of memory, more than data.max_memory_bytes leaves ({limit_bytes:,}); "
                "raise it, or store the images as files."
            )
        with np.load(file, allow_pickle=False) as arrays:
            names = _texts(file, arrays, headers, "names") or [f"{file.stem}[{row}]" for row in range(images.shape[0])]
            if len(names) != images.shape[0]:
                raise NasError(f"{file}: has {images.shape[0]:,} images, but {len(names):,} names.")
            classes = _texts(file, arrays, headers, "class_names")
            checked = None if classes is None else checked_class_names(classes, f"{file}: class_names")
            return arrays["images"], arrays["masks"], names, checked
    except NasError:
        raise
    except Exception as error:  # of a damaged file zipfile, zlib and numpy raise whatever they run into
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NasError(f"{file}: cannot be read ({reason}); write it anew with numpy.savez.") from None


def _headers(file: Path) -> dict[str, _Header]:
    """Shape and type of each array, from their headers alone."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
            found[member.filename.removesuffix(".npy")] = _Header(tuple(shape), dtype)
    return found


def _texts(file: Path, arrays: Any, headers: dict[str, _Header], key: str) -> list[str] | None:
    """A list of texts, or None if there is none."""
    header = headers.get(key)
    if header is None:
        return None
    if header.dtype.kind != "U" or len(header.shape) != 1 or header.size_bytes > _MAX_NAMES_BYTES:
        raise NasError(f"{file}: {key} are {header.dtype} {header.shape}, must be a list of texts.")
    return [str(text) for text in arrays[key]]


def _by_role(root: Path) -> dict[str, list[Path]]:
    """npz files of ``root`` by the split that the last word of their name stands for."""
    roles: dict[str, list[Path]] = {}
    for file in sorted(root.glob("*.npz")):
        words = _WORD.findall(file.stem)
        role = split_role(words[-1]) if words else None
        if role in ("train", "val", "test"):
            roles.setdefault(role, []).append(file)
    return roles


def _given(root: Path, field: str, value: str) -> Path:
    path = root / Path(value).expanduser()
    if not os.path.isfile(path):
        raise NasError(f"data.{field}: {path} is no file; give an npz file, relative to data.root.")
    return path
