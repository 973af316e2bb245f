"""Exports of detectors and segmenters: images and post-processing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from nas.arch.heads.task_scores import METRIC_NAMES
from nas.core.errors import NasError
from nas.core.formatting import percent
from nas.exporters.check import FileScore, run_in_batches
from nas.exporters.deployment.network import ExportedNetwork
from nas.exporters.deployment.plan import AUTO, ExportPlan
from nas.exporters.formats import Format, ImageBatch, Run, outputs_of
from nas.exporters.graph import InferenceGraph
from nas.exporters.processing import Processing, dense_processing, torch_outputs
from nas.exporters.quantisation.comparison import ScoredImages

_CLASSIFICATION: Final = "classification"
_LEAST_SCORE: Final = 0.01  # of a box that is compared
_CLOSE: Final = 1e-3  # of boxes, as shares of the image, and of scores
_LEAST_SAME: Final = 0.99  # of boxes, or of pixels


class ExportImages(Protocol):
    """Images with boxes or masks, prepared as in the training of a network."""

    @property
    def name(self) -> str:
        """Name of the data."""

    def sample(self, count: int) -> ImageBatch:
        """Return ``count`` validation images, evenly spaced; all, if there are fewer."""

    def pixel_sample(self, count: int) -> npt.NDArray[np.uint8]:
        """Return the same as pixels, uint8 (N, H, W, C), before normalisation."""

    def quantisation_images(self, seed: int) -> tuple[ImageBatch, ScoredImages]:
        """Draw different train images for the calibration and to choose layers by.

        As many as ``nas.exporters.quantisation.quantisation_images``.
        """

    def score(self, run: Run, batch: int, processing: Processing | None) -> FileScore:
        """Score a file on all validation images, which has ``processing`` inside."""


OpenImages = Callable[[ExportPlan, ExportedNetwork], ExportImages]


def no_images(plan: ExportPlan, network: ExportedNetwork) -> ExportImages:
    """Refuse images with boxes or masks. Raises: NasError."""
    name = "" if plan.data is None else plan.data.name
    raise NasError(f"data {name}: this export cannot read images for {network.arch.task}; leave data out.")


def takes_pixels(plan: ExportPlan, file_format: Format, network: ExportedNetwork) -> bool:
    """Whether normalisation and post-processing are in the file.

    They are in those of detectors and segmenters, where the format has room. OpenVINO's quantiser takes the
    network alone.
    """
    has_room = file_format.has_processing and (plan.precision == "float32" or file_format.name == "onnx")
    return network.arch.task != _CLASSIFICATION and plan.processing == AUTO and has_room


def file_processing(plan: ExportPlan, file_format: Format, network: ExportedNetwork) -> Processing | None:
    """What the file has before and after the network; None for nothing."""
    if not takes_pixels(plan, file_format, network):
        return None
    steps = network.preprocessing
    return dense_processing(network.arch, steps.mean, steps.std)


def processing_difference(
    run: Run, raw: Callable[[ImageBatch], object], graph: InferenceGraph, pixels: npt.NDArray[np.uint8]
) -> str:
    """Compare what a file with processing gives with torch's, in a sentence.

    ``run``: the file. ``raw``: the network alone, in torch. ``pixels``: uint8 (N, H, W, C).

    Raises: NasError where less than 99% of boxes, or of pixels, are the same.
    """
    processing = graph.processing
    assert processing is not None
    expected = torch_outputs(graph.spec, processing, raw(processing.normalised(pixels)))
    found = outputs_of(run_in_batches(run, pixels, graph.batch))
    if processing.default_boxes is None:
        same, total, what = int((found[0] == expected[0]).sum()), expected[0].size, "pixels have the same class"
    else:
        same, total, what = *_same_boxes(found, expected), "boxes are the same"
    if same < _LEAST_SAME * total:
        raise NasError(
            f"processing auto: of {total:,} only {same:,} {what} as with torch's post-processing; nothing was written. "
            "processing=none leaves it out of the file."
        )
    return f"post-processing in the file: {same:,} of {total:,} {what} as torch's"


def _same_boxes(
    found: tuple[npt.NDArray[np.float32], ...], expected: tuple[npt.NDArray[np.float32], ...]
) -> tuple[int, int]:
    """Boxes of ``expected`` that are among those of ``found``, and their number."""
    same = total = 0
    for boxes, scores, labels, *others in zip(*expected, *found, strict=True):
        rows = scores > (_LEAST_SCORE if scores.max() > _LEAST_SCORE else 0)
        near = (
            (np.abs(boxes[rows][:, None] - others[0][None]).max(-1) < _CLOSE)
            & (np.abs(scores[rows][:, None] - others[1][None]) < _CLOSE)
            & (labels[rows][:, None] == others[2][None])
        )
        same, total = same + int(near.any(1).sum()), total + int(rows.sum())
    return same, total


def task_score_text(score: FileScore, data: str) -> str:
    """The score through a file in a sentence."""
    others = ", ".join(
        f"{METRIC_NAMES[key]} {percent(score.metrics[key])}"
        for key in ("map50", "map75", "pixel_accuracy")
        if key in score.metrics
    )
    value = percent(score.accuracy, score.standard_error)
    remark = f" ({others})" if others else ""
    return f"{score.metric_name} through the file: {value} on the {score.images:,} validation images of {data}{remark}"


def noise_pixels(graph: InferenceGraph, seed: int, count: int | None = None) -> npt.NDArray[np.uint8]:
    """Return random pixels, uint8 (N, H, W, C)."""
    batch, channels, height, width = graph.input_shape
    shape = (count or batch, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
