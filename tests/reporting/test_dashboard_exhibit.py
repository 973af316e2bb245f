"""Tests of a search's dashboard content through the dashboard's server.

Notes, drawings, specs, and the limits on their number.
"""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import pytest
from optuna.trial import TrialState

from nas.arch.files import load_spec_file, parse_spec
from nas.methods.search.dashboard import write_search_notes
from nas.reporting.dashboard import exhibit
from nas.reporting.dashboard.board import ARTIFACTS, DashboardBoard
from nas.reporting.dashboard.exhibit import noted_trials
from nas.reporting.search_report import SearchReport
from nas.reporting.search_summary import search_summary
from nas.study.trial_attributes import distributions
from nas.study.trial_record import Outcome, TrialRecord
from tests.deadline import DEADLINE_S
from tests.reporting.dashboard_study import OneWorker, attributes, made_search, report_of, served, show


class Shown(NamedTuple):
    """A search whose notes and files were made, and what the server says of it."""

    search: OneWorker
    report: SearchReport
    runs_dir: Path
    address: str
    response: dict[str, Any]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    runs_dir = tmp_path_factory.mktemp("runs")
    search = made_search(runs_dir)
    report = show(search, runs_dir)
    with served(runs_dir) as address:
        yield Shown(search, report, runs_dir, address, json.loads(get(f"{address}/api/studies/1")))


def get(address: str) -> bytes:
    with urlopen(address, timeout=DEADLINE_S) as response:
        return bytes(response.read())


def test_the_study_has_its_note_metrics_and_winners(small: Shown) -> None:
    response, report = small.response, small.report
    note = response["note"]["body"]
    assert note.startswith("# Search small\n") and report.command in note and "| limits | latency" in note
    assert response["objective_names"] == ["accuracy", "latency_ms"] and response["directions"] == [
        "maximize",
        "minimize",
    ]
    names = [meta["filename"] for meta in response["artifacts"]]
    winners = [f"winner_{index}{end}" for index in range(1, len(report.winners) + 1) for end in (".svg", ".yaml")]
    assert sorted(names) == sorted(["pareto.svg", *winners]) and report.winners
    for meta in response["artifacts"]:
        address = f"/artifacts/1/{meta['artifact_id']}"
        content = get(small.address + address)
        assert f"]({address})" in note
        if meta["filename"].endswith(".svg"):
            assert "width" in ET.fromstring(content).attrib
        else:
            (winner,) = [one for one in report.winners if f"{one.arch.name}.yaml" == meta["filename"]]
            assert parse_spec(content.decode()).arch == winner.arch
    for winner in report.winners:
        assert f"[trial {winner.row.number}](/dashboard/studies/1/trials?numbers={winner.row.number})" in note


def test_the_first_page_lists_the_study_s_facts_and_no_internals(small: Shown) -> None:
    facts = {one["key"]: one["value"] for one in small.response["user_attrs"]}
    assert facts == {
        "in short": search_summary(small.report.rows),
        "go on with": small.report.command,
        **dict(small.report.facts),
    }


def test_every_trial_has_its_note_drawing_and_spec(small: Shown) -> None:
    rows = {row.number: row for row in small.report.rows}
    assert {row.outcome for row in rows.values()} >= {Outcome.TRAINED, Outcome.INFEASIBLE}
    assert len(small.response["trials"]) == len(rows)
    for trial in small.response["trials"]:
        row, note = rows[trial["number"]], trial["note"]["body"]
        assert row.arch_id in note and all(block in note for block in row.blocks.replace(";", "").split())
        label = small.report.label_of.get(row.number)
        assert (f"**Winner {label}.**" in note) is (label is not None)
        spec, drawing = trial["artifacts"]
        assert (drawing["mimetype"], spec["filename"]) == ("image/svg+xml", f"trial_{row.number}.yaml")
        path = f"{small.address}/artifacts/1/{trial['trial_id']}"
        assert b"<svg" in get(f"{path}/{drawing['artifact_id']}")
        assert f"](/artifacts/1/{trial['trial_id']}/{drawing['artifact_id']})" in note
        found = parse_spec(get(f"{path}/{spec['artifact_id']}").decode())
        assert found.arch.arch_id == row.arch_id and found.provenance["trial"] == row.number


def test_learning_curves_stand_in_notes_of_several_objectives(small: Shown) -> None:
    for trial in small.response["trials"]:
        assert ("after epoch 3" in trial["note"]["body"]) is (len(trial["intermediate_values"]) == 3)


def test_no_attribute_of_a_trial_widens_the_page(small: Shown) -> None:
    for trial in small.response["trials"]:
        assert all(len(attribute["key"] + attribute["value"]) < 120 for attribute in trial["user_attrs"])


def test_showing_it_again_writes_nothing(small: Shown) -> None:
    before, files = attributes(small.search.study), sorted((small.runs_dir / ARTIFACTS).iterdir())
    show(small.search, small.runs_dir)
    assert attributes(small.search.study) == before and sorted((small.runs_dir / ARTIFACTS).iterdir()) == files


def test_a_trial_that_began_behind_the_report_waits_for_the_next_time(tmp_path: Path) -> None:
    search = made_search(tmp_path, trials=2)
    report = report_of(search)
    running = search.study.ask(distributions(search.pricer.space.parameters))
    show(search, tmp_path, report)
    assert not any(key.startswith(f"dashboard:{running._trial_id}:") for key in attributes(search.study))
    assert exhibit.is_up_to_date(search.study, tmp_path / ARTIFACTS)  # nothing is written for it until it ends
    running.set_user_attr("outcome", Outcome.FAILED.value)
    search.study.tell(running, state=TrialState.FAIL)
    assert not exhibit.is_up_to_date(search.study, tmp_path / ARTIFACTS)
    show(search, tmp_path)
    assert exhibit.is_up_to_date(search.study, tmp_path / ARTIFACTS)


def test_winners_whose_files_are_being_replaced_are_shown_all_the_same(tmp_path: Path) -> None:
    search = made_search(tmp_path, trials=2)
    report = show(search, tmp_path, replace(report_of(search), winners=()))
    folder = tmp_path / search.study.study_name
    write_search_notes(search.study, report_of(search), search.pricer, folder, tmp_path / ARTIFACTS)
    assert not report.winners and not list((folder / "winners").iterdir())
    stands = [json.loads(str(value)) for key, value in attributes(search.study).items() if key.startswith("artifacts:")]
    assert {facts["filename"] for facts in stands} >= {"winner_1.yaml", "winner_1.svg"}


def test_winners_of_before_are_winners_no_more(tmp_path: Path) -> None:
    search = made_search(tmp_path, trials=4)
    many = show(search, tmp_path)
    assert len(many.winners) > 1
    few = show(search, tmp_path, report_of(search, best=1))
    stands = [value for key, value in attributes(search.study).items() if key.startswith("artifacts:")]
    assert len([text for text in stands if json.loads(str(text))]) == 1 + 2 * len(few.winners)
    folder = tmp_path / "small" / "winners" / "winner_1.yaml"
    assert load_spec_file(folder).arch.name == "winner_1"


def test_a_journal_is_shown_as_a_database_is(tmp_path: Path) -> None:
    url = f"journal:///{tmp_path / 'optuna.journal'}"
    search = made_search(tmp_path, trials=2, url=url)
    report = show(search, tmp_path)
    with served(tmp_path, url) as address:
        (study,) = json.loads(get(f"{address}/api/studies"))["study_summaries"]
        response = json.loads(get(f"{address}/api/studies/{study['study_id']}"))
    assert response["note"]["body"].startswith("# Search small") and len(response["trials"]) == len(report.rows)
    assert all(len(trial["artifacts"]) == 2 for trial in response["trials"])


def test_of_many_trials_the_winners_the_failed_and_the_newest_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exhibit, "NEWEST", 5)
    monkeypatch.setattr(exhibit, "NEWEST_FAILED", 2)
    rows = [TrialRecord(number=n, outcome=Outcome.FAILED if n % 10 == 3 else Outcome.TRAINED) for n in range(50)]
    assert noted_trials(rows, {0, 17}) == [0, 17, 33, 43, 45, 46, 47, 48, 49]
    assert noted_trials(rows[:3], ()) == [0, 1, 2]


def test_omitted_trials_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exhibit, "NEWEST", 1)
    search = made_search(tmp_path, trials=3)
    report = show(search, tmp_path)
    note = DashboardBoard.of(search.study, tmp_path).note()
    assert f"of {len(report.rows)} trials have a note and a drawing" in note


def test_an_update_that_is_ended_early_is_made_again(tmp_path: Path) -> None:
    search, folder, artifacts = made_search(tmp_path, trials=2), tmp_path / "small", tmp_path / ARTIFACTS
    report = show(search, tmp_path)
    assert exhibit.is_up_to_date(search.study, artifacts)
    shutil.rmtree(artifacts)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write_search_notes(search.study, report, search.pricer, folder, artifacts, on_note=stop)
    assert not exhibit.is_up_to_date(search.study, artifacts)
    write_search_notes(search.study, report, search.pricer, folder, artifacts)
    assert exhibit.is_up_to_date(search.study, artifacts)
