"""Summary of a data set, for use where its images are not loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.core.validation import check_number

if TYPE_CHECKING:
    from nas.data.images import ImageData


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """Properties of the images that networks and reports depend on.

    ``channels`` per image, ``resolution_px`` their side, ``train`` and ``val`` the numbers of images.

    Raises: NasError for values out of range.
    """

    classes: int
    channels: int
    resolution_px: int
    train: int
    val: int

    def __post_init__(self) -> None:
        for field in ("classes", "channels", "resolution_px", "train", "val"):
            check_number(field, getattr(self, field), low=0, whole=True)

    @classmethod
    def of(cls, data: ImageData) -> ImageSummary:
        """Summarise ``data``."""
        return cls(
            classes=data.classes,
            channels=data.channels,
            resolution_px=data.resolution_px,
            train=len(data.train_labels),
            val=len(data.val_labels),
        )

    def __str__(self) -> str:
        return f"{self.train} train and {self.val} validation images, {self.classes} classes, {self.resolution_px} px"
