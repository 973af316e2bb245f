"""The interface of accuracy estimators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.training.results import EpochResult

_SEED_STRIDE: Final = 1_000_003  # far above usual seeds, so that repeats share no seeds with other studies


class Estimate(NamedTuple):
    """Accuracy that a training of a network is expected to give, and standard error."""

    accuracy: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was found out about a network's accuracy, and what it cost.

    ``accuracy``: top-1 on the validation split, in [0, 1], of detection and segmentation the score of the task; None
    for a network that was scored and not trained. ``loss``: cross entropy on the validation split, in nats; None where
    it is unknown. ``scores``: of a ``Scorer``, by name. ``cpu_s``: CPU time of all threads, ``duration_s``: wall time.
    ``class_correct`` and ``class_images``: validation images, those classified correctly and all, by class in label
    order; both empty where they are unknown.

    Of a score that is no share of images: its ``standard_error``; ``class_scores``: that of each class in label order,
    None for a class that is not in the validation images, and ``class_errors`` theirs; ``constant_accuracy``: that of a
    constant predictor; ``metrics``: further figures by name.
    """

    accuracy: float | None
    cpu_s: float
    duration_s: float
    class_correct: tuple[int, ...] = ()
    class_images: tuple[int, ...] = ()
    loss: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    standard_error: float | None = None
    class_scores: tuple[float | None, ...] = ()
    class_errors: tuple[float | None, ...] = ()
    constant_accuracy: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentNetwork:
    """A trained network whose weights another one begins with.

    ``weights``: its state dict as the content of a safetensors file.
    """

    arch: ArchSpec
    weights: bytes = field(repr=False)


def ignore(_: str) -> None:
    """Drop a line for which there is no reader."""


def repeated_seed(seed: int, repeat: int) -> int:
    """Seed of a repetition, counted from 0, of what has ``seed`` in a study."""
    return seed + _SEED_STRIDE * repeat


def network_seed(arch: ArchSpec, seed: int, repeat: int = 0) -> int:
    """Seed of a network's weights and draws in a study with ``seed``.

    Not of the order in which networks are evaluated.
    """
    return repeated_seed(int(arch.arch_id[:8], 16) + seed, repeat) % 2**31


class Scorer(Protocol):
    """Scores networks without training them; picklable, as an ``Evaluator``.

    A score orders networks: the larger, the more accurate. What it is worth in accuracy is learned from the networks
    that a study trains.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores."""
        ...

    def prepare(self, progress: ProgressCallback | None = None, say: Callable[[str], object] = ignore) -> None:
        """Do once what scoring needs, such as training a supernet; idempotent.

        Called by the process that runs the study, before the first trial. What it gives is stored in a file that
        workers load; interrupted, it resumes. ``progress``: called with the steps done and in all. ``say`` prints a
        line for the user.
        """
        ...

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Scores of ``arch`` by ``names``, the larger the better.

        Raises: TrainingError for a network that it cannot score.
        """
        ...


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

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Score ``arch`` without training it. Raises: TrainingError."""
        ...

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int) -> None:
        """Delete the state of an evaluation whose result or failure is stored; idempotent."""
        ...
