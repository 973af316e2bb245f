"""The file of an export in int8: calibrated, with mixed precision, scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from nas.core.console import progress_bar
from nas.core.errors import NasError
from nas.core.formatting import first_names, percent
from nas.data.sources import DataSettings
from nas.exporters.check import ImageAccuracy, noise_images
from nas.exporters.deployment.network import ExportedNetwork
from nas.exporters.deployment.plan import ExportPlan
from nas.exporters.formats import Format, ImageBatch, Run
from nas.exporters.graph import InferenceGraph
from nas.exporters.quantisation.comparison import PairedAccuracy, correct_images_of
from nas.exporters.quantisation.mixed import MixedInt8, write_mixed_int8

if TYPE_CHECKING:
    from nas.exporters.deployment.images import ValidationImages

CompareRuns = Callable[[Run, Run, ImageBatch], str]
_MOST_LAYERS: Final = 8  # that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedFile:
    """An int8 file and what is known of it.

    ``run``: runs it. ``float_layers``: layers that stay float32. ``accuracy``: beside float32's on all validation
    images; None without. ``texts``: sentences for the user.
    """

    files: tuple[Path, ...]
    run: Run
    float_layers: tuple[str, ...]
    accuracy: PairedAccuracy | None
    texts: tuple[str, ...]

    @property
    def image_accuracy(self) -> ImageAccuracy | None:
        """Accuracy of the file alone."""
        found = self.accuracy
        return None if found is None else ImageAccuracy(correct=found.correct, images=found.images)


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
    validation: ValidationImages | None,
    compare_runs: CompareRuns,
    console: Console,
) -> QuantisedFile:
    """Write ``graph`` to ``path`` in int8, with the layers in float32 that need it.

    Random weights are calibrated on noise. ``float_run``: runs the network in float32. ``compare_runs``: says in a
    sentence how the latencies of the two compare, on a batch of images; empty if it cannot.

    Raises: NasError where int8 loses more accuracy than ``plan.tolerance``, whichever layers stay float32.
    """
    noise = noise_images(graph.input_shape, plan.seed)
    if network.weights is None or not isinstance(plan.data, DataSettings) or validation is None:
        files = file_format.int8_module().write_int8(graph, path, [noise])
        run = file_format.module().open_model(files[0], plan.threads)
        texts = ["int8 is calibrated on noise, which is good for measurements of latency alone"]
        return QuantisedFile(
            files=files,
            run=run,
            float_layers=(),
            accuracy=None,
            texts=(*texts, *filter(None, [compare_runs(float_run, run, noise)])),
        )
    from nas.exporters.quantisation.images import quantisation_images

    images = quantisation_images(plan.data, network, seed=plan.seed)
    with progress_bar(console, "int8: what each block costs in accuracy") as progress:
        mixed = write_mixed_int8(
            graph,
            file_format,
            path,
            calibration=images.calibration,
            selection=images.selection,
            tolerance=plan.tolerance,
            threads=plan.threads,
            on_progress=progress,
        )
    run = file_format.module().open_model(mixed.files[0], plan.threads)
    accuracy = PairedAccuracy.of(
        correct_images_of(run, validation, plan.batch), correct_images_of(float_run, validation, plan.batch)
    )
    texts = [_layers_text(mixed, len(images.calibration)), _accuracy_text(accuracy, plan.tolerance)]
    return QuantisedFile(
        files=mixed.files,
        run=run,
        float_layers=mixed.float_layers,
        accuracy=accuracy,
        texts=(*texts, *filter(None, [compare_runs(float_run, run, noise)])),
    )


def _layers_text(mixed: MixedInt8, calibrated: int) -> str:
    text = f"int8, calibrated on {calibrated} train images"
    if not mixed.float_layers:
        return (
            f"{text}; all layers are int8, which changes accuracy by {_change(mixed.int8)} on {mixed.int8.images:,} "
            "other train images"
        )
    names = first_names(mixed.float_layers, most=_MOST_LAYERS)
    return (
        f"{text}; {len(mixed.float_layers)} layers stay float32 ({names}), chosen on other train images: everything in "
        f"int8 changes accuracy by {_change(mixed.int8)} ({mixed.int8.images:,} images), this form by "
        f"{_change(mixed.mixed)} ({mixed.mixed.images:,})"
    )


def _accuracy_text(accuracy: PairedAccuracy, tolerance: float) -> str:
    before = percent((accuracy.correct + accuracy.lost - accuracy.gained) / accuracy.images)
    text = (
        f"accuracy on {accuracy.images:,} validation images: {percent(accuracy.accuracy, accuracy.standard_error)}, "
        f"{_change(accuracy)} against float32's {before}"
    )
    if accuracy.is_above(tolerance):
        text += f"; this is more than tolerance {tolerance:g}, which held on the train images: ship float32"
    return text


def _change(accuracy: PairedAccuracy) -> str:
    """What int8 gains (+) or loses (-), in points of accuracy."""
    points = round(-100 * accuracy.loss, 2) or 0.0  # without the sign of a zero
    return f"{points:+.2f} ± {100 * accuracy.loss_error:.2f} points"
