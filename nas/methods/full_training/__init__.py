"""Full training of one network: its folder, files, and report; not a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.methods.full_training.config import TrainingPlan
    from nas.methods.full_training.results import (
        DenseScore,
        ScoredWeights,
        TrainedDenseNetwork,
        TrainedNetwork,
        read_results,
        result_lines,
    )
    from nas.methods.full_training.run_folder import RunFolder
    from nas.methods.full_training.session import run_training
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "run_folder": ["RunFolder"],
            "config": ["TrainingPlan"],
            "results": [
                "DenseScore",
                "ScoredWeights",
                "TrainedDenseNetwork",
                "TrainedNetwork",
                "read_results",
                "result_lines",
            ],
            "session": ["run_training"],
        },
    )

__all__ = [
    "DenseScore",
    "RunFolder",
    "ScoredWeights",
    "TrainedDenseNetwork",
    "TrainedNetwork",
    "TrainingPlan",
    "read_results",
    "result_lines",
    "run_training",
]
