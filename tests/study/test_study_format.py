"""Studies of a newer format, or in a storage of a newer Optuna, are refused in one line and left as they are."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import optuna
import pytest

from nas import compare, compound_grid, dashboard, report, search
from nas.core.errors import NasError
from nas.core.version import __version__
from nas.study.manifest import CONFIG_FILE
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.opening import open_storage
from nas.study.storage.study_format import FORMAT_ATTRIBUTE, STUDY_FORMAT, check_study_format
from tests.json_output import json_answer
from tests.reporting.dashboard_study import stop_after_notes
from tests.studies import open_study_file

Command = Callable[[list[str]], int]

NEWER: Final = STUDY_FORMAT + 1
SEARCH: Final = (
    "+space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "proxy.epochs=1",
    "data.subset=100", "study.n_trials=1",
)  # fmt: skip
GRID: Final = (
    "phi=1", "baseline=mobilenetv2_035", "latency=macs", "data.subset=100", "proxy.resolution_px=8", "proxy.epochs=1",
    "proxy.width_multiplier=0.3", "proxy.min_map_px=1", "grid.alpha=[1.0,2.0]", "grid.beta=[1.0]", "grid.gamma=[1.0]",
    "race.seeds=1",
)  # fmt: skip
OPENERS: Final[dict[str, tuple[Command, tuple[str, ...]]]] = {
    "search": (search.command, (*SEARCH, "study.name=newer")),
    "compound_grid": (compound_grid.command, (*GRID, "study.name=newer-grid")),
    "first": (search.command, (*SEARCH, "study.name=next", "study.first=newer")),
    "report": (report.command, ("study=newer",)),
    "compare": (compare.command, ("older", "newer")),
}
REFUSAL: Final = (
    rf": the study is of format {NEWER}, nas {re.escape(__version__)} reads formats up to {STUDY_FORMAT}: "
    r"a newer version wrote it; upgrade nas to go on with it\.$"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two searches and a grid, all finished."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("older", "newer"):
            assert search.command([*SEARCH, f"study.name={name}"]) == 0
        assert compound_grid.command([*GRID, "study.name=newer-grid"]) == 0
    return folder


@pytest.fixture(autouse=True)
def in_a_copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Commands run on a copy of them."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def name_of(opener: str) -> str:
    return "newer-grid" if opener == "compound_grid" else "newer"


def raise_in_folder(name: str) -> None:
    path = Path("runs") / name / CONFIG_FILE
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f"format: {STUDY_FORMAT}\n", f"format: {NEWER}\n"), encoding="utf-8")
    assert path.read_text(encoding="utf-8").startswith(f"format: {NEWER}\n")


def raise_in_storage(name: str) -> None:
    study = open_study_file(name=name)
    assert system_attributes(study)[FORMAT_ATTRIBUTE] == STUDY_FORMAT
    set_system_attribute(study, FORMAT_ATTRIBUTE, NEWER)


def content() -> dict[str, bytes]:
    """All files, and of the database what it holds: opening one may move its pages between its files."""
    files = {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}
    database = sqlite3.connect("runs/optuna.db")
    dump = "\n".join(database.iterdump())
    database.close()
    return {**{name: text for name, text in files.items() if "optuna.db" not in name}, "dump": dump.encode()}


def refused(opener: str) -> str:
    """What the command says, having left everything as it was."""
    command, arguments = OPENERS[opener]
    before = content()
    with pytest.raises(NasError) as caught:
        command([*arguments])
    assert content() == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_newer_format_in_the_storage_is_refused(opener: str) -> None:
    name = name_of(opener)
    raise_in_storage(name)
    beginning = "study.first: " if opener == "first" else ""
    assert re.match(rf"{beginning}study '{name}' in sqlite:///runs/optuna\.db{REFUSAL}", refused(opener))
    (Path("runs") / name / CONFIG_FILE).unlink()  # as on another machine of the same storage
    assert re.match(rf"{beginning}study '{name}' in sqlite:///runs/optuna\.db{REFUSAL}", refused(opener))


@pytest.mark.parametrize("opener", [opener for opener in OPENERS if opener != "first"])
def test_a_newer_format_in_the_folder_is_refused(opener: str) -> None:
    name = name_of(opener)
    raise_in_folder(name)
    assert re.match(rf"runs/{name}/config\.yaml{REFUSAL}", refused(opener))


def test_several_studies_are_run_but_the_newer_one(capsys: pytest.CaptureFixture[str]) -> None:
    raise_in_storage("newer")
    before = content()
    assert search.command([*SEARCH, "study.name=newer,older", "--multirun"]) == 2
    said = capsys.readouterr()
    assert re.match(rf"error: study 'newer' in sqlite:///runs/optuna\.db{REFUSAL}", said.err.strip())
    assert "older: already finished" in said.out
    assert content() == before


def test_the_others_are_listed_and_it_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    raise_in_storage("newer")
    assert report.command([]) == 0
    said = capsys.readouterr()
    assert re.match(rf"skipped: study 'newer' in sqlite:///runs/optuna\.db{REFUSAL}", said.err.strip())
    assert [line.split()[0] for line in said.out.splitlines() if "search  " in line or "grid  " in line] == [
        "newer-grid",
        "older",
    ]
    assert [one["name"] for one in json_answer(report.command, capsys, ())["studies"]] == ["newer-grid", "older"]


@pytest.mark.parametrize("make_newer", [raise_in_folder, raise_in_storage])
def test_the_dashboard_writes_no_notes_of_it(
    make_newer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_after_notes(monkeypatch)
    make_newer("newer")
    shutil.rmtree("runs/artifacts")  # so that all notes are out of date
    study = open_study_file(name="newer")
    before = system_attributes(study)
    assert dashboard.command(["port=0"]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(rf"^notes not updated: .*newer.*{REFUSAL}", said, re.MULTILINE)) == 1
    assert "writing the notes of older ..." in said
    assert system_attributes(study) == before


@pytest.mark.parametrize("found", [NEWER, 0, -1, True, 1.0, "1", [1]])
def test_what_is_no_known_format_is_refused(found: object) -> None:
    with pytest.raises(NasError, match=r"^here: the study is of format .*, nas .* upgrade nas to go on with it\.$"):
        check_study_format("here", found)


def test_a_study_without_a_format_is_of_format_1() -> None:
    check_study_format("here", None)
    check_study_format("here", 1)


@pytest.mark.parametrize(
    ("opener", "revision", "remedy"),
    [
        *((opener, "v99.0.0.a", r"updating optuna to the latest version") for opener in [*OPENERS, "dashboard"]),
        ("list", "v2.6.0.a", r"optuna storage upgrade"),
    ],
)
def test_tables_of_another_optuna_are_refused(opener: str, revision: str, remedy: str) -> None:
    database = sqlite3.connect("runs/optuna.db")
    with database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])
    database.close()
    command, arguments = {**OPENERS, "dashboard": (dashboard.command, ()), "list": (report.command, ())}[opener]
    before = content()
    with pytest.raises(NasError) as caught:
        command([*arguments])
    assert content() == before
    pattern = rf"study\.storage 'sqlite:///runs/optuna\.db' cannot be opened: .*{remedy}.*\.$"
    assert re.match(pattern, str(caught.value)) and "\n" not in str(caught.value)


def test_a_journal_of_a_newer_optuna_is_refused() -> None:
    open_storage("journal:///new.journal").create_new_study([optuna.study.StudyDirection.MAXIMIZE], "s")
    path = Path("new.journal")
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"op_code": 99, "worker_id": "w", "study_id": 0}) + "\n")
    before = path.read_bytes()
    with pytest.raises(NasError, match=r"^study\.storage 'journal:///new\.journal': .*newer one wrote it: pip install"):
        open_storage("journal:///new.journal")
    assert path.read_bytes() == before
