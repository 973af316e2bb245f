"""``python -m nas.dashboard``: browse studies in Optuna's dashboard.

It adds notes, drawings and specs of their networks.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from nas.cli import app, hydra_config
from nas.cli.help_layout import option_lines, paragraph
from nas.cli.resolve.reopened import reopen_study
from nas.core.errors import NasError
from nas.core.streams import write_lines
from nas.core.validation import check_number
from nas.study.storage.optuna_private import storage_of

if TYPE_CHECKING:
    import optuna

_KEYS: Final = ("storage", "port", "refresh_s", "runs_dir", "json")
_PATIENCE_S: Final = 1.0  # of a person who stops it, before it says what it waits for
_REST: Final = 20  # pause between updates, relative to the time that the last one took


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Serve the dashboard until Ctrl-C, at once; notes are written meanwhile."""
    if app.answer_option("dashboard", arguments, _help):
        return 0
    config = hydra_config.compose_config("dashboard", arguments)
    app.check_keys(config, _KEYS)
    app.check_texts(config, "storage")
    app.check_flags(config, "json")
    check_number("port", config["port"], low=0, high=65535, whole=True)
    check_number("refresh_s", config["refresh_s"], low=1, optional=True)
    from nas.core.credentials import mask_url
    from nas.study.config import RecordSettings

    runs_dir = app.runs_dir(config)
    url = RecordSettings(storage=config["storage"]).url(runs_dir)
    stream = sys.stderr if config["json"] else sys.stdout
    notes = _Notes(url, runs_dir, stream)
    from nas.reporting.dashboard.serving import HOST, make_dashboard

    served = make_dashboard(url, runs_dir, config["port"])
    requested, got = config["port"], served.server_port
    if requested not in (0, got):
        write_lines(f"port {requested} is in use: serving on {got}", stream=stream)
    address = f"http://{HOST}:{got}/dashboard/"
    write_lines(f"studies of {mask_url(url)}: {address} (stop with Ctrl-C)", stream=stream)
    if config["json"]:
        write_lines(json.dumps({"address": address, "storage": mask_url(url)}))
    try:
        with _background_updates(notes, config["refresh_s"], stream):
            served.serve_forever()
    except KeyboardInterrupt:
        write_lines("stopped", stream=stream)
    finally:
        served.server_close()
        notes.close()
    return 0


class _Stopped(Exception):
    """Ends an update between two notes, because the dashboard is stopping."""


class _Notes:
    """Dashboard notes and files of all studies in the storage at ``url``.

    Written for studies with newly ended trials. ``stream``: the stream for messages and errors.
    """

    def __init__(self, url: str, runs_dir: Path, stream: TextIO) -> None:
        from nas.study.catalog import existing_studies_storage

        self._url, self._runs_dir, self._stream, self._reported = url, runs_dir, stream, set[str]()
        self._storage = existing_studies_storage(url)  # reused, because it caches finished trials

    def write(self, *, verbose: bool, is_over: Callable[[], bool] = lambda: False) -> None:
        """Update outdated notes, one by one, until ``is_over`` returns true.

        What is left then is written by the next update. An error in one study is reported once, and the others are
        updated.

        ``verbose``: print the name of each study that is updated.
        """
        from nas.reporting.dashboard.board import ARTIFACTS
        from nas.reporting.dashboard.exhibit import is_up_to_date
        from nas.study.catalog import studies

        try:
            found = studies(self._storage, self._report_error)
            stale = [one for one in found if not is_up_to_date(one, self._runs_dir / ARTIFACTS)]
            for study in stale:
                if is_over():
                    return
                if verbose:
                    _say(self._stream, f"writing the notes of {study.study_name} ...")
                self._write(study, is_over)
        except _Stopped:
            return
        except NasError as error:
            self._report_error(error)
        finally:
            self._storage.remove_session()  # SQLite connections must be closed by the thread that opened them

    def close(self) -> None:
        """Close the storage's connections."""
        self._storage.close()

    def _write(self, study: optuna.Study, is_over: Callable[[], bool]) -> None:
        def stop_if_over() -> None:
            if is_over():
                raise _Stopped

        try:
            found = reopen_study(study.study_name, self._url, self._runs_dir)
            with closing(storage_of(found.study)):
                found.kind.refresh_notes(found.plan, found.manifest, study, stop_if_over)
        except NasError as error:
            self._report_error(error)

    def _report_error(self, error: NasError) -> None:
        if str(error) not in self._reported:
            _say(self._stream, f"notes not updated: {error}")
        self._reported.add(str(error))


@contextmanager
def _background_updates(notes: _Notes, every_s: float | None, stream: TextIO) -> Iterator[None]:
    """Update ``notes`` in the background, at once and then every ``every_s`` seconds.

    None: at once only. From then on at most a twentieth of the time is spent on it.

    On exit, the note in progress is completed, so that none is left half written.
    """
    stop = threading.Event()

    def work() -> None:
        took_s = _timed(lambda: notes.write(verbose=True, is_over=stop.is_set))
        while every_s is not None and not stop.wait(max(every_s, _REST * took_s)):
            took_s = _timed(lambda: notes.write(verbose=False, is_over=stop.is_set))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_PATIENCE_S)
        if thread.is_alive():
            _say(stream, "stopping: notes are being written")
            thread.join()


def _say(stream: TextIO, text: str) -> None:
    """Print a line from a background thread; a pipe that its reader closed is fine."""
    with suppress(BrokenPipeError):
        write_lines(text, stream=stream)


def _timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` took."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _help() -> str:
    settings = option_lines(
        "dashboard",
        ("storage=sqlite:///FILE", "the value of study.storage; null: the database in runs_dir"),
        ("port=8080", "local port; the next free one if it is in use; 0: any; reachable from this machine only"),
        ("refresh_s=60", "interval of note updates for newly ended trials; null: at the start only"),
        ("json=true", 'one JSON object once it is serving: {"address", "storage"}; all else on stderr'),
        ("runs_dir=runs", "its artifacts/ holds the drawings and specs that are shown"),
    )
    about = """This is Optuna's own dashboard (pip install 'nas[dashboard]'). The same, without note updates:"""
    return f"""{paragraph(__doc__ or "")}

{settings}

{paragraph(about)}
optuna-dashboard sqlite:///runs/optuna.db --artifact-dir runs/artifacts"""


if __name__ == "__main__":
    main()
