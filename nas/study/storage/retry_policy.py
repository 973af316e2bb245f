"""Retries while a storage is locked, full or unreachable.

Decides which of its errors are transient.
"""

from __future__ import annotations

import errno
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from optuna.exceptions import StorageInternalError
from rich.console import Console
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from nas.core.console import print_lines
from nas.core.credentials import mask_reason, mask_url
from nas.core.errors import NasError

_FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
_QUIET_S: Final = 1.0
_SAY_EVERY_S: Final = 30.0
_SQLITE: Final = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)
_FILE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT)
# What a server, or the resolver, says to a wrong password, user, database or host; numbered answers are MySQL's.
_REFUSALS: Final = (
    "password", "authentication", "does not exist", "pg_hba.conf", "not permitted", "resolve host", "Name or service",
    "SSL", "certificate", "(1044,", "(1045,", "(1049,", "(1698,", "(2005,",
)  # fmt: skip
_ANSWERED: Final = re.compile(
    r"FATAL|\([13]\d{3},"
)  # of PostgreSQL's server; numbers of MySQL's, whose client's are 2xxx

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long a call to a storage is retried: ``limit_s`` seconds.

    ``say`` prints a line for the user; ``clock`` and ``sleep`` are for tests.
    """

    limit_s: float = 600.0
    say: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def console_retry_policy(console: Console, limit_s: float) -> RetryPolicy:
    """The policy that prints its waits on ``console``."""
    return RetryPolicy(limit_s=limit_s, say=lambda text: print_lines(console, text))


class RetryWait:
    """One call that may have to be retried: for how long, and what is printed."""

    def __init__(self, policy: RetryPolicy, url: str) -> None:
        self._policy = policy
        self._url = url
        self._started = policy.clock()
        self._pause_s = _FIRST_PAUSE_S
        self._said_s: float | None = None
        self.reason = ""

    def after(self, error: Exception) -> None:
        """Pause before the next attempt.

        Raises: NasError once the limit is exceeded.
        """
        policy, waited_s = self._policy, self._waited_s
        self.reason = storage_error_reason(error, self._url)
        if waited_s >= policy.limit_s:
            raise NasError(self.stopped("stopped"))
        if waited_s >= (_QUIET_S if self._said_s is None else self._said_s + _SAY_EVERY_S):
            self._said_s = waited_s
            so_far = f"{_minutes(waited_s)} of {_minutes(policy.limit_s)}"
            policy.say(f"storage not reachable ({self.reason}): trying again, {so_far}")
        policy.sleep(min(self._pause_s, policy.limit_s - waited_s))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def over(self) -> None:
        """The call has come through."""
        if self._said_s is not None:
            self._policy.say(f"storage reachable again after {_minutes(self._waited_s)}")

    def stopped(self, how: str) -> str:
        """What a user is to know when there is no more waiting."""
        return (
            f"study.storage {mask_url(self._url)!r} was not reachable for {_minutes(self._waited_s)} "
            f"({self.reason}): {how}. Every finished trial is kept in it, those under way are run again. "
            "When it is back, go on with the same command; study.patience_s sets how many seconds it is waited for."
        )

    @property
    def _waited_s(self) -> float:
        return self._policy.clock() - self._started


def call_with_retries(call: Callable[[], Result], wait: RetryWait, again: Callable[[], Result] | None = None) -> Result:
    """``call()``, retried while the storage is unavailable.

    ``again`` is called in its place where the first call may have succeeded unnoticed.

    Raises: NasError when it has been waited long enough; any other error of ``call`` as it is.
    """
    attempt = call
    while True:
        try:
            result = attempt()
        except Exception as error:
            if not is_transient(error):
                raise
            wait.after(error)
            attempt = again or call
        else:
            wait.over()
            return result


def is_transient(error: BaseException) -> bool:
    """Whether an ``error`` of a storage may pass: locked, disk full, server gone."""
    cause = _cause(error)
    if isinstance(cause, OSError):
        return cause.errno in _FILE
    if isinstance(cause, OperationalError | InterfaceError):
        code = getattr(cause.orig, "sqlite_errorcode", None)  # SQLite calls a missing table operational too
        return code is None or (code & 0xFF) in _SQLITE
    if isinstance(cause, DBAPIError):
        return bool(cause.connection_invalidated)
    grpc = sys.modules.get("grpc")  # not loaded where no proxy is used
    if grpc is not None and isinstance(cause, grpc.RpcError):
        # UNKNOWN is how a proxy passes on that its own storage is not reachable.
        behind = "during the commit" in str(cause.details()) or "OperationalError" in str(cause.details())
        return cause.code() is grpc.StatusCode.UNAVAILABLE or (cause.code() is grpc.StatusCode.UNKNOWN and behind)
    return False


def is_refusal(error: BaseException) -> bool:
    """Whether a server refused for good: wrong password, no such database."""
    return any(text in str(_cause(error)) for text in _REFUSALS)


def is_unreached(error: BaseException) -> bool:
    """Whether no server answered at all; one that is starting up or full answers."""
    cause = _cause(error)
    grpc = sys.modules.get("grpc")
    if grpc is not None and isinstance(cause, grpc.RpcError):
        return bool(cause.code() is grpc.StatusCode.UNAVAILABLE)
    return isinstance(cause, OperationalError | InterfaceError) and not _ANSWERED.search(str(cause.orig))


def storage_error_reason(error: BaseException, url: str = "") -> str:
    """The first line of an error, without the secrets of the storage's ``url``."""
    cause: Any = _cause(error)
    details = getattr(cause, "details", None)  # of gRPC
    original = getattr(cause, "orig", None) or cause
    text = str(details() if callable(details) else original)
    if len(original.args) == 2 and isinstance(original.args[0], int):  # of MySQL or the system: a number, its meaning
        text = str(original.args[1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return mask_reason(lines[0].rstrip(". ") if lines else type(cause).__name__, url)


def _cause(error: BaseException) -> BaseException:
    """What is behind Optuna's words for anything that a database says."""
    return error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
