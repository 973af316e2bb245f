"""Tests of dashboard notes and files: read back, replaced, user edits kept.

They are read back by Optuna and by optuna-dashboard.
"""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta
from optuna_dashboard import get_note, save_note
from optuna_dashboard.artifact._backend import list_study_artifacts, list_trial_artifacts

from nas.reporting.dashboard.board import DashboardBoard
from tests.reporting.dashboard_study import attributes


@pytest.fixture
def study() -> optuna.Study:
    study = optuna.create_study(study_name="s")
    for value in (1.0, 2.0):
        study.tell(study.ask(), value)
    return study


@pytest.mark.parametrize("length", [1, 2000, 2045, 2046, 9000])
def test_optuna_dashboard_reads_the_note(study: optuna.Study, tmp_path: Path, length: int) -> None:
    board = DashboardBoard.of(study, tmp_path)
    for text in ("x" * length, "é|" * length, "short"):
        assert board.write_note(text)
        assert get_note(study) == board.note() == DashboardBoard.of(study, tmp_path).note()
        assert get_note(study).startswith(f"{text}\n\n[//]: # (nas ")


def test_a_note_is_written_once_and_replaced_with_a_new_version(study: optuna.Study, tmp_path: Path) -> None:
    trial = study.trials[1]
    assert DashboardBoard.of(study, tmp_path).write_note("one", trial)
    before = attributes(study)
    assert not DashboardBoard.of(study, tmp_path).write_note("one", trial) and attributes(study) == before
    assert DashboardBoard.of(study, tmp_path).write_note("two", trial)
    assert attributes(study)[f"dashboard:{trial._trial_id}:note_ver"] == 2
    assert (
        DashboardBoard.of(study, tmp_path).note(trial).startswith("two\n")
        and not DashboardBoard.of(study, tmp_path).note()
    )


@pytest.mark.parametrize("changed", ["mine", "one, and a word of mine"])
def test_what_a_person_wrote_stays(study: optuna.Study, tmp_path: Path, changed: str) -> None:
    DashboardBoard.of(study, tmp_path).write_note("one")
    mine = get_note(study).replace("one", changed)
    save_note(study, mine)
    assert not DashboardBoard.of(study, tmp_path).write_note("two") and get_note(study) == mine


def test_files_of_a_study_are_optuna_s(study: optuna.Study, tmp_path: Path) -> None:
    board = DashboardBoard.of(study, tmp_path / "artifacts")
    assert not board.has("a.svg")
    address = board.attach("a.svg", b"<svg/>")
    board.attach("a.svg", b"<svg></svg>")
    assert DashboardBoard.of(study, tmp_path / "artifacts").has("a.svg")
    (meta,) = get_all_artifact_meta(study)
    assert (meta.filename, meta.mimetype) == ("a.svg", "image/svg+xml")
    assert address == f"/artifacts/{study._study_id}/{meta.artifact_id}" == board.address("a.svg")
    store = FileSystemArtifactStore(tmp_path / "artifacts")
    download_artifact(artifact_store=store, artifact_id=meta.artifact_id, file_path=str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"<svg></svg>"


def test_files_of_different_trials_are_separate(study: optuna.Study, tmp_path: Path) -> None:
    board = DashboardBoard.of(study, tmp_path)
    for trial in study.trials:
        board.attach("a.yaml", f"{trial.number}".encode(), trial)
    for trial in study.trials:
        (meta,) = list_trial_artifacts(attributes(study), trial.system_attrs, trial)
        assert (tmp_path / meta["artifact_id"]).read_bytes() == f"{trial.number}".encode()
    assert not list_study_artifacts(attributes(study))


def test_a_file_that_was_lost_is_missed(study: optuna.Study, tmp_path: Path) -> None:
    board = DashboardBoard.of(study, tmp_path)
    board.attach("a.svg", b"<svg/>")
    next(tmp_path.iterdir()).unlink()
    assert not board.has("a.svg")


def test_only_files_of_ours_are_taken_away(study: optuna.Study, tmp_path: Path) -> None:
    board = DashboardBoard.of(study, tmp_path)
    board.attach("winner_1.svg", b"1")
    board.attach("winner_2.svg", b"2")
    theirs = {"artifact_id": "0f", "filename": "winner_3.svg", "mimetype": "image/svg+xml", "encoding": None}
    study._storage.set_study_system_attr(study._study_id, "artifacts:0f", json.dumps(theirs))
    DashboardBoard.of(study, tmp_path).remove_except({"winner_1.svg"})
    DashboardBoard.of(study, tmp_path).remove_except({"winner_1.svg"})
    assert [meta["filename"] for meta in list_study_artifacts(attributes(study))] == ["winner_1.svg", "winner_3.svg"]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"1"]
    assert DashboardBoard.of(study, tmp_path).attach("winner_2.svg", b"2")
