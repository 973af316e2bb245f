"""Trials on a Ray cluster: Ray Tune trains, this process asks and tells."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import optuna
import ray
from ray import tune

from nas.core.errors import NasError
from nas.core.version import __version__
from nas.engines.ray.dispatch import Dispatcher
from nas.engines.ray.tune import ForgetReport, TuneScheduler, TuneSearcher, TuneTraining
from nas.estimators.base import Evaluator
from nas.study.config import EngineSettings
from nas.study.kind import StudyKind
from nas.study.progress import TrialProgress
from nas.study.session import StudySession

_CONNECT_S: Final = 10.0


@contextmanager
def ray_cluster(
    settings: EngineSettings,
) -> Iterator[Callable[[StudySession, StudyKind, optuna.Study, TrialProgress], None]]:
    """A context whose value runs trials on a Ray cluster.

    The cluster is joined at once, so that a wrong address is reported before any work.

    Raises: NasError if there is no cluster at ``settings.address``.
    """
    with nullcontext() if settings.address is None else _ray(settings.address):
        yield run_ray_trials


def run_ray_trials(session: StudySession, _: StudyKind, study: optuna.Study, progress: TrialProgress) -> None:
    """Run the remaining trials of ``study``.

    Raises: KeyboardInterrupt when the user stops them; NasError.
    """
    if session.is_complete(study):
        return  # not worth starting Ray for
    settings = session.plan.engine
    dispatcher = Dispatcher(
        session.ask_tell(study),
        session.evaluator,
        max_retries=settings.max_retries,
        most=lambda: settings.workers or max(1, _room(settings)),
        on_trial=progress.on_trial,
        say=progress.say,
    )
    with nullcontext() if ray.is_initialized() else _ray("local"):
        _say_room(settings, progress.say)
        try:
            _train(dispatcher, session.evaluator, settings)
        finally:
            dispatcher.release()
    if dispatcher.error is not None:
        raise dispatcher.error


def _train(dispatcher: Dispatcher, evaluator: Evaluator, settings: EngineSettings) -> None:
    """Let Tune ask the dispatcher for trainings until there are none."""
    checkpoints_dir = evaluator.checkpoints_dir and evaluator.checkpoints_dir.absolute()
    sent = evaluator.with_folders(weights_dir=evaluator.weights_dir, checkpoints_dir=checkpoints_dir)
    trainable = tune.with_parameters(TuneTraining, evaluator=sent, version=__version__)
    with _scratch() as folder:
        try:
            # Not by a Tuner, which would write the searcher, and with it the study, into a file for Tuner.restore.
            tune.run(
                trainable,
                name="nas",
                resources_per_trial={"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial},
                search_alg=TuneSearcher(dispatcher),
                scheduler=TuneScheduler(dispatcher),
                callbacks=[ForgetReport()],
                num_samples=-1,  # the searcher says when it is over
                max_failures=0,  # the study queues again what a worker lost
                raise_on_failed_trial=False,
                reuse_actors=True,
                storage_path=str(folder),
                trial_name_creator=_name,
                trial_dirname_creator=_name,
                verbose=0,
            )
        except (tune.TuneError, ray.exceptions.RayError) as error:
            raise NasError(f"Ray stopped: {str(error).strip().splitlines()[-1]}") from error


def _name(trial: tune.experiment.Trial) -> str:
    return str(trial.trial_id)


def _say_room(settings: EngineSettings, say: Callable[[str], None]) -> None:
    """Print how many trials the cluster has room for.

    Raises: NasError if there is none and this machine is the whole cluster.
    """
    room = _room(settings)
    wanted = f"engine.cpus_per_trial {settings.cpus_per_trial:g}, engine.gpus_per_trial {settings.gpus_per_trial:g}"
    if room:
        say(f"Ray: trainings at a time: {min(room, settings.workers or room)}")
    elif settings.address is None:
        raise NasError(f"{wanted}: this machine has not as many; ask for less, or for a cluster by engine.address.")
    else:
        say(f"{wanted}: no machine of the cluster has as many; waiting for one to join")


def _room(settings: EngineSettings) -> int:
    """The number of trials that the cluster can run at a time when idle."""
    wanted = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus_per_trial}
    needed = {name: amount for name, amount in wanted.items() if amount > 0}
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # A millionth more: ten times 0.1 CPU are one.
    return sum(min(int(node.get(name, 0) / amount + 1e-6) for name, amount in needed.items()) for node in alive)


@contextmanager
def _ray(address: str) -> Iterator[None]:
    """A context in which this process is a driver of the cluster at ``address``.

    ``local`` starts a cluster of its own.
    """
    _check_answer(address)
    terminate = signal.getsignal(signal.SIGTERM)
    with _scratch() if address == "local" else nullcontext() as folder:
        own = {"include_dashboard": False, "_temp_dir": str(folder)} if folder else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL", **own)
        except Exception as error:  # of several kinds; each means the same to the user
            raise _no_cluster(address, error) from None
        finally:
            signal.signal(signal.SIGTERM, terminate)  # Ray puts a handler of its own there
        try:
            yield
        finally:
            ray.shutdown()


def _check_answer(address: str) -> None:
    """Ray itself would wait for minutes for a port where nobody answers."""
    host, separator, port = address.rpartition(":")
    if separator:
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        except OSError as error:
            raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> NasError:
    text = " ".join(str(error).split())
    return NasError(
        f"engine.address {address!r}: no Ray cluster that this machine is part of ({text}). Start one with "
        "ray start --head, join it with ray start --address=HOST:6379, or leave engine.address out."
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder with a short path for what Ray writes.

    Paths of sockets are limited to 107 characters.
    """
    folder = Path(mkdtemp(prefix="nas-ray-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
