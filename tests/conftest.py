"""What tests of several rooms share: a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import Postgres, why_not


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One throw-away PostgreSQL server for all tests; they skip, saying why, where it cannot be started.

    ``postgres.url()`` makes a new database and gives its URL for ``study.storage``; ``postgres.stop()``, ``kill()``
    and ``start()`` take the server away for a while (start it again before the test ends, in a ``finally``).
    """
    reason = why_not()
    if reason:
        pytest.skip(reason)
    server = Postgres()
    try:
        yield server
    finally:
        server.remove()
