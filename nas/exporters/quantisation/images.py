"""Train images for quantisation: of the calibration, and to choose layers by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.data.sources import DataSettings
from nas.exporters.deployment.images import PreparedImages, TrainImages
from nas.exporters.deployment.network import ExportedNetwork
from nas.exporters.formats import ImageBatch

CALIBRATION_IMAGES: Final = 128
SELECTION_IMAGES: Final = 4000
_MOST_BYTES: Final = 400_000_000  # of selection images in memory: 2,600 of 224 px


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantisationImages:
    """Different train images of a data set.

    ``calibration``: normalised, float32 (N, C, H, W). ``selection``: by which layers are chosen. Validation images are
    in neither, so that these can report the accuracy.
    """

    calibration: ImageBatch
    selection: PreparedImages


def quantisation_images(settings: DataSettings, network: ExportedNetwork, *, seed: int = 0) -> QuantisationImages:
    """Draw 128 train images for the calibration, and up to 4,000 others.

    Of fewer than 256 images, half are for the calibration.

    Raises: NasError as ``ValidationImages``.
    """
    images = TrainImages(settings, network)
    order = np.random.default_rng(seed).permutation(len(images))
    cut = min(CALIBRATION_IMAGES, max(1, len(order) // 2))
    calibration = np.concatenate(list(images.part(order[:cut].tolist())))
    most = min(SELECTION_IMAGES, _MOST_BYTES // calibration[0].size)
    return QuantisationImages(calibration=calibration, selection=images.part(order[cut : cut + most].tolist()))
