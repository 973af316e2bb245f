"""Local server of optuna-dashboard with our notes, drawings and specs.

It listens on the loopback interface alone.
"""

from __future__ import annotations

import errno
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna

from nas.core.errors import NasError
from nas.reporting.dashboard.board import ARTIFACTS
from nas.study.storage.opening import open_storage
from nas.study.storage.retry_policy import RetryPolicy

HOST: Final = "127.0.0.1"
_PORTS_TRIED: Final = 20
_RETRY_LIMIT_S: Final = 10.0  # for an unavailable storage; pages poll again soon


class _Server(ThreadingMixIn, WSGIServer):
    """A server with one thread per request: pages send several at once."""

    daemon_threads = True
    allow_reuse_address = True


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: pages poll every few seconds."""


def make_dashboard(url: str, runs_dir: Path, port: int) -> WSGIServer:
    """Create the dashboard server of the storage at ``url``.

    It listens on ``port`` or the next free one; 0 is any free port.

    Raises: NasError where optuna-dashboard is not installed, or no port is free.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise NasError("optuna-dashboard is not installed: run pip install 'nas[dashboard]'") from None
    storage = open_storage(url, RetryPolicy(limit_s=_RETRY_LIMIT_S))
    artifacts = runs_dir / ARTIFACTS
    artifacts.mkdir(parents=True, exist_ok=True)
    app = wsgi(storage, artifact_store=optuna.artifacts.FileSystemArtifactStore(artifacts))
    for offset in range(_PORTS_TRIED):
        try:
            return make_server(HOST, port + offset, app, server_class=_Server, handler_class=_SilentHandler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise NasError(f"port {port + offset}: {error.strerror}; choose another.") from None
    raise NasError(f"port {port}: it and the next {_PORTS_TRIED - 1} are in use; choose another.")
