"""One search per study: a file lock on this machine, a lease for all others."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import optuna
from rich.console import Console

from nas.core.errors import NasError
from nas.study.storage.lease import acquire_lease
from nas.study.storage.optuna_private import study_id

AcquireStudy = Callable[[optuna.Study], optuna.Study]


@contextmanager
def exclusive_ownership(folder: Path, console: Console, *, field: str = "study.name") -> Iterator[AcquireStudy]:
    """Hold the run's ``folder``, and the study too once it is known.

    Holding it twice is the same as once. ``field``: the setting that names the folder, for errors.

    With the study held no other search works on it, on whatever machine, so that its RUNNING trials are stale.
    Raises: NasError at once if another process holds the folder; in ``acquire_lease`` if another holds the study.
    """
    with _locked(folder, field), ExitStack() as leases:
        held: set[int] = set()

        def acquire(study: optuna.Study) -> optuna.Study:
            if study_id(study) not in held:
                leases.enter_context(acquire_lease(study, console))
                held.add(study_id(study))
            return study

        yield acquire


@contextmanager
def _locked(folder: Path, field: str) -> Iterator[None]:
    lock = folder / ".lock"
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError as error:
        raise NasError(f"runs_dir: cannot write to {folder}: {error.strerror}.") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NasError(f"another process is at work on {folder}: wait for it, or choose another {field}.") from None
        except OSError as error:
            raise NasError(
                f"runs_dir: cannot lock {lock}: {error.strerror}; choose a folder on another file system."
            ) from None
        try:
            yield
        finally:
            if list(folder.iterdir()) == [lock]:  # the search ended before it began
                lock.unlink()
                with suppress(OSError):  # another process created a file there
                    for parent in missing:
                        parent.rmdir()
