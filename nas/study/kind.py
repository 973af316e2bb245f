"""What an engine has to know of the studies that it runs: a search, or a grid of compound scalings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import optuna
from optuna.trial import Trial
from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.study.candidates import Pricer
from nas.study.config import StudyPlan
from nas.study.measurement import Measurer
from nas.study.progress import TrialProgress
from nas.study.storage.ownership import AcquireStudy
from nas.study.trial_attributes import MeasuredLatency
from nas.study.trial_loop import AskTell

TrialTimer = Callable[[Trial, ArchSpec], MeasuredLatency]


class StudySession(Protocol):
    """A plan with everything heavy loaded; each worker process makes its own.

    ``pricer`` and ``measure`` answer workers that ask for a measurement (``latency.refine``); None where none does.
    ``evaluator`` does the trainings.
    """

    @property
    def plan(self) -> StudyPlan: ...
    @property
    def pricer(self) -> Pricer | None: ...
    @property
    def measure(self) -> Measurer | None: ...
    @property
    def evaluator(self) -> ProxyEvaluator: ...

    def find(self) -> optuna.Study | None:
        """The study if it was begun before by a plan that asks for the same. Raises: NasError for any other plan."""
        ...

    def begin(self, study: optuna.Study | None, console: Console, hold: AcquireStudy) -> optuna.Study:
        """Look ahead, say what to expect, and queue the first trials of ``study``, made if need be, and held."""
        ...

    def open(self) -> optuna.Study:
        """The study, created or resumed."""
        ...

    def total(self, study: optuna.Study) -> int:
        """Trials that ``study`` is to have, as far as one can say now."""
        ...

    def is_complete(self, study: optuna.Study) -> bool:
        """Whether ``study`` has all its trials."""
        ...

    def progress(self, study: optuna.Study, console: Console) -> TrialProgress:
        """What a person sees while ``study`` runs."""
        ...

    def tasks(self, study: optuna.Study, *, timed: TrialTimer | None = None, worker: str = "") -> AskTell:
        """What ``study`` wants trained; ``timed`` measures somewhere else than in this process.

        ``worker`` is written into the trials that are taken, so that those of a killed worker can be told.
        """
        ...


class StudyKind(NamedTuple):
    """A kind of study: how a plan is loaded, what is made of its trials in the end, and whether that was done before.

    Functions of a module each.
    """

    prepare: Callable[[Any, Console], StudySession]
    conclude: Callable[[Any, optuna.Study, Console], object]
    is_done: Callable[[Any], bool]
