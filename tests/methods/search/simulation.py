"""Discrete-event simulation of a cluster whose workers run the real search loop.

Training times come from a table; workers straggle, die and are replaced, and the trials of a dead worker are
recovered as an engine does it. The same seed gives the same study.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from optuna.trial import TrialState

from nas.arch.spec import ArchSpec
from nas.estimators.base import Evaluation
from nas.methods.search.ask_tell import SearchAskTell
from nas.study.recovery import MAX_RETRIES, recover_killed_trial, requeue_trial
from nas.study.trial_attributes import WORKER
from nas.study.trial_loop import Idle, TrialTask, finish_without_result
from nas.study.trial_record import Outcome, TrialRecord
from tests.study.fakes import epoch_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Size and failure rates of a simulated cluster.

    ``workers``: at the same time. ``spread``: standard deviation of the logarithm of a training's time.

    ``stragglers``: share of the trainings that take ``straggling`` times as long. ``deaths_per_hour``: of one worker;
    its trial is recovered and it is replaced ``detection_s`` later. A worker that has nothing to do asks again in a
    second, two, four, up to ``longest_wait_s``.
    """

    workers: int
    spread: float = 0.2
    stragglers: float = 0.05
    straggling: float = 5.0
    deaths_per_hour: float = 0.0
    detection_s: float = 30.0
    longest_wait_s: float = 60.0
    seed: int = 0


class Training(NamedTuple):
    """Accuracy after each epoch, in [0, 1], and seconds per epoch of a training."""

    accuracies: tuple[float, ...]
    epoch_s: float


class TimedRecord(NamedTuple):
    """Finished training, with the time since the start and the workers' total time.

    ``at_s``: in s; ``busy_s``: training time of all workers until then, in s.
    """

    at_s: float
    busy_s: float
    row: TrialRecord


@dataclass(slots=True, kw_only=True)
class _Worker:
    search: SearchAskTell
    dies_at_s: float
    life: Iterator[float] = field(init=False)
    number: int | None = None  # of the trial being trained


@dataclass(slots=True)
class Simulation:
    """Simulation of a study on a cluster.

    ``search``: the ask-and-tell interface of a new worker; ``training``: the training of a network.

    ``now_s``: the clock. ``found``: trained networks in the order of time. ``busy_s``: time of all trainings, also
    those that a death ended; ``deaths``: of workers.
    """

    cluster: Cluster
    search: Callable[[str], SearchAskTell]
    training: Callable[[ArchSpec], Training]
    now_s: float = 0.0
    found: list[TimedRecord] = field(default_factory=list)
    busy_s: float = 0.0
    deaths: int = 0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.cluster.seed)

    def run(self) -> None:
        """Run the workers until the study is complete."""
        for _ in range(self.cluster.workers):
            self._start()
        while self._events:
            self.now_s, _, event = heapq.heappop(self._events)
            event()

    def _start(self) -> None:
        search = self.search(f"worker-{next(self._order)}")
        rate = self.cluster.deaths_per_hour
        life_s = 3600 * self._rng.expovariate(rate) if rate else math.inf
        worker = _Worker(search=search, dies_at_s=self.now_s + life_s)
        worker.life = self._work(worker)
        self._at(self.now_s, lambda: self._advance(worker))

    def _advance(self, worker: _Worker) -> None:
        """Let ``worker`` act, and schedule its next action or its death."""
        if self.now_s >= worker.dies_at_s:
            self.deaths += 1
            self._at(self.now_s + self.cluster.detection_s, lambda: self._replace(worker))
            return
        pause_s = next(worker.life, None)
        if pause_s is not None:
            self._at(min(self.now_s + pause_s, worker.dies_at_s), lambda: self._advance(worker))

    def _replace(self, dead: _Worker) -> None:
        """Recover the trials of a dead worker, and start another."""
        study = dead.search.study
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs[WORKER] == dead.search.worker and trial.number == dead.number:
                recover_killed_trial(study, trial, max_retries=MAX_RETRIES)
            elif trial.user_attrs[WORKER] == dead.search.worker:  # parked until its duplicate is trained
                requeue_trial(study, trial)
        self._start()

    def _work(self, worker: _Worker) -> Iterator[float]:
        """Run a worker; yields its pauses in s."""
        wait_s = 1.0
        while (found := worker.search.ask()) is not Idle.OVER:
            if found is Idle.WAIT:
                yield wait_s
                wait_s = min(2 * wait_s, self.cluster.longest_wait_s)
                continue
            wait_s = 1.0
            if isinstance(found, TrialTask):
                worker.number = found.number
                yield from self._train(worker.search, found)
                worker.number = None

    def _train(self, search: SearchAskTell, task: TrialTask) -> Iterator[float]:
        """Run a training; yields the time of each epoch in s."""
        training = self.training(task.arch)
        epoch_s = training.epoch_s * self._rng.lognormvariate(0.0, self.cluster.spread)
        epoch_s *= self.cluster.straggling if self._rng.random() < self.cluster.stragglers else 1.0
        for epoch, accuracy in enumerate(training.accuracies, start=1):
            yield epoch_s
            self.busy_s += epoch_s
            reason = search.report_epoch(task, epoch_result(epoch, accuracy=accuracy))
            if reason:
                finish_without_result(search.study, task, Outcome.STOPPED, reason)
                return
        done = Evaluation(accuracy=training.accuracies[-1], cpu_s=0.0, duration_s=0.0)
        self.found.append(TimedRecord(self.now_s, self.busy_s, search.tell(task, done)))

    def _at(self, at_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), event))
