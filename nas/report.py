"""``python -m nas.report study=NAME``: render a study's report again.

The study may be finished, running or killed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.cli import app, hydra_config
from nas.cli.help_layout import option_lines, paragraph
from nas.cli.resolve.reopened import reopen_study
from nas.cli.resolve.studies import FoundStudy
from nas.core.streams import write_error, write_lines
from nas.methods import kind_name

if TYPE_CHECKING:
    from nas.study.catalog import StudySummary

_KEYS: Final = ("study", "storage", "runs_dir", "json")
_COLUMNS: Final = ("study", "kind", "trained", "others", "running", "best", "last change")


def main() -> None:
    """Console entry point."""
    app.run_command(command, short=True)


def command(arguments: list[str]) -> int:
    """Render the report of a study again, or list all studies."""
    arguments = app.word_as_setting(arguments, "study")
    if app.answer_option("report", arguments, _help):
        return 0
    config = hydra_config.compose_config("report", arguments)
    app.check_keys(config, _KEYS)
    app.check_texts(config, "study", "storage")
    app.check_flags(config, "json")
    runs_dir = app.runs_dir(config)
    from nas.study.config import RecordSettings

    record = RecordSettings(name=config["study"], storage=config["storage"])
    if record.name is None:
        from nas.study.catalog import summarize_studies

        url = record.url(runs_dir)
        summaries = summarize_studies(url, lambda error: write_error(f"skipped: {error}"))
        if config["json"]:
            write_lines(json.dumps({"studies": list(map(_facts, summaries))}))
        else:
            _print_studies(summaries, url)
    else:
        _render(record.name, record.storage, runs_dir, as_json=config["json"])
    return 0


def _render(name: str, storage: str | None, runs_dir: Path, *, as_json: bool) -> None:
    """Render the report of study ``name``, opened read-only."""
    from nas.core.formatting import shown_path

    found = reopen_study(name, storage, runs_dir)
    path = found.kind.render(found.plan, found.manifest, found.study)
    if as_json:
        known = FoundStudy(found.study, found.plan.study.storage, found.plan.folder, found.manifest)
        from nas.cli.compare_studies import compare_studies

        write_lines(compare_studies([known]).json())
    else:
        write_lines(f"open {shown_path(path)}")


def _facts(one: StudySummary) -> dict[str, Any]:
    """The state of a study as plain data."""
    return {
        "name": one.name,
        "kind": kind_name(one.identity),
        "trained": one.trained,
        "others": one.other,
        "running": one.running,
        "best_accuracy": one.best,
        "best_standard_error": one.standard_error,
        "last_change": one.latest.isoformat() if one.latest else None,
    }


def _print_studies(found: Sequence[StudySummary], url: str) -> None:
    from nas.core.credentials import mask_url
    from nas.core.formatting import percent
    from nas.core.tables import print_table

    rows = [
        (
            one.name,
            kind_name(one.identity),
            f"{one.trained:,}",
            f"{one.other:,}",
            f"{one.running:,}" if one.running else "",
            percent(one.best, one.standard_error),
            f"{one.latest:%Y-%m-%d %H:%M}" if one.latest else "",
        )
        for one in found
    ]
    if not rows:
        write_lines(f"no study in {mask_url(url)} yet; start one with python -m nas.search.")
        return
    remarks = (
        "others: infeasible, duplicate, stopped early or failed; running: started and not ended, killed runs included",
        f"render a report with study=NAME, such as study={rows[0][0]}",
    )
    print_table(_COLUMNS, rows, remarks, left=2, dispensable=("last change", "kind"))


def _help() -> str:
    settings = option_lines(
        "report",
        (
            "study=NAME, or NAME",
            "the study whose report to render, such as mixnet-mnist_5k; without it, a list of all studies",
        ),
        ("runs_dir=runs", "the folder that the study was run with"),
        ("storage=URL", "its storage, if it is neither <runs_dir>/optuna.db nor recorded in the study's folder"),
        ("json=true", 'one JSON object: {"studies": [...]}; with study= its counts, best, time and winners'),
    )
    about = """Writes report.html, trials.csv and the plots into <runs_dir>/<study>/, and changes nothing else: it
        neither trains nor measures, loads no images, and does not wait for a search that is running the study."""
    return f"{paragraph(__doc__ or '')}\n\n{settings}\n\n{paragraph(about)}"


if __name__ == "__main__":
    main()
