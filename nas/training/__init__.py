"""The training loop: settings, trainer, evaluation, checkpoints, augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.training.augmentation import make_mixup, normalise
    from nas.training.checkpoint import Checkpoint
    from nas.training.distributed import (
        ProcessGroup,
        check_single_process,
        is_first_process,
        join_process_group,
    )
    from nas.training.evaluation import (
        augmented_batch,
        autocast,
        make_grad_scaler,
        memory_layout,
        normalization_statistics,
        pick_device,
        score_logits,
    )
    from nas.training.oom import named_out_of_memory
    from nas.training.results import EpochResult, OutOfMemoryError, Score, TrainingError
    from nas.training.runtime import fast_training, random_state, seeded, set_random_state
    from nas.training.settings import OPTIMIZERS, TrainSettings
    from nas.training.trainer import make_scheduler, steps_per_epoch, train
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "augmentation": ["make_mixup", "normalise"],
            "checkpoint": ["Checkpoint"],
            "distributed": ["ProcessGroup", "check_single_process", "is_first_process", "join_process_group"],
            "evaluation": [
                "augmented_batch",
                "autocast",
                "make_grad_scaler",
                "memory_layout",
                "normalization_statistics",
                "pick_device",
                "score_logits",
            ],
            "oom": ["named_out_of_memory"],
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
    "ProcessGroup",
    "Score",
    "TrainSettings",
    "TrainingError",
    "augmented_batch",
    "autocast",
    "check_single_process",
    "fast_training",
    "is_first_process",
    "join_process_group",
    "make_grad_scaler",
    "make_mixup",
    "make_scheduler",
    "memory_layout",
    "named_out_of_memory",
    "normalise",
    "normalization_statistics",
    "pick_device",
    "random_state",
    "score_logits",
    "seeded",
    "set_random_state",
    "steps_per_epoch",
    "train",
]
