"""A summary of the images of a study, which stands for them where they are not loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.data.images import ImageData


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """What a study's networks and reports have to know of its images; ``train`` and ``val`` count them."""

    classes: int
    channels: int
    resolution_px: int
    train: int
    val: int

    @classmethod
    def of(cls, data: ImageData) -> ImageSummary:
        """Those of ``data``."""
        return cls(
            classes=data.classes,
            channels=data.channels,
            resolution_px=data.resolution_px,
            train=len(data.train_labels),
            val=len(data.val_labels),
        )

    def __str__(self) -> str:
        return f"{self.train} train and {self.val} validation images, {self.classes} classes, {self.resolution_px} px"
