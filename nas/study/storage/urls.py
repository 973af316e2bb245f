"""Storage URLs: which kinds there are, and what is wrong with one.

Loads no Optuna.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from nas.core.credentials import mask_url
from nas.core.errors import NasError, suggestion

# Scheme without a driver, and the driver that is used then.
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "journal": "journal",
    "grpc": "grpc",
}
_OTHERS: Final = ("oracle", "mssql", "redis", "mongodb", "cockroachdb")  # meant as they are, and not offered
_ALLOWED: Final = (
    "sqlite:///FILE, journal:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE, mysql://USER:PASSWORD@HOST/DATABASE, "
    "grpc://HOST:PORT"
)
_SERVER: Final = re.compile(r"[^/?#\s]+/[^/?#\s]+(\?\S*)?")
_PROXY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/?#@\s]+):(?P<port>\d{1,5})/?")


def checked_url(url: str) -> str:
    """``url`` with the driver that a plain ``postgresql`` or ``mysql`` means.

    Raises: NasError for another kind of storage, and for what can be seen to be wrong without asking for it.
    """
    kind, separator, rest = url.partition("://")
    name, _, driver = kind.partition("+")
    if not separator or name not in _DRIVERS:
        hint = suggestion(name, _DRIVERS) if separator and name not in _OTHERS else ""
        raise NasError(f"study.storage {mask_url(url)!r}: must be one of {_ALLOWED}.{hint}")
    wanted = {"sqlite": "sqlite:///FILE", "journal": "journal:///FILE", "grpc": "grpc://HOST:PORT"}
    form = wanted.get(name, f"{name}://USER:PASSWORD@HOST/DATABASE")
    if name in ("sqlite", "journal"):
        is_right = url_file(url) is not None
    elif name == "grpc":
        is_right = _PROXY.fullmatch(rest) is not None
    else:
        is_right = _SERVER.fullmatch(rest) is not None
    if not is_right:
        raise NasError(f"study.storage {mask_url(url)!r}: must have the form {form}.")
    return url if driver else f"{_DRIVERS[name]}://{rest}"


def url_file(url: str) -> Path | None:
    """The file of an SQLite or journal URL.

    Three slashes and a relative path, or four and an absolute one.

    None for a server, and for a database in memory, which would be lost with its process.
    """
    match = re.fullmatch(r"(?:sqlite(?:\+\w+)?|journal):///([^?]+)(?:\?.*)?", url)
    return Path(match[1]) if match and match[1] != ":memory:" else None


def check_url_file(url: str) -> None:
    """Refuse a folder in the place of a file, or a file in a missing folder.

    That is more often a slip than a wish for a new tree. Raises: NasError.
    """
    path = url_file(url)
    if path is None:
        return
    shown = mask_url(url)
    if path.is_dir():
        raise NasError(f"study.storage {shown!r}: {path} is a folder; name a file in it, such as {path / 'optuna.db'}.")
    if path.parent.exists() and not path.parent.is_dir():
        raise NasError(f"study.storage {shown!r}: {path.parent} is a file; name a file in a folder.")
    if not path.parent.is_dir():
        absolute = Path("/") / path
        meant = f" An absolute path has four slashes: {url.partition(':')[0]}:///{absolute}."
        hint = meant if not path.is_absolute() and absolute.parent.is_dir() else ""
        raise NasError(f"study.storage {shown!r}: folder {path.parent} does not exist; make it first.{hint}")


def url_proxy(url: str) -> tuple[str, int] | None:
    """Host and port of a gRPC proxy; None for other storages."""
    match = _PROXY.fullmatch(url.removeprefix("grpc://")) if url.startswith("grpc://") else None
    return (match["host"], int(match["port"])) if match else None
