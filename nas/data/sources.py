"""Data source settings and checks of the files on disk; does not import torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from nas.arch.limits import MAX_RESOLUTION_PX
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import MAX_SEED, check_number
from nas.data.folder_layout import FolderSplits, find_splits, given_splits
from nas.data.packaged import PACKAGED_TABLES, existing_table
from nas.data.pixel_rules import FITS, Colour, background_colour, checked_value_range

# Folder of each torchvision data set below ``data.root``. Others come with a package or from class folders.
TORCHVISION_FOLDERS: Final = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "fashion_mnist": "FashionMNIST/raw",
}
KNOWN_DATA: Final = (*PACKAGED_TABLES, "imagefolder", *TORCHVISION_FOLDERS)


# Settings that version 0.1 lacks, with the value that equals what it did.
_ADDED: Final = {"train": None, "val": None, "fit": "crop", "background": "white", "value_range": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Settings of the train and validation images.

    ``root`` is relative to the working directory. ``train`` and ``val`` name the folders of class folders where the
    layout of an image folder does not, relative to ``root`` if it is set. ``val_fraction`` is the validation share of
    every class; unused by an image folder with a validation split of its own. ``resolution_px`` is the side of the
    square images in px (None: unchanged), ``proxy_resolution_px`` the default side of proxies. ``subset`` limits the
    *train* images, stratified by class: a share (float) or a maximum number (int). ``flip``: horizontal flips preserve
    the label (None: by data set, false for images of digits). ``max_memory_bytes`` limits the decoded images.

    Of image files: ``fit`` makes them square (``crop``, ``pad`` or ``stretch``). ``background`` is shown where they are
    transparent, and by ``pad``: a name, or red, green and blue from 0 to 255. ``value_range`` is black and white for
    grey images of more than 8 bits (None: by bit depth). ``allow_constant`` accepts train images of one colour.

    Raises: NasError for values out of range.
    """

    name: str = "digits"
    root: str | None = None
    train: str | None = None
    val: str | None = None
    val_fraction: float = 0.2
    resolution_px: int | None = None
    proxy_resolution_px: int = 16
    subset: float | int | None = None
    flip: bool | None = None
    seed: int = 0
    max_memory_bytes: int = 4_000_000_000
    fit: str = "crop"
    background: str | tuple[int, int, int] = "white"
    value_range: tuple[float, float] | None = None
    allow_constant: bool = False

    def __post_init__(self) -> None:
        if self.name not in KNOWN_DATA:
            raise unknown_choice("data.name", self.name, KNOWN_DATA)
        self._check_splits()
        check_number("data.val_fraction", self.val_fraction, low=0, high=1, open_low=True, open_high=True)
        check_number("data.resolution_px", self.resolution_px, low=4, high=MAX_RESOLUTION_PX, whole=True, optional=True)
        check_number("data.proxy_resolution_px", self.proxy_resolution_px, low=4, high=MAX_RESOLUTION_PX, whole=True)
        check_subset(self.subset)
        check_number("data.seed", self.seed, low=0, high=MAX_SEED, whole=True)
        check_number("data.max_memory_bytes", self.max_memory_bytes, low=1, whole=True)
        self._check_pixel_rules()

    def _check_pixel_rules(self) -> None:
        if self.fit not in FITS:
            raise unknown_choice("data.fit", self.fit, FITS)
        colour = background_colour(self.background)
        if not isinstance(self.background, str):  # a list, of a configuration
            object.__setattr__(self, "background", colour)
        object.__setattr__(self, "value_range", checked_value_range(self.value_range))
        given = next((field for field, default in _ADDED.items() if getattr(self, field) != default), None)
        if given and self.name != "imagefolder":
            raise NasError(
                f"data.{given} {quoted(getattr(self, given))}: is for image files, those of data=imagefolder; leave it "
                "out."
            )

    def _check_splits(self) -> None:
        given = next((field for field in ("train", "val") if getattr(self, field) is not None), None)
        if given and self.name != "imagefolder":
            raise NasError(f"data.{given} {quoted(getattr(self, given))}: is for data=imagefolder; leave it out.")
        if given == "val":
            raise NasError(f"data.val {quoted(self.val)}: needs data.train=FOLDER beside it.")

    @property
    def flips(self) -> bool:
        """Whether horizontal flips preserve the label."""
        return self.name not in PACKAGED_TABLES if self.flip is None else self.flip

    @property
    def background_colour(self) -> Colour:
        """Red, green and blue of ``background``."""
        return background_colour(self.background)

    def identity(self) -> dict[str, Any]:
        """Return the settings that change what networks see, by name.

        Those that an older version lacks are left out at the value that equals its behaviour.
        """
        fields = asdict(self)
        del fields["allow_constant"]
        return {name: value for name, value in fields.items() if name not in _ADDED or value != _ADDED[name]}


def check_subset(subset: object) -> None:
    """Check a limit of the train images: a share, a number or None. Raises: NasError."""
    share = isinstance(subset, float) and 0 < subset <= 1
    number = isinstance(subset, int) and not isinstance(subset, bool) and subset >= 1
    if not (subset is None or share or number):
        raise NasError(f"data.subset {quoted(subset)}: must be a share in (0, 1], a number of train images, or null.")


def check_data(settings: DataSettings) -> None:
    """Check that the files of ``settings`` exist and are laid out as expected.

    Raises: NasError naming the folder or file at fault.
    """
    if settings.name in PACKAGED_TABLES:
        existing_table(settings.name)
    elif settings.name == "imagefolder":
        folder_splits(settings)
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
    return existing_folder(settings.root, settings.name, example="/path/to/the/images", content="the images")


def existing_folder(root: str | None, name: str, *, example: str, content: str) -> Path:
    """Return ``data.root`` of the data set ``name`` as a path.

    ``example``: a value of the setting, ``content``: what is in the folder, for messages.

    Raises: NasError if it is not set, does not exist or is not a folder.
    """
    if not root:
        raise NasError(f"data.root: missing, {name} needs a folder; add data.root={example}.")
    path = Path(root).expanduser()
    if not path.exists():
        hint = f" (looked for {path.absolute()})" if not path.is_absolute() else ""
        raise NasError(f"data.root: {path} does not exist{hint}; set data.root to the folder of {content}.")
    if not path.is_dir():
        raise NasError(f"data.root: {path} is a file; set data.root to the folder of {content}.")
    return path


def folder_splits(settings: DataSettings) -> FolderSplits:
    """The splits of an image folder: as given, or found below the root.

    Raises: NasError as ``find_splits``.
    """
    if settings.train is None:
        return find_splits(existing_root(settings))
    val = None if settings.val is None else _split_folder(settings, "val", settings.val)
    return given_splits(_split_folder(settings, "train", settings.train), val)


def _split_folder(settings: DataSettings, field: str, given: str) -> Path:
    """The folder ``given`` as ``data.train`` or ``data.val``.

    It is relative to the root if that is set.
    """
    folder = Path(given).expanduser()
    if settings.root:
        folder = existing_root(settings) / folder
    if not folder.is_dir():
        fault = "is a file" if folder.exists() else "does not exist"
        raise NasError(
            f"data.{field}: {folder} {fault}; give the folder that holds the class folders of this split, relative to "
            "data.root if that is set."
        )
    return folder
