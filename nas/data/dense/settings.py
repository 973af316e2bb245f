"""Settings of images with boxes or masks; loads neither torch nor Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from nas.arch.limits import MAX_RESOLUTION_PX
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import MAX_SEED, check_number
from nas.data.pixel_rules import Colour, background_colour, checked_value_range
from nas.data.sources import DataSettings, check_subset, existing_folder

DenseTask = Literal["detection", "segmentation"]

DENSE_TASKS: Final[tuple[DenseTask, ...]] = ("detection", "segmentation")
LAYOUTS: Final[Mapping[DenseTask, tuple[str, ...]]] = {
    "detection": ("coco", "voc", "yolo"),
    "segmentation": ("masks", "npz"),
}
DENSE_FITS: Final = ("stretch", "pad")
VOID: Final = 255  # value of a mask's pixel that has no class
MAX_CLASSES: Final = 10_000
_MAX_NAME: Final = 200  # characters of a class name


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseDataSettings:
    """Settings of images with boxes (detection) or masks (segmentation).

    ``name``: the task. ``root``: folder of the data, relative to the working directory. ``layout``: ``coco``, ``voc``
    or ``yolo`` of boxes, ``masks`` or ``npz`` of masks; ``auto`` finds it. ``train`` and ``val`` name the splits where
    the layout does not (a folder, a list of names, a COCO file, an npz file), relative to ``root``; without a
    validation split ``val_fraction`` of the images is drawn by ``seed``. ``subset`` limits the train images: a share
    (float) or a maximum number (int). ``classes``: class names in label order (None: those of the data).

    ``repair``: correct faulty labels, and say so, rather than refuse them. ``allow_unlabelled``: an image without a
    label file shows no object. ``void``: a value of masks that means no class, beside 255. ``first_pixel``: number of
    the first pixel in VOC's coordinates, 1 or 0 (None: 0 if one is below 1 or a fraction, else 1, as published).

    ``fit`` makes images square for the network, ``stretch`` or ``pad`` with bars of ``background``; ``value_range`` is
    black and white for grey images of more than 8 bits. ``flip``: horizontal flips preserve the labels (None: true).
    ``resolution_px``: side of the square in px (None: that of the network), ``proxy_resolution_px`` that of proxies.
    ``max_memory_bytes``: images are kept decoded if they take no more, else each is decoded when it is used.

    Raises: NasError for values out of range.
    """

    name: str = "detection"
    root: str | None = None
    layout: str = "auto"
    train: str | None = None
    val: str | None = None
    val_fraction: float = 0.2
    subset: float | int | None = None
    seed: int = 0
    classes: tuple[str, ...] | None = None
    repair: bool = False
    allow_unlabelled: bool = False
    void: int | None = None
    first_pixel: int | None = None
    resolution_px: int | None = None
    proxy_resolution_px: int = 128
    fit: str = "stretch"
    background: str | tuple[int, int, int] = "gray"
    value_range: tuple[float, float] | None = None
    flip: bool | None = None
    max_memory_bytes: int = 4_000_000_000

    def __post_init__(self) -> None:
        if self.name not in DENSE_TASKS:
            raise unknown_choice("data.name", self.name, DENSE_TASKS)
        layouts = ("auto", *LAYOUTS[self.task])
        if self.layout not in layouts:
            raise unknown_choice("data.layout", self.layout, layouts)
        if self.val is not None and self.train is None:
            raise NasError(f"data.val {quoted(self.val)}: needs data.train beside it.")
        check_number("data.val_fraction", self.val_fraction, low=0, high=1, open_low=True, open_high=True)
        check_subset(self.subset)
        check_number("data.seed", self.seed, low=0, high=MAX_SEED, whole=True)
        check_number("data.void", self.void, low=0, high=VOID, whole=True, optional=True)
        check_number("data.first_pixel", self.first_pixel, low=0, high=1, whole=True, optional=True)
        check_number(
            "data.resolution_px", self.resolution_px, low=32, high=MAX_RESOLUTION_PX, whole=True, optional=True
        )
        check_number("data.proxy_resolution_px", self.proxy_resolution_px, low=32, high=MAX_RESOLUTION_PX, whole=True)
        check_number("data.max_memory_bytes", self.max_memory_bytes, low=1, whole=True)
        for field in ("repair", "allow_unlabelled"):
            if not isinstance(getattr(self, field), bool):
                raise NasError(f"data.{field} {quoted(getattr(self, field))}: must be true or false.")
        if self.fit not in DENSE_FITS:
            raise unknown_choice("data.fit", self.fit, DENSE_FITS)
        colour = background_colour(self.background)
        if not isinstance(self.background, str):  # a list, of a configuration
            object.__setattr__(self, "background", colour)
        object.__setattr__(self, "value_range", checked_value_range(self.value_range))
        if self.classes is not None:
            object.__setattr__(self, "classes", checked_class_names(self.classes, "data.classes"))

    @property
    def task(self) -> DenseTask:
        """The task, which is the name."""
        return "segmentation" if self.name == "segmentation" else "detection"

    @property
    def flips(self) -> bool:
        """Whether horizontal flips preserve the labels."""
        return self.flip is not False

    @property
    def background_colour(self) -> Colour:
        """Red, green and blue of ``background``."""
        return background_colour(self.background)

    @property
    def pixel_rules(self) -> DataSettings:
        """The rules by which an image file becomes RGB, as those of image folders."""
        return DataSettings(name="imagefolder", background=self.background, value_range=self.value_range)

    def identity(self) -> dict[str, Any]:
        """Return the settings that change what networks see, by name."""
        fields = asdict(self)
        del fields["max_memory_bytes"]
        return fields


def checked_class_names(names: object, where: str) -> tuple[str, ...]:
    """Return class names as a tuple.

    ``where``: setting or file, for messages. Raises: NasError unless they are distinct texts that are not empty.
    """
    if isinstance(names, str) or not isinstance(names, list | tuple) or not names or len(names) > MAX_CLASSES:
        raise NasError(f"{where} {quoted(names)}: must be a list of 1 to {MAX_CLASSES:,} class names.")
    shown = tuple(str(name).strip() if isinstance(name, str | int | float) else "" for name in names)
    wrong = next((name for name in shown if not 0 < len(name) <= _MAX_NAME or not name.isprintable()), None)
    if wrong is not None:
        raise NasError(f"{where}: class name {quoted(wrong)} must have 1 to {_MAX_NAME} printable characters.")
    if len(set(shown)) < len(shown):
        twice = next(name for row, name in enumerate(shown) if name in shown[:row])
        raise NasError(f"{where}: class name {quoted(twice)} occurs twice; class names must differ.")
    return shown


def dense_root(settings: DenseDataSettings) -> Path:
    """Return ``settings.root`` as a path.

    Raises: NasError if it is not set, does not exist or is not a folder.
    """
    return existing_folder(settings.root, settings.name, example="/path/to/the/data", content="images and labels")
