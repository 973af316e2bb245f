"""A device that is reached by ssh."""

from __future__ import annotations

import shlex
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nas.core.errors import NasError, quoted
from nas.core.progress import ProgressCallback
from nas.core.validation import check_number
from nas.latency.kits.transport import DeviceLostError, Finished, program, unexplained

_LOST: Final = 255  # exit code of ssh itself
_OPTIONS: Final = (
    "BatchMode=yes",  # a question would wait for an answer that nobody sees
    "ConnectTimeout=20",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshDevice:
    """A device that is reached by ssh, without a password.

    ``host``: as ssh takes it, such as ``user@box``. ``port``: None for that of ssh's own configuration. ``folder``: of
    the kit, relative to the home folder.

    Raises: NasError if host or port cannot be ones.
    """

    host: str
    folder: str
    port: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not self.host or self.host.startswith("-") or len(self.host.split()) != 1:
            raise NasError(f"host {quoted(self.host)}: must be a host as ssh takes it, such as host=user@box.")
        check_number("ssh_port", self.port, low=1, high=65535, whole=True, optional=True)

    @property
    def name(self) -> str:
        """The host, and the port if one is given.

        Several machines may stand behind one host.
        """
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def shell(self, script: str) -> list[str]:
        """Command here that runs ``script`` there."""
        options = [word for option in _OPTIONS for word in ("-o", option)]
        port = ["-p", str(self.port)] if self.port is not None else []
        return [program("ssh", "install OpenSSH's client"), *options, *port, self.host, script]

    def binary(self, script: str) -> list[str]:
        """Command here that runs ``script`` there; ssh leaves its stdout as it is."""
        return self.shell(script)

    def push(self, folder: Path, names: Sequence[str], progress: ProgressCallback | None) -> None:
        """Copy files in one archive, which tar unpacks there. Raises: NasError."""
        with subprocess.Popen(
            self.shell(f"mkdir -p {shlex.quote(self.folder)} && tar -xf - -C {shlex.quote(self.folder)}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
                    for done, name in enumerate(names):
                        if progress:
                            progress(done, len(names))
                        archive.add(folder / name, arcname=name)
                process.stdin.close()
            except BrokenPipeError:
                pass  # the other side ended, and said why
            output = process.stdout.read().decode(errors="replace")
        if process.returncode != 0:
            raise self.explain(Finished(code=process.returncode, output=output))

    def explain(self, finished: Finished) -> NasError:
        """Error of one line about a command that failed."""
        said, what = finished.output, f"host {self.host}"
        if "No space left" in said:
            return NasError(f"{what}: no space is left there; free some, the kit needs a folder {self.folder}.")
        if finished.code != _LOST:
            return unexplained(what, finished)
        if "Permission denied" in said:
            return NasError(
                f"{what}: ssh refuses ({finished.last_line}); it must work without a password: ssh-copy-id {self.host}"
            )
        if "Host key verification failed" in said:
            return NasError(f"{what}: ssh does not know its key; connect once by hand: ssh {self.host}")
        if any(words in said for words in ("Could not resolve", "refused", "timed out", "No route", "unreachable")):
            return NasError(
                f"{what}: cannot be reached ({finished.last_line}); is it on, and are host= and ssh_port= right?"
            )
        return DeviceLostError(f"{what}: the connection ended ({finished.last_line or 'without a word'})")
