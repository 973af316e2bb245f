"""Train images for quantisation: of the calibration, and to choose layers by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from nas.core.errors import NasError
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

    Raises: NasError as ``ValidationImages``, and for fewer than two train images.
    """
    images = TrainImages(settings, network)
    steps = network.preprocessing
    calibrating, selecting = quantisation_rows(len(images), steps.channels * steps.resolution_px**2, seed)
    return QuantisationImages(
        calibration=np.concatenate(list(images.part(calibrating))), selection=images.part(selecting)
    )


def quantisation_rows(count: int, image_bytes: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw rows of ``count`` train images for the calibration, and for the selection.

    ``image_bytes``: of an image in memory. The numbers are those of ``quantisation_images``.

    Raises: NasError for fewer than two images.
    """
    if count < 2:
        raise NasError(
            f"precision int8: takes at least 2 train images, for the calibration and to choose layers by, and there "
            f"{'is' if count else 'are'} {count}; add images, or choose precision=float32."
        )
    order = np.random.default_rng(seed).permutation(count).tolist()
    cut = min(CALIBRATION_IMAGES, count // 2)
    return order[:cut], order[cut : cut + min(SELECTION_IMAGES, _MOST_BYTES // image_bytes)]
