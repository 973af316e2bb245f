"""The file of an export in int8: calibrated, with mixed precision, scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from rich.console import Console

from nas.core.console import progress_bar
from nas.core.errors import NasError
from nas.core.formatting import first_names, percent, plural
from nas.data.sources import DataSettings
from nas.exporters.check import FileScore, ImageAccuracy, noise_images
from nas.exporters.deployment.dense import ExportImages, noise_pixels
from nas.exporters.deployment.network import ExportedNetwork
from nas.exporters.deployment.plan import ExportPlan
from nas.exporters.formats import Format, ImageBatch, Run
from nas.exporters.graph import InferenceGraph
from nas.exporters.quantisation.comparison import (
    LabelledImages,
    PairedAccuracy,
    PairedFileScore,
    PairedScore,
    ScoredImages,
    correct_images_of,
)
from nas.exporters.quantisation.mixed import MixedInt8, write_mixed_int8

if TYPE_CHECKING:
    from nas.exporters.deployment.images import ValidationImages

CompareRuns = Callable[[Run, Run, ImageBatch], str]
_MOST_LAYERS: Final = 8  # that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedFile:
    """An int8 file and what is known of it.

    ``run``: runs it. ``float_layers``: layers that stay float32. ``accuracy``: the score of its task beside float32's,
    on all validation images; None without. ``texts``: sentences for the user.
    """

    files: tuple[Path, ...]
    run: Run
    float_layers: tuple[str, ...]
    accuracy: PairedScore | None
    texts: tuple[str, ...]

    @property
    def own_accuracy(self) -> ImageAccuracy | FileScore | None:
        """Accuracy of the file alone."""
        found = self.accuracy
        if isinstance(found, PairedAccuracy):
            return ImageAccuracy(correct=found.correct, images=found.images)
        return found.score if isinstance(found, PairedFileScore) else None


def check_int8_images(plan: ExportPlan) -> None:
    """Refuse int8 of trained weights without images. Raises: NasError."""
    if plan.weights is not None and plan.data is None:
        fitting = "imagefolder" if plan.arch.task == "classification" else plan.arch.task
        raise NasError(
            f"precision int8: is calibrated on train images, and there are none; add data= (data={fitting} "
            "data.root=photos), or choose precision=float32."
        )


def write_quantised(
    plan: ExportPlan,
    file_format: Format,
    network: ExportedNetwork,
    graph: InferenceGraph,
    path: Path,
    float_run: Run,
    validation: ValidationImages | ExportImages | None,
    compare_runs: CompareRuns,
    console: Console,
) -> QuantisedFile:
    """Write ``graph`` to ``path`` in int8, with the layers in float32 that need it.

    Random weights are calibrated on noise. ``float_run``: runs the network alone in float32. ``compare_runs``: says in
    a sentence how the latencies of the two compare, on a batch of images; empty if it cannot.

    Raises: NasError where int8 loses more accuracy than ``plan.tolerance``, whichever layers stay float32.
    """
    noise = noise_images(graph.input_shape, plan.seed)
    if network.weights is None or validation is None:
        files = file_format.int8_module().write_int8(graph, path, [noise])
        run = file_format.module().open_model(files[0], plan.threads)
        texts = ["int8 is calibrated on noise, which is good for measurements of latency alone"]
        return QuantisedFile(
            files=files,
            run=run,
            float_layers=(),
            accuracy=None,
            texts=(*texts, *filter(None, [_compared(plan, file_format, graph, float_run, run, noise, compare_runs)])),
        )
    calibration, selection = _quantisation_images(plan, network, validation)
    with progress_bar(console, "int8: what each block costs in accuracy") as progress:
        mixed = write_mixed_int8(
            graph,
            file_format,
            path,
            calibration=calibration,
            selection=selection,
            tolerance=plan.tolerance,
            threads=plan.threads,
            on_progress=progress,
        )
    run = file_format.module().open_model(mixed.files[0], plan.threads)
    accuracy = _validated(plan, graph, run, float_run, validation)
    texts = [_layers_text(mixed, len(calibration)), _accuracy_text(accuracy, plan.tolerance)]
    return QuantisedFile(
        files=mixed.files,
        run=run,
        float_layers=mixed.float_layers,
        accuracy=accuracy,
        texts=(*texts, *filter(None, [_compared(plan, file_format, graph, float_run, run, noise, compare_runs)])),
    )


def _quantisation_images(
    plan: ExportPlan, network: ExportedNetwork, validation: ValidationImages | ExportImages
) -> tuple[ImageBatch, LabelledImages | ScoredImages]:
    """Train images for the calibration, and to choose layers by."""
    if not isinstance(plan.data, DataSettings):
        return cast(ExportImages, validation).quantisation_images(plan.seed)
    from nas.exporters.quantisation.images import quantisation_images

    images = quantisation_images(plan.data, network, seed=plan.seed)
    return images.calibration, images.selection


def _validated(
    plan: ExportPlan, graph: InferenceGraph, run: Run, float_run: Run, validation: ValidationImages | ExportImages
) -> PairedScore:
    """Score of the file beside float32's, on all validation images."""
    if isinstance(validation, LabelledImages):
        found, of_float = (correct_images_of(one, validation, plan.batch) for one in (run, float_run))
        return PairedAccuracy.of(found, of_float)
    score = validation.score(run, plan.batch, graph.processing)
    return PairedFileScore(images=score.images, score=score, float_score=validation.score(float_run, plan.batch, None))


def _compared(
    plan: ExportPlan,
    file_format: Format,
    graph: InferenceGraph,
    float_run: Run,
    run: Run,
    noise: ImageBatch,
    compare_runs: CompareRuns,
) -> str:
    """How the latencies of float32 and of a file compare, in a sentence.

    With processing both are timed with it, on pixels.
    """
    if graph.processing is None:
        return compare_runs(float_run, run, noise)
    pixels, whole = noise_pixels(graph, plan.seed), file_format.module().open_graph(graph, plan.threads)
    return compare_runs(lambda _: whole(pixels), lambda _: run(pixels), noise)


def _layers_text(mixed: MixedInt8, calibrated: int) -> str:
    text, name = f"int8, calibrated on {calibrated} train images", mixed.int8.metric_name
    if not mixed.float_layers:
        return (
            f"{text}; all layers are int8, which changes {name} by {_change(mixed.int8)} on {mixed.int8.images:,} "
            "other train images"
        )
    names = first_names(mixed.float_layers, most=_MOST_LAYERS)
    layers = plural(len(mixed.float_layers), "layer") + (" stays" if len(mixed.float_layers) == 1 else " stay")
    return (
        f"{text}; {layers} float32 ({names}), chosen on other train images: everything in int8 changes {name} by "
        f"{_change(mixed.int8)} ({mixed.int8.images:,} images), this form by {_change(mixed.mixed)} "
        f"({mixed.mixed.images:,})"
    )


def _accuracy_text(accuracy: PairedScore, tolerance: float) -> str:
    before, after = percent(accuracy.accuracy + accuracy.loss), percent(accuracy.accuracy, accuracy.standard_error)
    text = (
        f"{accuracy.metric_name} on {accuracy.images:,} validation images: {after}, "
        f"{_change(accuracy)} against float32's {before}"
    )
    if accuracy.is_above(tolerance):
        text += f"; this is more than tolerance {tolerance:g}, which held on the train images: ship float32"
    return text


def _change(accuracy: PairedScore) -> str:
    """What int8 gains (+) or loses (-), in points of accuracy."""
    points = round(-100 * accuracy.loss, 2) or 0.0  # without the sign of a zero
    error = f" ± {100 * accuracy.loss_error:.2f}" if math.isfinite(accuracy.loss_error) else ""
    return f"{points:+.2f}{error} points"
