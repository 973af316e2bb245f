"""The training loop: settings, trainer, evaluation, checkpoints, augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.training.augmentation import make_mixup, normalise
    from nas.training.augmentation_settings import AugmentationSettings
    from nas.training.batches import BatchSource, InMemorySource, LabelledSource, TrainBatch
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
        correct_images,
        make_grad_scaler,
        memory_layout,
        normalization_statistics,
        score_batches,
        score_logits,
        score_model,
    )
    from nas.training.exported_images import DenseExportImages
    from nas.training.oom import named_out_of_memory
    from nas.training.optimization import epoch_learning_rates, make_scheduler, steps_per_epoch
    from nas.training.recipe import RecipeSettings
    from nas.training.recipe_rules import check_task_recipe
    from nas.training.results import EpochResult, OutOfMemoryError, Score, TrainingError, TrainResult
    from nas.training.run import TrainingRun
    from nas.training.runtime import fast_training, pick_device, random_state, seeded, set_random_state
    from nas.training.settings import OPTIMIZERS, TrainSettings
    from nas.training.streaming.batches import StreamedSource
    from nas.training.streaming.parent_death import die_with_parent
    from nas.training.tasks.base import Task
    from nas.training.trainer import TrainingHooks, train, train_from, train_network
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "recipe_rules": ["check_task_recipe"],
            "augmentation": ["make_mixup", "normalise"],
            "augmentation_settings": ["AugmentationSettings"],
            "batches": ["BatchSource", "InMemorySource", "LabelledSource", "TrainBatch"],
            "checkpoint": ["Checkpoint"],
            "distributed": ["ProcessGroup", "check_single_process", "is_first_process", "join_process_group"],
            "evaluation": [
                "score_model",
                "augmented_batch",
                "autocast",
                "die_with_parent",
                "make_grad_scaler",
                "memory_layout",
                "normalization_statistics",
                "score_batches",
                "score_logits",
                "correct_images",
            ],
            "exported_images": ["DenseExportImages"],
            "oom": ["named_out_of_memory"],
            "optimization": ["epoch_learning_rates", "make_scheduler", "steps_per_epoch"],
            "recipe": ["RecipeSettings"],
            "results": ["EpochResult", "OutOfMemoryError", "Score", "TrainResult", "TrainingError"],
            "run": ["TrainingRun"],
            "runtime": ["fast_training", "pick_device", "random_state", "seeded", "set_random_state"],
            "settings": ["OPTIMIZERS", "TrainSettings"],
            "streaming.batches": ["StreamedSource"],
            "streaming.parent_death": ["die_with_parent"],
            "tasks.base": ["Task"],
            "trainer": ["TrainingHooks", "train", "train_from", "train_network"],
        },
    )

__all__ = [
    "check_task_recipe",
    "correct_images",
    "AugmentationSettings",
    "BatchSource",
    "Checkpoint",
    "DenseExportImages",
    "EpochResult",
    "InMemorySource",
    "LabelledSource",
    "OPTIMIZERS",
    "OutOfMemoryError",
    "ProcessGroup",
    "RecipeSettings",
    "Score",
    "StreamedSource",
    "Task",
    "TrainBatch",
    "TrainResult",
    "TrainSettings",
    "TrainingError",
    "TrainingHooks",
    "TrainingRun",
    "augmented_batch",
    "autocast",
    "check_single_process",
    "die_with_parent",
    "epoch_learning_rates",
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
    "score_batches",
    "score_logits",
    "score_model",
    "seeded",
    "set_random_state",
    "steps_per_epoch",
    "train",
    "train_from",
    "train_network",
]
