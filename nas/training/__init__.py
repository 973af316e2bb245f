"""The training loop: settings, trainer, evaluation, checkpoints, augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.training.augmentation import make_mixup, normalise
    from nas.training.checkpoint import Checkpoint
    from nas.training.evaluation import (
        amp_dtype,
        augmented_images,
        autocast,
        memory_layout,
        normalization_statistics,
        pick_device,
    )
    from nas.training.oom import is_out_of_memory, release_memory
    from nas.training.results import EpochResult, OutOfMemoryError, Score, TrainingError
    from nas.training.runtime import fast_training, random_state, seeded, set_random_state
    from nas.training.settings import OPTIMIZERS, TrainSettings
    from nas.training.trainer import make_scheduler, steps_per_epoch, train
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "checkpoint": ["Checkpoint"],
            "augmentation": ["make_mixup", "normalise"],
            "evaluation": [
                "amp_dtype",
                "augmented_images",
                "autocast",
                "memory_layout",
                "normalization_statistics",
                "pick_device",
            ],
            "oom": ["is_out_of_memory", "release_memory"],
            "results": ["EpochResult", "OutOfMemoryError", "Score", "TrainingError"],
            "runtime": ["fast_training", "random_state", "seeded", "set_random_state"],
            "settings": ["OPTIMIZERS", "TrainSettings"],
            "trainer": ["make_scheduler", "steps_per_epoch", "train"],
        },
    )

__all__ = [
    "Checkpoint",
    "EpochResult",
    "OPTIMIZERS",
    "OutOfMemoryError",
    "Score",
    "TrainSettings",
    "TrainingError",
    "amp_dtype",
    "augmented_images",
    "autocast",
    "fast_training",
    "is_out_of_memory",
    "make_mixup",
    "make_scheduler",
    "memory_layout",
    "normalise",
    "normalization_statistics",
    "pick_device",
    "random_state",
    "release_memory",
    "seeded",
    "set_random_state",
    "steps_per_epoch",
    "train",
]
