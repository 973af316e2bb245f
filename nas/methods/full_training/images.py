"""Images of a full training: loaded, described, and as a source of batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.core.console import print_lines, progress_bar
from nas.core.errors import NasError
from nas.data.dense import AnyDenseData, DenseDescription
from nas.data.description import DatasetDescription
from nas.data.images import ImageData, load_images
from nas.data.listing import fits_memory
from nas.data.samples import with_samples
from nas.data.sources import DataSettings
from nas.data.streaming import DecodedImages, ImageFiles, list_images
from nas.data.summary import ImageSummary
from nas.methods.full_training.config import TrainingPlan
from nas.training.batches import BatchSource, InMemorySource
from nas.training.distributed import ProcessGroup
from nas.training.streaming.batches import StreamedSource
from nas.training.tasks import Detection, Segmentation

MakeSource = Callable[[torch.device, ProcessGroup], BatchSource]
MakeDenseTask = Callable[[ArchSpec, BatchSource, torch.device], Detection | Segmentation]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingImages:
    """The images of a training.

    ``make_source`` makes the source of its batches, for a device and processes. ``normalised`` returns the same images
    with another mean and deviation per channel. ``dataset``: None where nothing is known of them.
    ``is_streamed``: they are decoded when they are needed. Of detection and segmentation: ``make_task`` makes the task
    of a network, a source and a device, and ``data`` has the images with boxes or masks; None for classification.
    """

    summary: ImageSummary
    dataset: DatasetDescription | DenseDescription | None
    make_source: MakeSource
    normalised: Callable[[tuple[float, ...], tuple[float, ...]], TrainingImages]
    is_streamed: bool
    make_task: MakeDenseTask | None = None
    data: AnyDenseData | None = None


def load_training_images(plan: TrainingPlan, console: Console) -> TrainingImages:
    """Load the images of ``plan`` or list them for streaming; print what they are.

    Raises: NasError.
    """
    data: ImageData | ImageFiles
    plain = classified_data(plan)
    is_streamed = plan.recipe.is_streamed(fits_memory=lambda: fits_memory(plain, plan.side_px))
    with progress_bar(console, f"images of {plan.data.name}") as progress:
        if is_streamed and plain.name == "imagefolder":
            _check_side(plan)
            data = list_images(plain, plan.side_px, on_progress=progress)
        else:
            settings = replace(plain, resolution_px=plain.resolution_px or plan.side_px)
            data = load_images(settings, on_progress=progress).resized(plan.side_px)
    dataset = with_samples(data, plan.side_px)
    if dataset is not None:
        print_lines(console, *dataset.lines, *(f"warning: {text}" for text in dataset.warnings))
    print_lines(console, *(f"note: {notice}" for notice in data.notices))
    if is_streamed or not isinstance(data, ImageData):
        return _streamed(plan, data, dataset)
    return _in_memory(plan, data, dataset)


def classified_data(plan: TrainingPlan) -> DataSettings:
    """Settings of images with one label each."""
    if isinstance(plan.data, DataSettings):
        return plan.data
    raise TypeError(f"data {plan.data.name} has boxes or masks.")


def _check_side(plan: TrainingPlan) -> None:
    if plan.data.resolution_px not in (None, plan.side_px):
        raise NasError(
            f"data.resolution_px {plan.data.resolution_px}: streamed images are decoded at the side of the network, "
            f"{plan.side_px} px; leave it out, or set recipe.resolution_px."
        )


def _in_memory(plan: TrainingPlan, data: ImageData, dataset: DatasetDescription | None) -> TrainingImages:
    return TrainingImages(
        summary=ImageSummary.of(data),
        dataset=dataset,
        make_source=lambda device, processes: InMemorySource(
            data, plan.recipe, seed=plan.run.seed, device=device, processes=processes
        ),
        normalised=lambda mean, std: _in_memory(plan, replace(data, mean=mean, std=std), dataset),
        is_streamed=False,
    )


def _streamed(plan: TrainingPlan, data: ImageData | ImageFiles, dataset: DatasetDescription | None) -> TrainingImages:
    return TrainingImages(
        summary=ImageSummary.of(data),
        dataset=dataset,
        make_source=lambda device, processes: StreamedSource(
            DecodedImages(data) if isinstance(data, ImageData) else data,
            plan.recipe,
            seed=plan.run.seed,
            device=device,
            processes=processes,
        ),
        normalised=lambda mean, std: _streamed(plan, replace(data, mean=mean, std=std), dataset),
        is_streamed=True,
    )
