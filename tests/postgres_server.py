"""A throw-away PostgreSQL server for tests, from the system's own binaries, on a free port of this machine."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.deadline import DEADLINE_S

_LOOKED_IN = "/usr/lib/postgresql/*/bin and PATH"
_PASSWORD = "a-secret"


def why_not() -> str:
    """Why no server can be started here; empty if one can."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    if _bin_folder() is None:
        return f"no PostgreSQL server in {_LOOKED_IN} (Debian: apt-get install postgresql)"
    return ""


class Postgres:
    """A server that can be stopped, killed and started again; every ``url()`` is a new, empty database.

    Its files are in a new folder in ``parent``, which other users must be able to enter. It writes nothing to the disk
    for good (fsync is off), and runs as another user where tests run as root, because it refuses to be root.
    """

    def __init__(self, parent: Path) -> None:
        folder = _bin_folder()
        assert folder is not None
        self._bin = folder
        self._user = None if os.getuid() else next(u for u in ("postgres", "nobody") if _has_user(u))
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
        password = self.folder / "password"
        password.write_text(_PASSWORD, encoding="ascii")
        if self._user:
            for path in (self.folder, password):
                shutil.chown(path, self._user)
        self._run(
            "initdb", "--pgdata", self._data, "--username=nas", f"--pwfile={password}",
            "--auth=scram-sha-256", "--no-sync", "--locale=C", "--encoding=UTF8",
        )  # fmt: skip
        self.port = _free_port()
        self.start()

    def url(self, *, password: str = _PASSWORD) -> str:
        """SQLAlchemy's URL of a new database."""
        import psycopg

        name = f"study_{secrets.token_hex(4)}"
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="nas", password=_PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://nas:{password}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start the server on the same port, with what it held, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        options += " -c dynamic_shared_memory_type=mmap"  # in its folder, so that nothing stays if it is killed
        log = str(self.folder / "log")
        self._run("pg_ctl", "start", "-w", "-t", f"{DEADLINE_S:.0f}", "-D", self._data, "-l", log, "-o", options)

    def stop(self) -> None:
        """Stop the server: transactions under way are rolled back, connections break."""
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self._data)

    def kill(self) -> None:
        """Let the server die of SIGQUIT, as in a crash: it recovers at its next start."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def remove(self) -> None:
        """Stop the server and take everything away."""
        pid = self._data_path / "postmaster.pid"
        if pid.exists():
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data_path(self) -> Path:
        return self.folder / "data"

    @property
    def _data(self) -> str:
        return str(self._data_path)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            user=self._user,
            group=_group_of(self._user),
            extra_groups=[] if self._user else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would be held open by the server
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            log = self.folder / "log"
            said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program} {' '.join(arguments)} ended with code {done.returncode}: {said}")


def _bin_folder() -> Path | None:
    """The newest version's programs."""
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found = shutil.which("initdb")
    folders = sorted(debian, key=lambda path: [int(part) for part in path.parent.name.split(".") if part.isdigit()])
    return folders[-1] if folders else Path(found).resolve().parent if found else None


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _group_of(user: str | None) -> int | None:
    return pwd.getpwnam(user).pw_gid if user else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
