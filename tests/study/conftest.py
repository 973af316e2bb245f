"""Storages of all kinds, opened for a test and closed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas.study.patience import Patience
from nas.study.patient import PatientStorage
from nas.study.storage import open_storage


@pytest.fixture(params=["sqlite", "journal", "postgres"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nothing is kept yet: an SQLite file, a journal, a database of PostgreSQL."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres").url()
        return url
    return f"{request.param}:///{tmp_path / 'study'}"


@pytest.fixture
def opened() -> Iterator[Callable[..., PatientStorage]]:
    """``open_storage``, whose connections are closed when the test ends."""
    storages = []

    def opened_storage(url: str, patience: Patience | None = None) -> PatientStorage:
        storages.append(open_storage(url, *([patience] if patience else [])))
        return storages[-1]

    yield opened_storage
    for storage in storages:
        storage.close()
