"""Tests of evaluations made elsewhere: read from earlier studies, stored in a study, and resumed from it."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from optuna.trial import TrialState

from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.methods.search.config import SearchPlan
from nas.methods.search.settings import SamplerSettings, StudySettings
from nas.methods.search.trials import prior_evaluations as stored
from nas.methods.search.trials.prior_evaluations import (
    PriorEvaluation,
    check_sources,
    prior_evaluations,
    read_evaluation_lists,
    read_prior_evaluations,
    record_evaluation_lists,
    record_prior_evaluations,
    source_changes,
    stored_counts,
)
from nas.search import command
from nas.study.storage.attributes import set_system_attribute, system_attributes
from nas.study.storage.opening import open_storage, open_study
from nas.study.trial_record import Outcome
from search_spaces.blockwise import BlockwiseSpace
from tests.study.fakes import PARETO, accuracy_of, make_plan, mobilenet_v1, new_study, small_space

CHUNK: Final = 30_000  # bytes that an attribute may have


def evaluations(space: Any, count: int, source: str = "file.csv") -> list[PriorEvaluation]:
    rng = random.Random(count)
    return [
        PriorEvaluation(
            genotype=space.sample(rng),
            accuracy=round(rng.random(), 6),
            source=source,
            standard_error=rng.choice([None, 0.01]),
        )
        for _ in range(count)
    ]


def width_space(*width: float, **changes: Any) -> BlockwiseSpace:
    """A space of a few MobileNetV1-like networks, of different widths."""
    return BlockwiseSpace(**space_config(*width, **changes))


def space_config(*width: float, **changes: Any) -> dict[str, Any]:
    stages = [{"channels": 16, "kernel": [3, 5], "expansion": 3}]
    given = {"width": list(width), "resolution_px": 32, "stem": {"channels": 16}, "head": {"channels": 32}}
    return {"name": "wide", "stages": stages, **given, **changes}


def plan_of(folder: Path, config: Mapping[str, Any], **study: Any) -> SearchPlan:
    """Plan of a search in ``folder`` of the space that ``config`` describes."""
    return make_plan(
        BlockwiseSpace(**config),
        space_config={"_target_": "search_spaces.blockwise.BlockwiseSpace", **config},
        runs_dir=folder,
        sampler=SamplerSettings(name="guided"),
        study=StudySettings(**study),
    )


def run_earlier(plan: SearchPlan, outcomes: Mapping[Outcome, int]) -> list[dict[str, Any]]:
    """Make the study of ``plan`` with so many trials of each outcome; genotypes of those that were evaluated."""
    study = open_study(open_storage(plan.storage_url), plan.name, PARETO, plan.identity("device"))
    points = itertools.product(*plan.space.parameters.values())
    genotypes = (dict(zip(plan.space.parameters, point, strict=True)) for point in points)
    kept = []
    for outcome, count in outcomes.items():
        for genotype in itertools.islice(genotypes, count):
            study.enqueue_trial(genotype)
            trial = study.ask()
            for name, choices in plan.space.parameters.items():
                trial.suggest_categorical(name, choices)
            facts = {"accuracy": 0.5, "standard_error": 0.01} if outcome is Outcome.TRAINED else {}
            facts |= {"estimated_accuracy": 0.25, "estimate_error": 0.1} if outcome is Outcome.SCORED else {}
            for name, value in {"outcome": outcome, "arch_id": "a", "latency_ms": 1.0, **facts}.items():
                trial.set_user_attr(name, value)
            study.tell(trial, state=TrialState.FAIL if not facts else None, values=[0.5, 1.0] if facts else None)
            kept += [genotype] if facts else []
    return kept


def test_places_are_distinct_and_lead_back_to_the_choices() -> None:
    """All 288 points of the space, whose places must be the numbers below 288."""
    parameters = small_space().parameters
    points = [dict(zip(parameters, values, strict=True)) for values in itertools.product(*parameters.values())]
    places = [stored._place(point, parameters) for point in points]
    assert sorted(int(place, 36) for place in places) == list(range(288))
    assert [stored._genotype(place, parameters) for place in places] == points
    shuffled = dict(reversed(parameters.items()))
    assert stored._place(points[100], shuffled) == places[100]


def test_evaluations_are_read_back_from_attributes_that_fit_every_database() -> None:
    space = small_space()
    study = new_study()
    assert prior_evaluations(study, space.parameters) == ()
    sources = ["ä" * 100 + str(number) for number in range(60)]  # six bytes each in JSON
    given = [one for source in sources for one in evaluations(space, 30, source)]
    record_prior_evaluations(study, given, space.parameters)
    assert prior_evaluations(study, space.parameters) == tuple(given)
    sizes = [len(json.dumps(value)) for value in system_attributes(study).values()]
    assert 0.9 * CHUNK < max(sizes) <= CHUNK
    assert sum(sizes) < 1.1 * sum(map(len, map(json.dumps, sources))) + 40 * len(given)


@pytest.mark.parametrize("writes", range(3))
def test_a_start_that_was_killed_has_all_evaluations_with_their_origin_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    file = tmp_path / "file.csv"
    file.write_text("width,resolution_px,accuracy\n1.0,224,0.709\n", encoding="utf-8")
    plan = make_plan(mobilenet_v1(), sampler=SamplerSettings(name="guided"), study=StudySettings(evaluated=str(file)))
    study, left = new_study(), [None] * writes

    def write(*arguments: Any) -> None:
        left.pop()  # raises IndexError at the write before which the process is killed
        set_system_attribute(*arguments)

    monkeypatch.setattr(stored, "set_system_attribute", write)
    with contextlib.suppress(IndexError):
        record_evaluation_lists(study, plan, read_evaluation_lists(plan))
    learned = prior_evaluations(study, plan.space.parameters)
    assert len(learned) == (writes == 2)  # one chunk and the header
    assert bool(stored_counts(study)) == bool(learned)


def test_a_study_of_another_space_is_not_misread() -> None:
    study = new_study()
    record_prior_evaluations(study, evaluations(small_space(), 3), small_space().parameters)
    with pytest.raises(NasError, match="study 'fake': its earlier evaluations are of a space of 288 points, not of 16"):
        prior_evaluations(study, mobilenet_v1().parameters)


def test_too_many_evaluations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MAX_EVALUATIONS", 2)
    with pytest.raises(NasError, match=r"study\.evaluated, study\.learn_from: 3 evaluated networks; .* at most 2"):
        record_prior_evaluations(new_study(), evaluations(small_space(), 3), small_space().parameters)


def test_an_earlier_study_contributes_what_it_evaluated(tmp_path: Path) -> None:
    config = space_config(0.5, 1.0, 2.0)
    counts = {Outcome.FAILED: 1, Outcome.TRAINED: 3, Outcome.SCORED: 2}
    kept = run_earlier(plan_of(tmp_path, config, name="earlier"), counts)
    plan = plan_of(tmp_path, config, name="next", learn_from=["earlier"])
    check_sources(plan)
    found = read_prior_evaluations(plan)
    assert [one.genotype for one in found] == kept
    assert [(one.accuracy, one.standard_error, one.source) for one in found] == [
        *[(0.5, 0.01, "earlier")] * 3,
        *[(0.25, 0.1, "earlier (estimated)")] * 2,
    ]
    study = new_study()
    record_evaluation_lists(study, plan, read_evaluation_lists(plan))
    assert stored_counts(study) == "5 evaluated networks: 5 of study earlier (2 estimated)"
    assert source_changes(study, plan) == []


def test_networks_that_a_changed_space_lacks_are_left_out(tmp_path: Path) -> None:
    """Of six networks, two at each width; a further choice of the new space has the value that was fixed before."""
    earlier = plan_of(tmp_path, space_config(0.5, 1.0, 2.0), name="earlier")
    run_earlier(earlier, {Outcome.TRAINED: 6})
    changed = space_config(1.0, 2.0, resolution_px=[16, 32])
    (found,) = read_evaluation_lists(plan_of(tmp_path, changed, learn_from=["earlier"]))
    assert found.note == "2 left out, which are not in space wide"
    networks = {(one.genotype["width"], one.genotype["resolution_px"]) for one in found.evaluations}
    assert len(found.evaluations) == 4 and networks == {(1.0, 32), (2.0, 32)}
    with pytest.raises(NasError, match=r"study\.learn_from 'earlier': none of its 6 networks is in .* stem"):
        read_evaluation_lists(plan_of(tmp_path, space_config(0.75), learn_from=["earlier"]))


def test_studies_that_cannot_be_learned_from(tmp_path: Path) -> None:
    run_earlier(plan_of(tmp_path, space_config(0.5, 1.0), name="failed"), {Outcome.FAILED: 1})
    v1 = make_plan(
        mobilenet_v1(), space_config={"_target_": "V1", "name": "v1"}, runs_dir=tmp_path, study=StudySettings(name="v1")
    )
    run_earlier(v1, {Outcome.TRAINED: 1})
    open_study(open_storage(v1.storage_url), "grid", PARETO, {"grid.phi": 1})
    for name, message in {
        "failed": "'failed': has no evaluated network yet; run it first",
        "v1": r"'v1': is of space 'v1' \(V1\), this search of 'wide' \(search_spaces.*\); give studies of the same",
        "grid": "'grid': is not a search",
        "nobody": ": study 'nobody': is not in sqlite:.*; there are failed, grid, v1",
    }.items():
        plan = plan_of(tmp_path, space_config(0.5, 1.0), learn_from=[name])
        with pytest.raises(NasError, match=rf"^study\.learn_from ?{message}"):
            check_sources(plan)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"learn_from": "a"}, r"^study\.learn_from 'a': must be a list of names of studies, such as \[a\]"),
        ({"learn_from": [1]}, r"^study\.learn_from \[1\]: must be a list of names of studies"),
        ({"learn_from": list(map(str, range(51)))}, r"^study\.learn_from: 51 studies; give at most 50"),
        ({"learn_from": ["a", "a"]}, r"^study\.learn_from: 'a' is given twice"),
        ({"learn_from": ["runs/a"]}, r"^study\.learn_from 'runs/a': must be .*; of another one give .* trials\.csv"),
        ({"learn_from": ["me"], "name": "me"}, r"^study\.learn_from 'me': is this study itself"),
    ],
)
def test_names_of_studies_are_checked(study: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        make_plan(mobilenet_v1(), sampler=SamplerSettings(name="guided"), study=StudySettings(**study))


@pytest.mark.parametrize("study", [{"evaluated": "file.csv"}, {"learn_from": ["a"]}])
def test_a_sampler_that_does_not_learn_is_refused(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    message = r"^study\.\w+: sampler tpe does not learn from earlier evaluations; add sampler=guided\.$"
    with pytest.raises(NasError, match=message):
        make_plan(mobilenet_v1(), sampler=SamplerSettings(name="tpe"), study=StudySettings(**study))


def test_what_is_stored_counts_when_the_sources_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("file.csv")
    rows = "width,resolution_px,accuracy\n1.0,224,0.709\n"
    file.write_text(rows, encoding="utf-8")
    plans = {
        name: make_plan(mobilenet_v1(), sampler=SamplerSettings(name="guided"), study=StudySettings(evaluated=name))
        for name in ("file.csv", "other.csv")
    }
    plan, study = plans["file.csv"], new_study()
    record_evaluation_lists(study, plan, read_evaluation_lists(plan))
    before = prior_evaluations(study, plan.space.parameters)
    assert source_changes(study, plan) == []
    file.rename("other.csv")
    assert source_changes(study, plans["other.csv"]) == []  # the same content under another name
    (gone,) = source_changes(study, plan)
    assert gone.startswith("note: study.evaluated: cannot read 'file.csv': No such file") and gone.endswith("count")
    Path("other.csv").write_text(f"{rows}0.5,160,0.591\n", encoding="utf-8")
    with pytest.raises(NasError, match=r"study\.evaluated 'other\.csv': .* was started with 'file\.csv', and keeps"):
        source_changes(study, plans["other.csv"])
    Path("other.csv").rename(file)
    (changed,) = source_changes(study, plan)
    assert changed.startswith("note: file.csv has changed since the study was started; ")
    assert prior_evaluations(study, plan.space.parameters) == before
    with pytest.raises(NasError, match=r"study\.evaluated 'file\.csv': .* was started without, and keeps"):
        source_changes(new_study(), plan)


def test_a_search_reads_stores_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user types it: a mistake first, then two runs between which the file disappears."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        ProxyEvaluator,
        "evaluate",
        lambda _, arch, **__: Evaluation(accuracy=accuracy_of(arch), cpu_s=0.1, duration_s=0.1),
    )
    file = Path("file.csv")
    arguments = [
        "space=mobilenet_v1", "latency=macs", "estimator=proxy", "data=digits", "proxy=tiny", "data.subset=100",
        "sampler=guided", "study.name=mine", f"study.evaluated={file}",
    ]  # fmt: skip
    file.write_text("width,resolution_px,accuracy\n1.0,224,70.9\n", encoding="utf-8")
    with pytest.raises(NasError, match=r"^study\.evaluated: file\.csv, line 2: accuracy '70\.9': .* divide percents"):
        command([*arguments, "study.n_trials=1"])
    assert not Path("runs").exists()
    file.write_text("width,resolution_px,accuracy\n1.0,224,.709\n0.5,160,.591\n", encoding="utf-8")
    assert command([*arguments, "study.n_trials=1"]) == 0
    assert "learning from 2 evaluated networks: 2 of file.csv\n" in capsys.readouterr().out
    report = Path("runs/mine/report.html").read_text(encoding="utf-8")
    assert "2 evaluated networks: 2 of file.csv" in report
    file.unlink()
    assert command([*arguments, "study.n_trials=2"]) == 0
    out = capsys.readouterr().out
    assert "learning from 2 evaluated networks: 2 of file.csv\nnote: study.evaluated: cannot read 'file.csv'" in out
    Path("other.csv").write_text("width,resolution_px,accuracy\n1.0,224,.4\n", encoding="utf-8")
    with pytest.raises(NasError, match=r"^study\.evaluated 'other\.csv': .* was started with 'file\.csv'"):
        command([*arguments[:-1], "study.evaluated=other.csv", "study.n_trials=2"])  # all of its trials are done


def test_a_missing_file_is_reported_unless_the_study_has_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, space_config(0.5, 1.0), name="mine", evaluated="none.csv")
    for check in (plan.check_files, lambda: check_sources(plan)):
        with pytest.raises(NasError, match=r"^study\.evaluated: cannot read 'none\.csv'"):
            check()
    study = open_study(open_storage(plan.storage_url), plan.name, PARETO, plan.identity("device"))
    plan.check_files()  # the study may be there
    with pytest.raises(NasError, match=r"^study\.evaluated: cannot read 'none\.csv'"):
        check_sources(plan)
    set_system_attribute(study, stored.QUEUED_MARK, True)
    check_sources(plan)
