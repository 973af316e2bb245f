"""The dispatcher in Ray Tune's terms: searcher, scheduler, callback, trainable."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ray.tune import Callback, Trainable
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from nas.core.errors import NasError
from nas.core.version import __version__
from nas.engines.ray.dispatch import Dispatcher
from nas.engines.ray.training import SteppedTraining
from nas.estimators.base import Evaluator
from nas.study.trial_loop import Idle

_TASK: Final = "task"
_REPORT: Final = "report"
# Ray's messages: for an exception while a worker is set up, which ends with that exception, and for a killed one.
_UNBORN: Final = "error raised in its creation task"
_OUT_OF_MEMORY: Final = "low on memory"


class TuneTraining(Trainable):  # type: ignore[misc]  # Ray is not typed here
    """One training after the other on a worker; a step is an epoch, or the end.

    The ``evaluator`` comes once per worker, and with it the ``version`` of the driver, which must be this one's.
    """

    def setup(self, config: dict[str, Any], *, evaluator: Evaluator, version: str) -> None:
        """Begin the first training of this worker."""
        if version != __version__:
            raise NasError(f"a machine of the cluster has nas {__version__}, the driver has {version}.")
        self._evaluator = evaluator
        self._training = SteppedTraining(evaluator, config[_TASK])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go over to another training."""
        self._training.stop()
        self._training = SteppedTraining(self._evaluator, new_config[_TASK])
        return True

    def step(self) -> dict[str, Any]:
        """The next report.

        The scheduler ends a training: Tune would not show it one that says ``done``.
        """
        return {_REPORT: self._training.next()}

    def cleanup(self) -> None:
        """Give the training up."""
        self._training.stop()


class TuneSearcher(Searcher):  # type: ignore[misc]
    """Where Tune gets its trials from."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The configuration of one trial: its task."""
        found = self._dispatcher.ask(trial_id)
        if isinstance(found, Idle):
            return str(Searcher.FINISHED) if found is Idle.OVER else None
        return {_TASK: found}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has heard of it before."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the record."""


class TuneScheduler(FIFOScheduler):  # type: ignore[misc]
    """What Tune tells its trials' reports to."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    def on_trial_result(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> str:
        """Pass a report on; whether the trial ends with it."""
        over = self._dispatcher.report(trial.trial_id, result[_REPORT])
        return str(self.STOP if over else self.CONTINUE)

    def on_trial_error(self, tune_controller: object, trial: Trial) -> None:
        """Handle a worker that is gone, or that never started.

        Exceptions of a training do not come here, they are reports.
        """
        text = Path(trial.error_file).read_text(encoding="utf-8")
        if _UNBORN in text:
            self._dispatcher.unfit(text.strip().splitlines()[-1])
        else:
            reason = "its machine ran out of memory" if _OUT_OF_MEMORY in text else "its process or its machine died"
            self._dispatcher.lost(trial.trial_id, reason)


class ForgetReport(Callback):  # type: ignore[misc]
    """Removes weights from what Tune stores of each trial, once they are read.

    In memory and in files.
    """

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: object
    ) -> None:
        """Called by Tune after its scheduler."""
        result[_REPORT] = None
