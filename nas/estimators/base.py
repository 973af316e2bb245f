"""The interface of accuracy estimators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nas.arch.spec import ArchSpec
from nas.training.results import EpochResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """An estimate of a network's accuracy, and what it cost.

    ``accuracy``: top-1 on the validation split, in [0, 1]. ``cpu_s``: CPU time of all threads, ``duration_s``: wall
    time. ``class_correct`` and ``class_images``: validation images, those classified correctly and all, by class in
    label order; both empty where they are unknown.
    """

    accuracy: float
    cpu_s: float
    duration_s: float
    class_correct: tuple[int, ...] = ()
    class_images: tuple[int, ...] = ()


class Evaluator(Protocol):
    """An accuracy estimator, as engines and the trial loop use it.

    Picklable, so that it may run on another machine. ``weights_dir`` receives the weights that it writes, by network
    id (None: weights are not saved); ``checkpoints_dir`` contains the state of unfinished evaluations (None: they
    restart).
    """

    @property
    def weights_dir(self) -> Path | None: ...
    @property
    def checkpoints_dir(self) -> Path | None: ...

    def with_folders(self, *, weights_dir: Path | None, checkpoints_dir: Path | None) -> Evaluator:
        """Return the same evaluator with other folders, such as those of another machine."""
        ...

    def evaluate(self, arch: ArchSpec, *, repeat: int, on_epoch: Callable[[EpochResult], None] | None) -> Evaluation:
        """Estimate the accuracy of ``arch``.

        ``repeat`` numbers evaluations with different random seeds. ``on_epoch`` may raise to stop the evaluation.
        Raises: TrainingError for a network that it cannot score.
        """
        ...

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int) -> None:
        """Delete the state of an evaluation whose result or failure is stored; idempotent."""
        ...
