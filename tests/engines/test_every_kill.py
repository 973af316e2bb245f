"""A worker is killed before every single write of a short study in turn: what is left is always made whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from nas.engines.local import supervisor
from nas.estimators.settings import EstimatorSettings
from nas.methods.scaling.config import RaceSettings
from nas.methods.scaling.trial_attributes import training_of
from nas.methods.search.trials.initial_trials import queue_initial_trials
from nas.study.candidates import survey
from nas.study.config import EngineSettings
from nas.study.recovery import recover_trials
from nas.study.storage.opening import open_storage, open_study
from nas.study.trial_attributes import count_finished, trial_records
from nas.study.trial_record import COUNTED, Outcome, Role
from tests.engines.killable import WRITES, Puppet, Script, as_seen_by, at_work, trained_once
from tests.methods.scaling import fakes as grid
from tests.study.fakes import PARETO, FakeEvaluator, make_search, new_study, pricer, small_space

N_TRIALS = 3
N_SCORED = 6
STEP = 7
SCORED = EstimatorSettings(name="zero_cost", anchors=4, finalists=1, checks=1)
# Of the first candidates of this seed one is infeasible, and one repeats another network.
SEARCH: dict[str, Any] = {"n_trials": N_TRIALS, "seed": 5, "limits": {"latency_ms": 0.0195}}
FOUND = survey(pricer(small_space()), seed=0)
GRID = grid.make_plan(compare=("depth", "width", "compound"), race=RaceSettings(seeds=2, stop_share=0.0, last_epochs=2))
Life = Callable[[optuna.Study], None]


def search(study: optuna.Study, sampler: str = "random") -> None:
    """A search from its first queued trial to its last result, by one worker."""
    queue_initial_trials(study, FOUND, published={}, startup=1)
    make_search(small_space(), FakeEvaluator(epochs=2), study=study, sampler=sampler, **SEARCH).run()


def scored_search(study: optuna.Study, sampler: str = "tpe") -> None:
    """The same with an estimator: anchors, scored candidates, a finalist and a check."""
    queue_initial_trials(study, FOUND, published={}, startup=1)
    evaluator = FakeEvaluator(epochs=1)
    make_search(
        small_space(), evaluator, study=study, sampler=sampler, n_trials=N_SCORED, seed=5, estimator=SCORED
    ).run()


def lives(begin: Callable[[], optuna.Study], live: Life, step: int = 1) -> Iterator[optuna.Study]:
    """The studies that killed workers leave: before the first write, before the second, ... and the unbroken one.

    ``step``: at one of so many writes.
    """
    for life in range(0, 10_000, step):
        study = begin()
        mine = as_seen_by(study, life)
        try:
            live(mine)
        except SystemExit:
            yield study
        else:
            yield study
            return


def said(study: optuna.Study) -> list[tuple[str, str, str, float | None]]:
    """What came of the trials that count, oldest first."""
    rows = trial_records(study)
    return [(row.arch_id, row.outcome, row.reason.split(" trial ")[0], row.accuracy) for row in rows]


def check_whole(study: optuna.Study, n_trials: int) -> None:
    """All trials asked for, none RUNNING, no network trained twice, every number there and every end explained."""
    trials = study.trials
    assert count_finished(study) == n_trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.state for trial in trials} <= {*TrialState} - {TrialState.RUNNING}
    assert all("outcome" in trial.user_attrs for trial in trials if trial.state.is_finished())
    assert all(trial.values for trial in trials if trial.user_attrs.get("outcome") == Outcome.TRAINED)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_killed_at_any_write_ends_as_one_that_was_not(sampler: str) -> None:
    unbroken = new_study()
    search(unbroken, sampler)
    outcomes = [outcome for _, outcome, _, _ in said(unbroken)]
    assert set(outcomes) == {"trained", "infeasible", "duplicate"}, outcomes
    killed = 0
    for study in lives(new_study, lambda mine: search(mine, sampler)):
        killed += 1
        recover_trials(study)
        search(study, sampler)
        check_whole(study, N_TRIALS)
        assert said(study) == said(unbroken)
    assert killed > 10 * N_TRIALS


def test_a_search_with_an_estimator_killed_at_a_write_ends_as_one_that_was_not() -> None:
    """Prime to the number of writes of a trial, so that every kind of write is met."""
    unbroken = new_study()
    scored_search(unbroken)
    assert [row.role for row in trial_records(unbroken)][-2:] == [Role.FINALIST, Role.CHECK]
    for study in lives(new_study, scored_search, STEP):
        recover_trials(study)
        scored_search(study)
        check_whole(study, N_SCORED + 2)
        assert said(study) == said(unbroken)
        assert [row.role for row in trial_records(study) if row.outcome in COUNTED] == [
            row.role for row in trial_records(unbroken) if row.outcome in COUNTED
        ]


def test_every_write_is_one_commit_on_sqlite_so_that_no_kill_falls_within_one(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")
    study = open_study(storage, "study", PARETO, {})
    commits: list[object] = []
    sqlalchemy.event.listen(storage.backend.engine, "commit", commits.append)
    writes = {name: counted(storage.backend, name, commits) for name in (*WRITES, "write_trial")}
    search(study)
    commits_each = [count for counts in writes.values() for count in counts]
    assert len(commits_each) > 5 * N_TRIALS and set(commits_each) == {1}
    storage.close()


def counted(storage: Any, name: str, commits: list[object]) -> list[int]:
    """How often each call of the method ``name`` of ``storage`` commits, from now on."""
    real, counts = getattr(storage, name), []

    def call(*arguments: Any, **named: Any) -> Any:
        before = len(commits)
        answer = real(*arguments, **named)
        counts.append(len(commits) - before)
        return answer

    setattr(storage, name, call)
    return counts


@pytest.fixture(scope="module")
def entries() -> Any:
    return grid.entries_of(GRID)


def trainer(entries: Any) -> grid.FakeTrainer:
    return grid.FakeTrainer(entries, lambda label, repeat: 0.5 + 0.01 * repeat + 0.001 * len(label))


def raced(study: optuna.Study) -> list[tuple[str, int, str, float | None]]:
    return [(*training_of(trial), trial.user_attrs["outcome"], trial.value) for trial in study.trials]


def test_a_race_killed_at_any_write_ends_as_one_that_was_not(entries: Any) -> None:
    def race(study: optuna.Study) -> None:
        grid.make_race(GRID, entries, trainer(entries), study).run()

    unbroken = grid.new_study(GRID)
    race(unbroken)
    for study in lives(lambda: grid.new_study(GRID), race):
        recover_trials(study)
        race(study)
        check_whole(study, len(unbroken.trials))
        assert raced(study) == raced(unbroken)


def crew_of_two(study: optuna.Study, life: int, worker: Callable[[Puppet, optuna.Study], Script], total: int) -> bool:
    """A crew on ``study``; its first worker is killed before its write number ``life``, the others are immortal.

    False if the first one ended before that.
    """
    lifes = iter([life])
    puppets: list[Puppet] = []
    plan = SimpleNamespace(engine=EngineSettings(workers=2), latency=SimpleNamespace(refine=False))
    session: Any = SimpleNamespace(
        plan=plan,
        total=lambda _: total,
        is_complete=lambda study: count_finished(study) >= total,
        check_latencies=lambda *_: None,
    )
    progress: Any = SimpleNamespace(say=lambda _: None, on_trial=lambda _: None)

    def start(_plan: object, _work: object, place: int) -> Puppet:
        puppets.append(Puppet(place, lambda puppet: worker(puppet, as_seen_by(study, next(lifes, None)))))
        return puppets[-1]

    ticks = iter(range(10**6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "start_server", lambda _: None)
        patch.setattr(supervisor, "Worker", start)
        patch.setattr(supervisor, "wait", lambda *_: [])
        patch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
        supervisor.Supervisor(session, None, study, progress).run()  # type: ignore[arg-type]
    return puppets[0].exitcode == -9


def test_a_crew_of_a_search_goes_on_whenever_one_of_it_is_killed() -> None:
    def worker(puppet: Puppet, mine: optuna.Study) -> Script:
        evaluator = FakeEvaluator(epochs=2)
        search = replace(make_search(small_space(), evaluator, study=mine, **SEARCH), worker=puppet.name)
        yield from at_work(puppet, search, evaluator)

    for life in itertools.count():
        study = new_study()
        queue_initial_trials(study, FOUND, published={}, startup=1)
        killed = crew_of_two(study, life, worker, N_TRIALS)
        check_whole(study, N_TRIALS)
        trained_once(study, lambda trial: trial.user_attrs["arch_id"])
        if not killed:
            break
    assert life > 10 * N_TRIALS


def test_a_crew_of_a_race_goes_on_whenever_one_of_it_is_killed(entries: Any) -> None:
    unbroken = grid.new_study(GRID)
    race = grid.make_race(GRID, entries, trainer(entries), unbroken)
    race.run()

    def worker(puppet: Puppet, mine: optuna.Study) -> Script:
        one = replace(grid.make_race(GRID, entries, trainer(entries), mine), worker=puppet.name)
        yield from at_work(puppet, one, one.trainer)

    for life in itertools.count():
        study = grid.new_study(GRID)
        killed = crew_of_two(study, life, worker, len(unbroken.trials))
        check_whole(study, len(unbroken.trials))
        assert trained_once(study, training_of) == trained_once(unbroken, training_of)
        if not killed:
            break
    assert life > 10 * len(entries.by_label)
