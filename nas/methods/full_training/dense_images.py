"""Images with boxes or masks of a full training, and their batches."""

from __future__ import annotations

from dataclasses import replace

import torch
from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.core.console import print_lines, progress_bar
from nas.data.dense import (
    DenseDataSettings,
    DetectionData,
    SegmentationData,
    load_detection_data,
    load_segmentation_data,
)
from nas.data.summary import ImageSummary
from nas.methods.full_training.config import TrainingPlan
from nas.methods.full_training.images import TrainingImages
from nas.training.batches import BatchSource
from nas.training.distributed import ProcessGroup
from nas.training.tasks import Detection, DetectionSource, Segmentation, SegmentationSource

DenseData = DetectionData | SegmentationData


def load_dense_images(plan: TrainingPlan, console: Console) -> TrainingImages:
    """Load images and labels of ``plan``; print what they are. Raises: NasError."""
    settings = plan.data
    if not isinstance(settings, DenseDataSettings):
        raise TypeError(f"data {settings.name} has one label per image.")
    load = load_detection_data if settings.task == "detection" else load_segmentation_data
    with progress_bar(console, f"images of {settings.name}") as progress:
        data: DenseData = load(settings, on_progress=progress)
    print_lines(console, *data.description.lines, *(f"warning: {text}" for text in data.description.warnings))
    print_lines(console, *(f"note: {notice}" for notice in data.notices))
    return _images(plan, data)


def _images(plan: TrainingPlan, data: DenseData) -> TrainingImages:
    return TrainingImages(
        summary=replace(ImageSummary.of(data), resolution_px=plan.side_px),
        dataset=data.description,
        make_source=lambda device, processes: _source(plan, data, device, processes),
        normalised=lambda mean, std: _images(plan, _with_statistics(data, mean, std)),
        is_streamed=False,
        make_task=lambda network, source, device: _task(plan, network, source, device),
        data=data,
    )


def _source(
    plan: TrainingPlan, data: DenseData, device: torch.device, processes: ProcessGroup
) -> DetectionSource | SegmentationSource:
    arguments = {"resolution_px": plan.side_px, "seed": plan.run.seed, "device": device, "processes": processes}
    if isinstance(data, DetectionData):
        return DetectionSource(data, plan.recipe, **arguments)  # type: ignore[arg-type]
    return SegmentationSource(data, plan.recipe, **arguments)  # type: ignore[arg-type]


def _task(plan: TrainingPlan, network: ArchSpec, source: BatchSource, device: torch.device) -> Detection | Segmentation:
    if isinstance(source, DetectionSource):
        return Detection(network, source, plan.recipe, device)
    if isinstance(source, SegmentationSource):
        return Segmentation(source, plan.recipe, device)
    raise TypeError(f"{type(source).__name__} has no boxes or masks.")


def _with_statistics(data: DenseData, mean: tuple[float, ...], std: tuple[float, ...]) -> DenseData:
    """``data`` normalised by other statistics, of 3 channels."""
    changes = {"mean": tuple(mean), "std": tuple(std)}
    return replace(data, **changes)  # type: ignore[arg-type]
