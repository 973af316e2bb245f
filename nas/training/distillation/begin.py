"""Start of a distillation: the teacher loaded, its outputs cached or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from nas.training.batches import LabelledSource
from nas.training.distillation.loss import Distillation, Teacher
from nas.training.distillation.output_cache import CachedTeacher, cache_path
from nas.training.distillation.settings import DistillationSettings, TeacherChoice
from nas.training.distillation.teacher import load_teacher
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import amp_dtype, memory_layout
from nas.training.settings import TrainSettings


def begin_distillation(
    choice: TeacherChoice,
    settings: DistillationSettings,
    source: LabelledSource,
    training: TrainSettings,
    *,
    device: torch.device,
    weights_folder: Path,
    outputs_folder: Path,
    processes: ProcessGroup | None = None,
    say: Callable[[str], object] = print,
) -> Distillation:
    """Load the teacher of ``choice`` for a student that is trained on ``source``.

    Its outputs are computed once per image and kept in ``outputs_folder`` if the images are the same in every epoch,
    that is without flips, shifts, crops and mixup; otherwise for every batch. ``say`` gets a line on which it is.

    Raises: NasError as ``load_teacher``.
    """
    network = load_teacher(choice, source, weights_folder).to(device, memory_layout(training))
    teacher: Teacher = network
    count, classes = sum(source.train_class_images), len(source.class_names)
    if source.has_fixed_images and not (training.mixup or training.cutmix):
        pixels = [*source.identity(), source.resolution_px, device.type, str(amp_dtype(training, device))]
        path = cache_path(outputs_folder, network, pixels, rank=processes.rank if processes else 0)
        teacher = CachedTeacher(network, path, count=count, classes=classes, say=say)
        say(f"teacher {choice.name}: its outputs are computed once per image and kept in {path.name}")
    else:
        say(f"teacher {choice.name}: its outputs are computed in every epoch, as images are augmented")
    return Distillation(teacher, settings)
