"""``python -m nas.dashboard``: browse studies in Optuna's dashboard.

With notes, drawings and specs of their networks.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from nas.cli import app, hydra_config
from nas.cli.help_text import option_lines, paragraph
from nas.cli.resolve.reopened import reopen_study
from nas.core.errors import NasError
from nas.core.validation import check_number

if TYPE_CHECKING:
    import optuna

_KEYS: Final = ("storage", "port", "refresh_s", "runs_dir", "json")
_REST: Final = 20  # times as long as the notes took to write


def main() -> None:
    """Console entry point."""
    app.run_command(command)


def command(arguments: list[str]) -> int:
    """Serve the dashboard until Ctrl-C, which is how it is meant to end."""
    if app.answer_option("dashboard", arguments, _help):
        return 0
    config = hydra_config.compose_config("dashboard", arguments)
    app.check_keys(config, _KEYS)
    app.check_texts(config, "storage")
    app.check_flags(config, "json")
    check_number("port", config["port"], low=0, high=65535, whole=True)
    check_number("refresh_s", config["refresh_s"], low=1, optional=True)
    from nas.study.config import RecordSettings
    from nas.study.storage.urls import mask_credentials

    runs_dir = app.runs_dir(config)
    url = RecordSettings(storage=config["storage"]).url(runs_dir)
    said = sys.stderr if config["json"] else sys.stdout
    notes = _Notes(url, runs_dir, said)
    notes.write(say=True)
    from nas.reporting.dashboard.serving import HOST, make_dashboard

    served = make_dashboard(url, runs_dir, config["port"])
    wanted, got = config["port"], served.server_port
    if wanted not in (0, got):
        print(f"port {wanted} is taken: {got} instead", file=said)
    address = f"http://{HOST}:{got}/dashboard/"
    print(f"studies of {mask_credentials(url)}: {address} (Ctrl-C ends it)", file=said, flush=True)
    if config["json"]:
        print(json.dumps({"address": address, "storage": mask_credentials(url)}), flush=True)
    try:
        with _kept_up(notes, config["refresh_s"]):
            served.serve_forever()
    except KeyboardInterrupt:
        print("ended", file=said, flush=True)
    finally:
        served.server_close()
        notes.close()
    return 0


class _Notes:
    """Dashboard notes and files of all studies in the storage at ``url``.

    Written for studies with newly ended trials. ``said``: the stream for messages and errors.
    """

    def __init__(self, url: str, runs_dir: Path, said: TextIO) -> None:
        from nas.study.catalog import existing_studies_storage

        self._url, self._runs_dir, self._said, self._faults = url, runs_dir, said, set[str]()
        self._storage = existing_studies_storage(url)  # kept, for it remembers finished trials

    def write(self, *, say: bool, is_over: Callable[[], bool] = lambda: False) -> None:
        """Update outdated notes, study by study, until ``is_over`` returns true.

        An error in one study is reported once, and the others are updated.

        ``say``: which they are.
        """
        from nas.reporting.dashboard.board import ARTIFACTS
        from nas.reporting.dashboard.exhibit import is_up_to_date
        from nas.study.catalog import studies

        try:
            found = studies(self._storage, self._complain)
            stale = [one for one in found if not is_up_to_date(one, self._runs_dir / ARTIFACTS)]
            for study in stale:
                if is_over():
                    return
                if say:
                    print(f"writing the notes of {study.study_name} ...", file=self._said, flush=True)
                self._write(study)
        except NasError as error:
            self._complain(error)
        finally:
            self._storage.remove_session()  # a connection of SQLite is to be closed by its own thread

    def close(self) -> None:
        """Give back the storage's connections."""
        self._storage.close()

    def _write(self, study: optuna.Study) -> None:
        try:
            found = reopen_study(study.study_name, self._url, self._runs_dir)
            with closing(found.study._storage):
                found.kind.refresh_notes(found.plan, found.manifest, study)
        except NasError as error:
            self._complain(error)

    def _complain(self, error: NasError) -> None:
        if str(error) not in self._faults:
            print(f"they are as they were: {error}", file=self._said, flush=True)
        self._faults.add(str(error))


@contextmanager
def _kept_up(notes: _Notes, every_s: float | None) -> Iterator[None]:
    """Update ``notes`` in the background every ``every_s`` seconds; None: never.

    At most a twentieth of the time is spent on it.

    In the end a study whose notes are being written is finished, so that none is left in the middle.
    """
    if every_s is None:
        yield
        return
    over = threading.Event()

    def work() -> None:
        took_s = 0.0
        while not over.wait(max(every_s, _REST * took_s)):
            began = time.monotonic()
            notes.write(say=False, is_over=over.is_set)
            took_s = time.monotonic() - began

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _help() -> str:
    settings = option_lines(
        "dashboard",
        ("storage=sqlite:///FILE", "what study.storage was given; null: the database in runs_dir"),
        ("port=8080", "of this machine, where alone it can be reached; the next free one if it is taken; 0: any"),
        ("refresh_s=60", "so often the notes of trials that ended since are written; null: at the start alone"),
        ("json=true", 'one JSON object when it serves: {"address", "storage"}; all else on stderr'),
        ("runs_dir=runs", "its artifacts/ holds the drawings and specs that are shown"),
    )
    about = """It is Optuna's own dashboard (pip install 'nas[dashboard]'). Without the notes being brought up to
        date, the same:"""
    return f"""{paragraph(__doc__ or "")}

{settings}

{paragraph(about)}
optuna-dashboard sqlite:///runs/optuna.db --artifact-dir runs/artifacts"""


if __name__ == "__main__":
    main()
