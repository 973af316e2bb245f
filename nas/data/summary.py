"""Summary of a data set, for use where its images are not loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from nas.core.validation import check_number

if TYPE_CHECKING:
    from nas.data.dense import AnyDenseData
    from nas.data.images import ImageData
    from nas.data.streaming import ImageFiles

    _Labelled = ImageData | ImageFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """Properties of the images that networks and reports depend on.

    ``channels`` per image, ``resolution_px`` their side (0: they differ), ``train`` and ``val`` the numbers of images.
    ``class_names`` are in label order. Images are normalised by ``mean`` and ``std`` per channel of the train images,
    for pixels scaled to [0, 1]. These three are empty in the files of versions that did not store them.

    Raises: NasError for values out of range.
    """

    classes: int
    channels: int
    resolution_px: int
    train: int
    val: int
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for field in ("classes", "channels", "resolution_px", "train", "val"):
            check_number(field, getattr(self, field), low=0, whole=True)
        for name in ("class_names", "mean", "std"):  # YAML has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def input_facts(self) -> dict[str, Any]:
        """Class names and normalisation as plain data, for spec files and exports.

        Whoever uses a network needs them: the index of a logit is the position in ``class_names``.
        """
        names = {"class_names": list(self.class_names)} if self.class_names else {}
        return names | ({"normalisation": {"mean": list(self.mean), "std": list(self.std)}} if self.mean else {})

    @classmethod
    def of(cls, data: _Labelled | AnyDenseData) -> ImageSummary:
        """Summarise ``data``."""
        side_px = 0  # of images with boxes or masks, each of which has a size of its own
        train, val = getattr(data, "train", None), getattr(data, "val", None)
        if train is None or val is None:
            labelled = cast("_Labelled", data)
            train, val, side_px = labelled.train_labels, labelled.val_labels, labelled.resolution_px
        return cls(
            classes=data.classes,
            channels=data.channels,
            resolution_px=side_px,
            train=len(train),
            val=len(val),
            class_names=data.class_names,
            mean=data.mean,
            std=data.std,
        )

    def __str__(self) -> str:
        side = f", {self.resolution_px} px" if self.resolution_px else ""
        return f"{self.train} train and {self.val} validation images, {self.classes} classes{side}"
