"""The training loop: settings, trainer, evaluation, checkpoints, augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.training.augmentation import normalise
    from nas.training.checkpoint import Checkpoint
    from nas.training.evaluation import memory_layout, normalization_statistics, pick_device
    from nas.training.oom import is_out_of_memory, release_memory
    from nas.training.results import EpochResult, OutOfMemoryError, TrainingError
    from nas.training.runtime import fast_training, seeded
    from nas.training.settings import TrainSettings
    from nas.training.trainer import train
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "checkpoint": ["Checkpoint"],
            "augmentation": ["normalise"],
            "evaluation": ["memory_layout", "normalization_statistics", "pick_device"],
            "oom": ["is_out_of_memory", "release_memory"],
            "results": ["EpochResult", "OutOfMemoryError", "TrainingError"],
            "runtime": ["fast_training", "seeded"],
            "settings": ["TrainSettings"],
            "trainer": ["train"],
        },
    )

__all__ = [
    "Checkpoint",
    "EpochResult",
    "OutOfMemoryError",
    "TrainSettings",
    "TrainingError",
    "fast_training",
    "is_out_of_memory",
    "memory_layout",
    "normalise",
    "normalization_statistics",
    "pick_device",
    "release_memory",
    "seeded",
    "train",
]
