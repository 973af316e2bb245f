"""Settings of augmentation and of loading files, validated without torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from nas.core.errors import NasError, quoted, unknown_choice
from nas.training.settings import TrainSettings

INTERPOLATIONS: Final = ("bilinear", "bicubic", "random")
ERASE_MODES: Final = ("const", "rand", "pixel")
_MAX_LOADER_WORKERS: Final = 256

_POLICIES: Final = ("v0", "v0r", "original", "originalr", "3a")
# Of whole numbers and others; long ones would overflow.
_NUMBER: Final = r"\d{1,6}(?:\.\d{1,6})?"
_WHOLE: Final = r"\d{1,6}"
# timm passes over a section that it does not know, and builds another augmentation.
_SECTIONS: Final = {
    "rand": {
        "m": ("m9", rf"m{_WHOLE}"),
        "mstd": ("mstd0.5", rf"mstd{_NUMBER}"),
        "mmax": ("mmax10", rf"mmax{_WHOLE}"),
        "n": ("n2", r"n[1-9]"),
        "p": ("p0.5", r"p(?:0(?:\.\d{1,6})?|1(?:\.0{1,6})?)"),
        "inc": ("inc1", r"inc[01]"),
        "t": ("tweights", r"t(?:weights|3a|3aw)"),
    },
    "augmix": {
        "m": ("m3", rf"m{_WHOLE}"),
        "mstd": ("mstd0.5", rf"mstd{_NUMBER}"),
        "w": ("w3", r"w[1-9]"),
        "d": ("d2", r"d[1-9]"),
        "a": ("a1", rf"a(?!0+(?:\.0+)?$){_NUMBER}"),
        "b": ("b0", r"b[01]"),
    },
    **{policy: {"mstd": ("mstd0.5", rf"mstd{_NUMBER}")} for policy in _POLICIES},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationSettings(TrainSettings):
    """Settings of a training on images that are decoded when they are needed.

    Those of ``TrainSettings``, and: ``crop_scale`` is the smallest share of the area of a random resized crop (None:
    the whole image as ``data.fit`` makes it square, moved by ``shift``). ``auto_augment`` is timm's notation of
    AutoAugment (``original``, ``v0``), RandAugment (``rand-m9-mstd0.5``) or AugMix (``augmix-m3-w3``).
    ``color_jitter`` is the largest change of brightness, contrast and saturation, as a share. ``random_erasing`` is the
    probability that a rectangle is erased, which ``erase_mode`` fills with the mean (``const``), a random colour
    (``rand``) or noise (``pixel``). ``interpolation`` is that of resizing; ``random`` draws bilinear or bicubic for
    each crop. ``zoom_out``, of detection, is the probability that an image is shown smaller, on a canvas (None: 0).

    ``stream`` decodes images when they are needed (None: if a setting asks for it, or memory cannot hold them).
    ``crop_pct`` is the share of the side of validation images that is kept, around their middle. ``loader_workers``
    processes decode and augment images, without influence on results (0: the training's own; None: as many as
    processor cores are free, at most 8).

    Raises: NasError naming the field.
    """

    group: ClassVar[str] = "recipe"

    stream: bool | None = None
    crop_scale: float | None = None
    auto_augment: str | None = None
    color_jitter: float = 0.0
    random_erasing: float = 0.0
    erase_mode: Literal["const", "rand", "pixel"] = "const"
    zoom_out: float | None = None
    interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"
    crop_pct: float = 1.0
    loader_workers: int | None = None

    def __post_init__(self) -> None:
        TrainSettings.__post_init__(self)  # super() does not work in a slotted dataclass
        if self.stream is not None and not isinstance(self.stream, bool):
            raise NasError(f"{self.group}.stream {quoted(self.stream)}: must be true, false or null.")
        self._check("crop_scale", low=0, high=1, open_low=True, optional=True)
        check_auto_augment(f"{self.group}.auto_augment", self.auto_augment)
        self._check("color_jitter", low=0, high=10)
        self._check("random_erasing", low=0, high=1)
        self._check("zoom_out", low=0, high=1, optional=True)
        for field, allowed in (("interpolation", INTERPOLATIONS), ("erase_mode", ERASE_MODES)):
            if getattr(self, field) not in allowed:
                raise unknown_choice(f"{self.group}.{field}", getattr(self, field), allowed)
        self._check("crop_pct", low=0.1, high=1)
        self._check("loader_workers", low=0, high=_MAX_LOADER_WORKERS, whole=True, optional=True)

    @property
    def random_changes(self) -> tuple[str, ...]:
        """Settings in use that change an image in every epoch, beside flips and shifts."""
        fields = ("crop_scale", "auto_augment", "color_jitter", "random_erasing")
        return tuple(name for name in fields if getattr(self, name))

    @property
    def streamed_only(self) -> tuple[str, ...]:
        """Settings in use that apply to images decoded when they are needed alone."""
        return (*self.random_changes, *(("crop_pct",) if self.crop_pct != 1 else ()))

    def is_streamed(self, *, fits_memory: Callable[[], bool]) -> bool:
        """Whether images are decoded when they are needed.

        ``fits_memory`` says whether all of them can be in memory. Raises: NasError if settings need what ``stream``
        forbids.
        """
        if self.stream is False and self.streamed_only:
            names = " and ".join(f"{self.group}.{name}" for name in self.streamed_only)
            raise NasError(f"{self.group}.stream false: {names} apply to streamed images; leave it or them out.")
        if self.stream is not None:
            return self.stream
        return bool(self.streamed_only) or not fits_memory()

    def identity(self) -> dict[str, Any]:
        """Return the settings that affect training results, by name."""
        fields = TrainSettings.identity(self)
        del fields["loader_workers"]
        if fields["zoom_out"] is None:  # which older trainings lack
            del fields["zoom_out"]
        return fields


def check_auto_augment(field: str, value: object) -> None:
    """Check that ``value`` is None or timm's notation of an automatic augmentation.

    Raises: NasError naming ``field`` and the part that is not known.
    """
    if value is None:
        return
    kind, *parts = value.split("-") if isinstance(value, str) else [""]
    if kind not in _SECTIONS:
        raise NasError(
            f"{field} {quoted(value)}: must be a policy in timm's notation, such as rand-m9-mstd0.5, or null; known "
            f"are {', '.join(_SECTIONS)}."
        )
    known = _SECTIONS[kind]
    names = [_section_name(part, known) for part in parts]
    for name, part in zip(names, parts, strict=True):
        if name is None:
            examples = ", ".join(example for example, _ in known.values())
            raise NasError(f"{field} {quoted(value)}: unknown part {part!r}; {kind} has parts like {examples}.")
        if names.count(name) > 1:
            raise NasError(f"{field} {quoted(value)}: part {name} is given twice.")


def _section_name(part: str, known: dict[str, tuple[str, str]]) -> str | None:
    return next((name for name, (_, pattern) in known.items() if re.fullmatch(pattern, part)), None)
