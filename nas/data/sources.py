"""Data source settings and checks of the files on disk; does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nas.arch.limits import MAX_RESOLUTION_PX
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import MAX_SEED, check_number

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
TRAIN_FOLDER: Final = "train"
VAL_FOLDERS: Final = ("val", "valid", "validation", "test")

# Folder of each torchvision data set below ``data.root``. Others come from scikit-learn or from class folders.
TORCHVISION_FOLDERS: Final = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "fashion_mnist": "FashionMNIST/raw",
}
KNOWN_DATA: Final = ("digits", "imagefolder", *TORCHVISION_FOLDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Settings of the train and validation images.

    ``root`` is relative to the working directory. ``val_fraction`` is the validation share of every class; unused by
    an image folder with a validation split of its own. ``resolution_px`` is the side of the square images in px (None:
    unchanged), ``proxy_resolution_px`` the default side of proxies. ``subset`` limits the *train* images, stratified
    by class: a share (float) or a maximum number (int). ``flip``: horizontal flips preserve the label (None: by data
    set, false for digits). ``max_memory_bytes`` limits the decoded images.

    Raises: NasError for values out of range.
    """

    name: str = "digits"
    root: str | None = None
    val_fraction: float = 0.2
    resolution_px: int | None = None
    proxy_resolution_px: int = 12
    subset: float | int | None = None
    flip: bool | None = None
    seed: int = 0
    max_memory_bytes: int = 4_000_000_000

    def __post_init__(self) -> None:
        if self.name not in KNOWN_DATA:
            raise unknown_choice("data.name", self.name, KNOWN_DATA)
        check_number("data.val_fraction", self.val_fraction, low=0, high=1, open_low=True, open_high=True)
        check_number("data.resolution_px", self.resolution_px, low=4, high=MAX_RESOLUTION_PX, whole=True, optional=True)
        check_number("data.proxy_resolution_px", self.proxy_resolution_px, low=4, high=MAX_RESOLUTION_PX, whole=True)
        share = isinstance(self.subset, float) and 0 < self.subset <= 1
        number = isinstance(self.subset, int) and not isinstance(self.subset, bool) and self.subset >= 1
        if not (self.subset is None or share or number):
            raise NasError(
                f"data.subset {quoted(self.subset)}: must be a share in (0, 1], a number of train images, or null."
            )
        check_number("data.seed", self.seed, low=0, high=MAX_SEED, whole=True)
        check_number("data.max_memory_bytes", self.max_memory_bytes, low=1, whole=True)

    @property
    def flips(self) -> bool:
        """Whether horizontal flips preserve the label."""
        return self.name != "digits" if self.flip is None else self.flip


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSplits:
    """Class folders of an image folder; ``val`` is None if ``train`` is to be split."""

    train: Path
    val: Path | None
    class_names: tuple[str, ...]


def check_data(settings: DataSettings) -> None:
    """Check that the files of ``settings`` exist and are laid out as expected.

    Raises: NasError naming the folder or file at fault.
    """
    if settings.name == "imagefolder":
        find_splits(existing_root(settings))
    elif settings.name in TORCHVISION_FOLDERS:
        folder = existing_root(settings) / TORCHVISION_FOLDERS[settings.name]
        if not folder.is_dir():
            raise NasError(
                f"data.root: {folder} does not exist; unpack {settings.name} there (nothing is downloaded), "
                f"or set data.root to the folder that contains {TORCHVISION_FOLDERS[settings.name]}."
            )


def existing_root(settings: DataSettings) -> Path:
    """Return ``settings.root`` as a path.

    Raises: NasError if it is not set, does not exist or is not a folder.
    """
    if not settings.root:
        raise NasError(f"data.root: missing, {settings.name} needs a folder; add data.root=/path/to/the/images.")
    root = Path(settings.root).expanduser()
    if not root.exists():
        hint = f" (looked for {root.absolute()})" if not root.is_absolute() else ""
        raise NasError(f"data.root: {root} does not exist{hint}; set data.root to the folder of the images.")
    if not root.is_dir():
        raise NasError(f"data.root: {root} is a file; set data.root to the folder of the images.")
    return root


def find_splits(root: Path) -> FolderSplits:
    """Find the class folders below ``root``.

    Layouts: ``root/{train,val|valid|validation|test}/<class>/*`` or ``root/<class>/*``.

    Raises: NasError for a split without class folders, an empty class, fewer than two classes, or a validation split
    with other classes.
    """
    train = root / TRAIN_FOLDER
    val = next((root / name for name in VAL_FOLDERS if (root / name).is_dir()), None)
    if not train.is_dir():
        if val is not None:
            raise NasError(f"data.root: {root} contains {val.name}/ but no {TRAIN_FOLDER}/; add the train split.")
        train = root
    train_names = _class_names(train)
    if len(train_names) < 2:
        raise NasError(f"data.root: {train} contains one class only, {train_names[0]}; a classifier needs two or more.")
    if val is not None:
        val_names = _class_names(val)
        _check_same(f"{val} has no folder for class", set(train_names) - set(val_names))
        _check_same(f"{train} has no folder for class", set(val_names) - set(train_names))
    return FolderSplits(train=train, val=val, class_names=train_names)


def images_in(folder: Path) -> Iterator[Path]:
    """Yield the image files below ``folder`` at any depth, without hidden files.

    The order is unspecified.
    """
    for path in folder.rglob("*"):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def _class_names(split: Path) -> tuple[str, ...]:
    folders = sorted(path for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        loose = next((path for path in sorted(split.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES), None)
        reason = f"images such as {loose.name} lie directly in it" if loose else "it contains no folders"
        raise NasError(
            f"data.root: {split} is unlabelled, {reason}; put the images of each class into a folder of its own."
        )
    for folder in folders:
        if next(images_in(folder), None) is None:
            raise NasError(
                f"data.root: class {folder} is empty; add images ({', '.join(sorted(IMAGE_SUFFIXES))}) or remove it."
            )
    return tuple(folder.name for folder in folders)


def _check_same(fault: str, classes: set[str]) -> None:
    if classes:
        names = ", ".join(sorted(classes)[:5]) + (" and more" if len(classes) > 5 else "")
        raise NasError(f"data.root: {fault} {names}; both splits must contain the same classes.")
