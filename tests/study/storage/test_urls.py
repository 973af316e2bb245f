"""What may stand in ``study.storage``."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.study.storage.urls import check_url_file, checked_url, url_file, url_proxy


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("sqlite:///runs/optuna.db", "sqlite:///runs/optuna.db"),
        ("journal:////tmp/x.journal", "journal:////tmp/x.journal"),
        ("postgresql://u:p@host/db", "postgresql+psycopg://u:p@host/db"),
        ("postgres://u:p@host:5433/db?sslmode=require", "postgresql+psycopg://u:p@host:5433/db?sslmode=require"),
        ("postgresql+psycopg2://u:p@host/db", "postgresql+psycopg2://u:p@host/db"),
        ("mysql://u:p@host/db", "mysql+pymysql://u:p@host/db"),
        ("grpc://host:13000", "grpc://host:13000"),
    ],
)
def test_every_kind_of_storage_has_a_url(url: str, meant: str) -> None:
    assert checked_url(url) == meant


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("optuna.db", r"'optuna\.db': must be one of sqlite:///FILE, journal:///FILE, postgresql://"),
        ("redis://host/0", r"must be one of .*grpc://HOST:PORT\.$"),
        ("oracle://u:p@host/db", r"must be one of .*grpc://HOST:PORT\.$"),
        ("mssql://u:p@host/db", r"must be one of .*grpc://HOST:PORT\.$"),
        ("postgre://u:p@host/db", r"must be one of .* Did you mean 'postgres'\?"),
        ("sqlite://", r"must have the form sqlite:///FILE\.$"),
        ("sqlite:///:memory:", r"must have the form sqlite:///FILE\.$"),
        ("journal://x.journal", r"must have the form journal:///FILE\.$"),
        ("postgresql://u:p@host", r"must have the form postgresql://USER:PASSWORD@HOST/DATABASE\.$"),
        ("grpc://host", r"must have the form grpc://HOST:PORT\.$"),
    ],
)
def test_a_url_that_is_no_storages_is_answered_with_what_is_allowed(url: str, message: str) -> None:
    with pytest.raises(NasError, match=rf"^study\.storage .*{message}") as caught:
        checked_url(url)
    assert "u:p" not in str(caught.value) and "\n" not in str(caught.value)


def test_files_are_relative_with_three_slashes_and_absolute_with_four(tmp_path: Path) -> None:
    assert url_file("journal:///runs/x.journal") == Path("runs/x.journal")
    assert url_file("sqlite:////tmp/x.db?timeout=5") == Path("/tmp/x.db")
    assert url_file("postgresql://u:p@host/db") is None
    with pytest.raises(NasError, match=rf"An absolute path has four slashes: journal:///{tmp_path}/x\.journal"):
        check_url_file(f"journal://{tmp_path}/x.journal")


def test_a_proxy_is_a_host_and_a_port() -> None:
    assert url_proxy("grpc://storage.local:13000") == ("storage.local", 13000)
    assert url_proxy("grpc://[::1]:13000/") == ("[::1]", 13000)
    assert url_proxy("sqlite:///x.db") is None
