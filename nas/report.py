"""``python -m nas.report study=NAME``: a study's report as it stands now, finished, at work or killed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas import cli
from nas.spaces import make_space

if TYPE_CHECKING:
    from nas.study.begun import Begun

_KEYS: Final = ("study", "storage", "runs_dir")
_COLUMNS: Final = ("study", "kind", "trained", "others", "running", "best", "last change")


def main() -> None:
    """Console entry point."""
    cli.run(command)


def command(arguments: list[str]) -> int:
    """Render the report of a study again, or list the studies that there are."""
    if cli.answered("report", arguments, _help):
        return 0
    config = cli.compose_config("report", arguments)
    cli.check_keys(config, _KEYS)
    runs_dir = cli.runs_dir(config)
    from nas.study.plan import RecordSettings

    record = RecordSettings(name=config["study"], storage=config["storage"])
    cli.heavy("nas.study.overview")
    if record.name is None:
        _print_studies(record.url(runs_dir))
    else:
        _render(record.name, record.storage, runs_dir)
    return 0


def _render(name: str, storage: str | None, runs_dir: Path) -> None:
    """Render the report of study ``name``, which is only read."""
    from nas.study import begun
    from nas.study.overview import find_study
    from nas.study.plan import RecordSettings
    from nas.study.units import shown_path

    folder = runs_dir / name
    found = begun.read(folder) if (folder / begun.CONFIG_FILE).is_file() else None
    storage = storage or (found.settings["study"]["storage"] if found else None)
    study = find_study(RecordSettings(storage=storage).url(runs_dir), name)
    found = found or begun.read(folder)  # an unknown study is told before a folder that is missing
    settings = {**found.settings, "study": {**found.settings["study"], "name": name, "storage": storage}}
    tell = _tell_search if "space" in settings else _tell_grid
    print(f"open {shown_path(tell(found, settings, runs_dir, study))}")


def _tell_search(found: Begun, settings: dict[str, Any], runs_dir: Path, study: Any) -> Path:
    from nas.study.plan import SearchPlan
    from nas.study.results import tell_again

    space = settings["space"]
    plan = SearchPlan.of(
        settings, space=make_space(space), space_config=space, runs_dir=runs_dir, command=found.command
    )
    return tell_again(plan, found, study)


def _tell_grid(found: Begun, settings: dict[str, Any], runs_dir: Path, study: Any) -> Path:
    from nas.arch.files import load
    from nas.compound.plan import BASELINE_FILE, CompoundPlan
    from nas.compound.results import tell_again

    baseline = load(runs_dir / study.study_name / BASELINE_FILE)
    plan = CompoundPlan.of(settings, baseline=baseline, runs_dir=runs_dir, command=found.command)
    return tell_again(plan, found, study)


def _print_studies(url: str) -> None:
    from nas.study.overview import standings
    from nas.study.units import percent
    from nas.study.urls import masked
    from nas.tables import print_table

    rows = [
        (
            one.name,
            one.kind,
            f"{one.trained:,}",
            f"{one.other:,}",
            f"{one.running:,}" if one.running else "",
            percent(one.best),
            f"{one.latest:%Y-%m-%d %H:%M}" if one.latest else "",
        )
        for one in standings(url)
    ]
    if not rows:
        print(f"no study in {masked(url)} yet; python -m nas.search begins one.")
        return
    remarks = (
        "others: infeasible, repeated, stopped early or failed; running: begun and not ended, also by a killed run",
        f"add study=NAME for the report of one, such as study={rows[0][0]}",
    )
    print_table(_COLUMNS, rows, remarks, left=2, dispensable=("last change", "kind"))


def _help() -> str:
    return f"""{cli.plain(__doc__)}

  study=mixnet-digits    the study whose report to render; without it, the studies that there are
  runs_dir=runs          the folder that the study was run with
  storage=URL            its storage, if that is not {"<runs_dir>/optuna.db"} or what the study's folder says

Writes report.html, trials.csv and the plots into <runs_dir>/<study>/, and changes nothing else: no training, no
measuring, no images, and no waiting for a search that is at work on the study."""


if __name__ == "__main__":
    main()
