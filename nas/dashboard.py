"""``python -m nas.dashboard``: look at studies in the browser, with notes, drawings and specs of their networks."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Final, TextIO

from nas import cli, composing
from nas.arch.checks import check_number
from nas.arch.errors import NasError
from nas.help_text import options, paragraph
from nas.reopened import reopen

_KEYS: Final = ("storage", "port", "runs_dir", "json")


def main() -> None:
    """Console entry point."""
    cli.run(command)


def command(arguments: list[str]) -> int:
    """Serve the dashboard until Ctrl-C, which is how it is meant to end."""
    if cli.answered("dashboard", arguments, _help):
        return 0
    config = composing.compose_config("dashboard", arguments)
    cli.check_keys(config, _KEYS)
    cli.check_texts(config, "storage")
    cli.check_flags(config, "json")
    check_number("port", config["port"], low=0, high=65535, whole=True)
    from nas.study.plan import RecordSettings
    from nas.study.urls import masked

    runs_dir = cli.runs_dir(config)
    url = RecordSettings(storage=config["storage"]).url(runs_dir)
    said = sys.stderr if config["json"] else sys.stdout
    _bring_up_to_date(url, runs_dir, said)
    from nas.study.serving import HOST, make_dashboard

    served = make_dashboard(url, runs_dir, config["port"])
    wanted, got = config["port"], served.server_port
    if wanted not in (0, got):
        print(f"port {wanted} is taken: {got} instead", file=said)
    address = f"http://{HOST}:{got}/dashboard/"
    print(f"studies of {masked(url)}: {address} (Ctrl-C ends it)", file=said, flush=True)
    if config["json"]:
        print(json.dumps({"address": address, "storage": masked(url)}), flush=True)
    try:
        served.serve_forever()
    except KeyboardInterrupt:
        print("ended", file=said, flush=True)
    finally:
        served.server_close()
    return 0


def _bring_up_to_date(url: str, runs_dir: Path, said: TextIO) -> None:
    """Put notes and files where studies have changed since; what cannot be told of one keeps nobody from the others."""
    from nas.study.artifacts import ARTIFACTS
    from nas.study.exhibits import is_shown
    from nas.study.overview import studies

    stale = [study.study_name for study in studies(url) if not is_shown(study, runs_dir / ARTIFACTS)]
    if stale:
        cli.heavy("nas.study.results")
    for name in stale:
        print(f"writing the notes of {name} ...", file=said, flush=True)
        try:
            found = reopen(name, url, runs_dir)
            with closing(found.study._storage):
                found.results.show_again(found.plan, found.begun, found.study)
        except NasError as error:
            print(f"they are as they were: {error}", file=said, flush=True)


def _help() -> str:
    settings = options(
        "dashboard",
        ("storage=sqlite:///FILE", "what study.storage was given; null: the database in runs_dir"),
        ("port=8080", "of this machine, where alone it can be reached; the next free one if it is taken; 0: any"),
        ("json=true", 'one JSON object when it serves: {"address", "storage"}; all else on stderr'),
        ("runs_dir=runs", "its artifacts/ holds the drawings and specs that are shown"),
    )
    about = """It is Optuna's own dashboard (pip install 'nas[dashboard]'). Without the notes being brought up to date
        first, the same:"""
    return f"""{paragraph(__doc__ or "")}

{settings}

{paragraph(about)}
optuna-dashboard sqlite:///runs/optuna.db --artifact-dir runs/artifacts"""


if __name__ == "__main__":
    main()
