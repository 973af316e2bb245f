"""A proxy training on a cluster's worker, which pauses after every epoch.

It goes on when the driver says so.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from nas.estimators.base import Evaluation, Evaluator
from nas.study.trial_loop import TrainingStopped, TrialTask, evaluate_task, failure_reason
from nas.training.results import EpochResult


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingDone:
    """The report of a training that has ended.

    ``files``: what it would have written, by name, for the driver to write.
    """

    evaluation: Evaluation
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFailed:
    """A training ended with an exception; one line says which."""

    reason: str


Report = EpochResult | TrainingDone | TrainingFailed


class SteppedTraining:
    """The training of ``task`` in a thread of its own, epoch by epoch.

    Nothing runs between two calls of ``next``.
    """

    def __init__(self, evaluator: Evaluator, task: TrialTask) -> None:
        self._evaluator, self._task = evaluator, task
        self._reports: SimpleQueue[Report] = SimpleQueue()
        self._go_on = threading.Semaphore(0)
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def next(self) -> Report:
        """Train on, and report the next epoch or the end.

        Not to be called after the end.
        """
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go_on.release()
        return self._reports.get()

    def stop(self) -> None:
        """Give the training up where it pauses; nothing if it never began or has ended."""
        self._is_stopped = True
        self._go_on.release()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            report: Report = self._train()
        except TrainingStopped:
            return
        except Exception as error:  # whatever a network does to its training, the worker goes on
            report = TrainingFailed(reason=failure_reason(error))
        self._reports.put(report)

    def _train(self) -> TrainingDone:
        with TemporaryDirectory() as name:
            evaluation = evaluate_task(_here(self._evaluator, Path(name)), self._task, self._pause)
            files = {path.name: path.read_bytes() for path in Path(name).iterdir()}
        return TrainingDone(evaluation=evaluation, files=files)

    def _pause(self, result: EpochResult) -> None:
        self._reports.put(result)
        self._go_on.acquire()
        if self._is_stopped:
            raise TrainingStopped


def _here(evaluator: Evaluator, folder: Path) -> Evaluator:
    """``evaluator`` on this machine, where the run's folder may be missing.

    Weights, if they are written, go to ``folder``.

    Checkpoints are of use to another machine only in a folder that both see; without one there are none.
    """
    checkpoints_dir = evaluator.checkpoints_dir
    return evaluator.with_folders(
        weights_dir=evaluator.weights_dir and folder,
        checkpoints_dir=checkpoints_dir if checkpoints_dir and checkpoints_dir.parent.is_dir() else None,
    )
