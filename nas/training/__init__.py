"""The training loop: settings, trainer, evaluation, checkpoints, augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.training.oom import is_out_of_memory, release_memory
    from nas.training.results import EpochResult, OutOfMemoryError
    from nas.training.settings import TrainSettings
    from nas.training.trainer import train
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "oom": ["is_out_of_memory", "release_memory"],
            "results": ["EpochResult", "OutOfMemoryError"],
            "settings": ["TrainSettings"],
            "trainer": ["train"],
        },
    )

__all__ = ["EpochResult", "OutOfMemoryError", "TrainSettings", "is_out_of_memory", "release_memory", "train"]
