"""What tests of several rooms share: a PostgreSQL server, a finished grid, a busy machine, and Ctrl-C."""

from __future__ import annotations

import atexit
import gc
import io
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres_server import Postgres, why_not
from tests.process_guard import start_guard

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.study.storage.retry_policy import RetryPolicy
    from nas.study.storage.retrying_storage import RetryingStorage
    from tests.methods.scaling.tiny import Finished

# Drawing and running an example takes as long as the machine lets it.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script that runs tests in the background lets them, and whatever they start, ignore Ctrl-C, which some send.
    signal.signal(signal.SIGINT, signal.default_int_handler)


gc.disable()  # until what the tests import is there


def pytest_collection_finish() -> None:
    """Look for cyclic garbage rarely, and not among what has been imported.

    Torch and its companions leave a million objects; to go through them again and again took a quarter of the suite's
    CPU time, while they are imported and at exit, too.
    """
    load_migrations_once()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.enable()
    atexit.register(gc.freeze)


def load_migrations_once() -> None:
    """Let all databases that tests make share Optuna's migration scripts, which take 45 CPU-ms to load."""
    loaded = sys.modules.get("optuna.storages._rdb.storage")
    if loaded is not None:
        make = loaded._VersionManager._create_alembic_script
        scripts: list[object] = []

        def shared(manager: object) -> object:
            if not scripts:
                scripts.append(make(manager))
            return scripts[0]

        loaded._VersionManager._create_alembic_script = shared


SCRATCH = start_guard()  # whatever these tests start ends with them, even if they are killed


@pytest.fixture(scope="session")
def scratch() -> Path:
    """An empty folder with a short path that goes when the run ends, even if that is killed; servers live there."""
    return SCRATCH


@pytest.fixture(scope="session")
def postgres(scratch: Path) -> Iterator[Postgres]:
    """One throw-away PostgreSQL server for all tests; they skip, saying why, where it cannot be started.

    ``postgres.url()`` makes a new database and gives its URL for ``study.storage``; ``postgres.stop()``, ``kill()``
    and ``start()`` take the server away for a while (start it again before the test ends, in a ``finally``).
    """
    reason = why_not()
    if reason:
        pytest.skip(reason)
    server = Postgres(scratch)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def unsteady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is measured in as many rounds as asked for, however unsteady the machine, busy with other things, is."""
    monkeypatch.setattr("nas.latency.measure.timer.LONGEST", 1)


@pytest.fixture
def few_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices of the queue law are fitted from two starting points, a third of them; other tests look at the fit."""
    monkeypatch.setattr("nas.latency.predictors.queue_fit._START_RATIOS", (0.3, 2.0))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else begins with a study in the same moment, and nobody is waited for."""
    from nas.study.storage import lease

    monkeypatch.setattr(lease, "LeaseTiming", partial(lease.LeaseTiming, settle_s=0.0))


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small grid of real trainings; a test that changes its files takes a copy."""
    from nas import compound_grid
    from tests.methods.scaling.tiny import TINY, Finished, trained_above_chance

    folder = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.chdir(folder)
        trained_above_chance(patch)
        assert compound_grid.command([*TINY]) == 0
    return Finished(folder, said.getvalue())


@pytest.fixture(params=["sqlite", "journal", "postgres"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nothing is kept yet: an SQLite file, a journal, a database of PostgreSQL."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres").url()
        return url
    return f"{request.param}:///{tmp_path / 'study'}"


@pytest.fixture
def opened() -> Iterator[Callable[..., RetryingStorage]]:
    """``open_storage``, whose connections are closed when the test ends."""
    from nas.study.storage.opening import open_storage

    storages: list[RetryingStorage] = []

    def opened_storage(url: str, patience: RetryPolicy | None = None) -> RetryingStorage:
        storages.append(open_storage(url, *([patience] if patience else [])))
        return storages[-1]

    yield opened_storage
    for storage in storages:
        storage.close()


@pytest.fixture(scope="session")
def digits() -> ImageData:
    """Real handwritten digits at 16 px."""
    from nas.data.images import load_images
    from nas.data.sources import DataSettings

    return load_images(DataSettings(name="digits", resolution_px=16))
