"""Images with boxes or masks of a full training, and their batches."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from nas.core.console import print_lines, progress_bar
from nas.data.dense import AnyDenseData, DenseDataSettings, load_dense_data
from nas.data.summary import ImageSummary
from nas.methods.full_training.config import TrainingPlan
from nas.methods.full_training.images import TrainingImages
from nas.training.tasks import check_train_images, make_dense_source, make_dense_task, small_object_note


def load_dense_images(plan: TrainingPlan, console: Console) -> TrainingImages:
    """Load images and labels of ``plan``; print what they are. Raises: NasError."""
    settings = plan.data
    if not isinstance(settings, DenseDataSettings):
        raise TypeError(f"data {settings.name} has one label per image.")
    with progress_bar(console, f"images of {settings.name}") as progress:
        data = load_dense_data(settings, on_progress=progress)
    print_lines(console, *data.description.lines, *(f"warning: {text}" for text in data.description.warnings))
    head = plan.network(classes=data.classes, in_channels=data.channels).head
    notes = [*data.notices, *filter(None, [small_object_note(data, head)])]
    print_lines(console, *(f"note: {note}" for note in notes))
    check_train_images(len(data.train))
    return _images(plan, data)


def _images(plan: TrainingPlan, data: AnyDenseData) -> TrainingImages:
    return TrainingImages(
        summary=replace(ImageSummary.of(data), resolution_px=plan.side_px),
        dataset=data.description,
        make_source=lambda device, processes: make_dense_source(
            data, plan.recipe, resolution_px=plan.side_px, seed=plan.run.seed, device=device, processes=processes
        ),
        normalised=lambda mean, std: _images(plan, _with_statistics(data, mean, std)),
        is_streamed=False,
        make_task=lambda network, source, device: make_dense_task(network, source, plan.recipe, device),
        data=data,
    )


def _with_statistics(data: AnyDenseData, mean: tuple[float, ...], std: tuple[float, ...]) -> AnyDenseData:
    """``data`` normalised by other statistics, of 3 channels."""
    changes = {"mean": tuple(mean), "std": tuple(std)}
    return replace(data, **changes)  # type: ignore[arg-type]
