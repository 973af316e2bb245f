"""Interface to a connected device: files to it, commands there, results back."""

from __future__ import annotations

import re
import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from shutil import which
from tempfile import TemporaryFile
from typing import IO, Final, Protocol

from nas.core.errors import NasError
from nas.core.files import write_bytes_atomically
from nas.core.progress import ProgressCallback

_RESULT: Final = re.compile(r"[\w-]{1,20}\.(txt|failed)")
_MAX_RESULT_BYTES: Final = 4_000_000
_MAX_RESULTS: Final = 40_000  # files: two for each of 2,000 networks in nine passes


class DeviceLostError(NasError):
    """The connection to the device ended in the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A command that has ended: exit code, and what it printed on stdout and stderr."""

    code: int
    output: str

    @property
    def last_line(self) -> str:
        """Last line that is not empty, "" without."""
        return next((line.strip() for line in reversed(self.output.splitlines()) if line.strip()), "")


class Transport(Protocol):
    """A device.

    ``name``: in messages. ``folder``: of the kit on the device, absolute or relative to where commands run.
    """

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> str: ...

    def shell(self, script: str) -> list[str]:
        """Command here that runs ``script`` in a shell there, with its exit code."""
        ...

    def binary(self, script: str) -> list[str]:
        """Command here that runs ``script`` there, and leaves its stdout as it is."""
        ...

    def push(self, folder: Path, names: Sequence[str], progress: ProgressCallback | None) -> None:
        """Copy the files ``names`` of ``folder`` into the kit's folder on the device.

        Raises: NasError.
        """
        ...

    def explain(self, finished: Finished) -> NasError:
        """Error of one line about a command that failed, with what to do.

        ``DeviceLostError`` for a lost connection.
        """
        ...


def program(name: str, install: str) -> str:
    """Path of a program on this machine. Raises: NasError that says what to install."""
    path = which(name)
    if path is None:
        raise NasError(f"{name} is not installed here: {install}.")
    return path


def finish(command: Sequence[str]) -> Finished:
    """Run a command to its end."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return Finished(code=done.returncode, output=done.stdout.decode(errors="replace"))


def check_reachable(device: Transport) -> None:
    """Run nothing on the device. Raises: NasError if it cannot be reached."""
    finished = finish(device.shell("true"))
    if finished.code != 0:
        raise device.explain(finished)


def file_sizes(device: Transport) -> dict[str, int]:
    """Sizes in bytes of the kit's files on the device, by path. Raises: NasError."""
    script = (
        f"mkdir -p {shlex.quote(device.folder)}/networks && cd {shlex.quote(device.folder)} && "
        'for f in * networks/*; do [ -f "$f" ] && echo "size $(wc -c <"$f") $f"; done; true'
    )
    finished = finish(device.shell(script))
    if finished.code != 0:
        raise device.explain(finished)
    found = re.findall(r"^size +(\d+) (.+?)\r?$", finished.output, re.MULTILINE)
    return {name: int(size) for size, name in found}


def output_lines(device: Transport, script: str) -> Iterator[str]:
    """Lines that ``script`` prints on the device, as they come.

    Raises: NasError if it fails, and DeviceLostError if the connection ends.
    """
    lines: list[str] = []
    with subprocess.Popen(
        device.shell(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            for data in process.stdout or ():
                lines = [*lines[-20:], data.decode(errors="replace").rstrip()]
                yield lines[-1]
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise device.explain(Finished(code=process.returncode, output="\n".join(lines)))


def pull_results(device: Transport, folder: Path) -> int:
    """Copy results from the device into ``folder``; returns their number.

    Raises: NasError.
    """
    script = (
        f"cd {shlex.quote(device.folder)}/results && set -- && "
        'for f in *.txt *.failed; do [ -f "$f" ] && set -- "$@" "$f"; done; '
        '[ $# -gt 0 ] || { echo "there are no results on the device" >&2; exit 1; }; tar -cf - "$@"'
    )
    with (
        TemporaryFile() as errors,  # a pipe that nobody reads yet would stop a device that says much
        subprocess.Popen(
            device.binary(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        assert process.stdout is not None
        count, problem = _unpack(process.stdout, folder)
        if problem:  # it may go on sending for ever
            process.terminate()
        process.wait()
        errors.seek(0)
        said = errors.read(_MAX_RESULT_BYTES).decode(errors="replace")
    if process.returncode != 0 or problem:
        raise device.explain(Finished(code=1 if problem else process.returncode, output=said or problem))
    return count


def _unpack(stream: IO[bytes], folder: Path) -> tuple[int, str]:
    """Write the result files of a tar archive into ``folder``.

    Returns their number, and what is wrong with the archive. Nothing but plain files with the names of results is
    written, and no more of them than a kit has.
    """
    count = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in islice(archive, _MAX_RESULTS + 1):
                if count == _MAX_RESULTS:
                    return count, f"the device sent more than {_MAX_RESULTS:,} results, which is no kit"
                name = PurePosixPath(entry.name).name
                content = archive.extractfile(entry) if entry.isfile() and entry.size <= _MAX_RESULT_BYTES else None
                if content is not None and _RESULT.fullmatch(name):
                    write_bytes_atomically(folder / name, content.read())
                    count += 1
    except (tarfile.TarError, EOFError) as error:
        return count, f"the results did not arrive whole ({error})"
    has_more = len(stream.read(_MAX_RESULT_BYTES)) == _MAX_RESULT_BYTES  # otherwise the padding of the last block
    return count, "the device does not stop sending after its results" if has_more else ""


def setting_words(settings: Mapping[str, str]) -> str:
    """Assignments of environment variables before a command of a shell."""
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items() if value)


def unexplained(what: str, finished: Finished) -> NasError:
    """Error about a command that failed for no reason that is known here."""
    said = finished.last_line.removeprefix("error: ")
    return NasError(f"{what}: {said or f'failed with exit code {finished.code}, and said nothing'}")
