"""A study from its start to its results, whatever the engine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import optuna
from rich.console import Console

from nas.core.console import print_lines
from nas.core.streams import write_unbuffered
from nas.engines.local import trials
from nas.engines.ray import opening
from nas.study.config import EngineSettings, StudyPlan
from nas.study.kind import StudyKind
from nas.study.progress import TrialProgress
from nas.study.recovery import recover_trials
from nas.study.session import StudySession
from nas.study.storage.optuna_private import storage_of
from nas.study.storage.ownership import exclusive_ownership
from nas.study.trial_attributes import count_finished
from nas.training.distributed import check_single_process

_AMID_TRIALS: Final = (
    "trials under way are given back, then the results are written; again: leave at once",
    "leaving without results; the study keeps every finished trial",
)
_AMID_RESULTS: Final = 2 * (
    "what is not measured or fine-tuned yet is left out, and the results are written; again: leave at once",
)

RunTrials = Callable[[StudySession, StudyKind, optuna.Study, TrialProgress], None]


def run_study(plan: StudyPlan, kind: StudyKind, console: Console) -> bool:
    """Run ``plan`` to its end or an interrupt, and write results either way.

    Returns whether it was interrupted.

    Progress goes to ``console``, also that an interrupt was noticed, and what goes on nevertheless.
    Who interrupts twice is in a hurry: workers are killed and no results are written; the study has it all.

    Raises: NasError if torchrun started several processes.
    """
    check_single_process()
    with _interruptible(console) as interrupts, _opened(plan.engine) as run_trials:
        kind.check_sources(plan)
        session = kind.prepare(plan, console)
        with exclusive_ownership(plan.folder, console) as acquire:
            study = session.find()
            recovered = recover_trials(acquire(study), max_retries=plan.engine.max_retries) if study else 0
            if recovered:
                print_lines(console, f"queued again, left unfinished by a killed run: {recovered}")
            if study is None or not session.is_complete(study):
                study = session.start(study, console, acquire)
            try:
                interrupts.consequences = _AMID_TRIALS
                stopped = _run_trials(run_trials, session, kind, study, console)
            finally:
                if interrupts.count < 2:
                    interrupts.consequences = _AMID_RESULTS
                    kind.conclude(session, study, console)
        storage_of(study).close()  # not before the study is given back; others may be run in this process
    if stopped:
        print_lines(console, f"stopped; go on with: {plan.command}")
    return stopped or interrupts.count > 0


def _opened(settings: EngineSettings) -> AbstractContextManager[RunTrials]:
    """The engine of that name. Raises: NasError where what it needs is missing."""
    return opening.ray_engine(settings) if settings.name == "ray" else nullcontext(trials.run_local_trials)


def _run_trials(
    run_trials: RunTrials, session: StudySession, kind: StudyKind, study: optuna.Study, console: Console
) -> bool:
    """Run the trials that are left; whether the user stopped them."""
    done, total = count_finished(study), session.total(study)
    if done:
        print_lines(console, f"{done} of {total} trials are done already")
    try:
        session.prepare_scorer(study, console)
        with session.progress(study, console) as progress:
            run_trials(session, kind, study, progress)
    except KeyboardInterrupt:
        return True
    return False


@dataclass(slots=True)
class _Interrupts:
    """Interrupts so far; ``consequences``: what the first leads to, and the second."""

    count: int = 0
    consequences: tuple[str, ...] = ()


@contextmanager
def _interruptible(console: Console) -> Iterator[_Interrupts]:
    """Treat SIGTERM as Ctrl-C, so that schedulers stop a search cleanly too.

    Yields the interrupts. Only the main thread gets signals; in another one, as of a server that runs searches,
    nothing is treated.
    """
    interrupts = _Interrupts()

    def interrupt(_number: int, _frame: object) -> None:
        consequence = "".join(interrupts.consequences[interrupts.count : interrupts.count + 1])
        interrupts.count += 1
        if consequence and not console.quiet:
            write_unbuffered(console.file, f"interrupted: {consequence}")
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
