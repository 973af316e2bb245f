"""A trial is stored once, with all that is known of it; samplers and other workers see what they saw before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.samplers import SAMPLERS, FixedSpaceSampler, make_sampler
from nas.methods.search.settings import SamplerSettings
from nas.methods.search.trials.screening import Screening
from nas.study.recovery import recover_trials
from nas.study.storage.opening import open_storage, open_study
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_attributes import trial_records
from nas.study.trial_loop import TrialTask, finish_trial, release_trial
from nas.study.trial_record import Outcome
from tests.study.fakes import PARETO, FakeEvaluator, make_search, new_study, small_space
from tests.study.storage.test_backends import Opened, proxy
from tests.study.storage.test_retry_policy import FakeTime, flaky_study

SPACE = {f"c{index}": CategoricalDistribution(list(range(10))) for index in range(6)}


def drawn(name: str, *, drafted: bool) -> list[tuple[Any, ...]]:
    """Trials of a study of two objectives, as a sampler of Optuna's draws and marks them."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for turn in range(12):
        sampler = make_sampler(SamplerSettings(name=name, startup=4, population=4), seed=0, trial=turn)
        study.sampler = FixedSpaceSampler(sampler, SPACE)
        if turn == 3:
            study.enqueue_trial({"c0": 7})
        if turn == 5:
            study.ask(SPACE)  # runs on: TPE is to keep away from it
        if drafted:
            draft = TrialDraft(study)
            assert (draft.ask(SPACE).number, draft.is_new) == (len(study.trials) - (turn == 3), turn != 3)
            trial = draft.store()
        else:
            trial = study.ask(SPACE)
        study.tell(trial.number, [trial.params["c0"] + trial.params["c1"], trial.params["c2"]])
    return [(trial.params, trial.distributions, trial.system_attrs, trial.values) for trial in study.trials]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_samplers_draw_the_same_as_for_a_trial_that_is_stored_first(name: str) -> None:
    assert drawn(name, drafted=True) == drawn(name, drafted=False)


def test_a_draft_is_running_for_its_sampler_and_unknown_to_others() -> None:
    seen = []

    class Seer(optuna.samplers.RandomSampler):
        def sample_independent(self, study: optuna.Study, trial: Any, *_: Any) -> Any:
            seen.append([(one.number, one.state) for one in study.get_trials(deepcopy=False)])
            return 0

    study = optuna.create_study(sampler=Seer())
    study.ask()
    draft = TrialDraft(study)
    draft.ask({"c0": SPACE["c0"]})
    assert seen == [[(0, TrialState.RUNNING), (1, TrialState.RUNNING)]]
    assert len(study.trials) == 1
    study.ask()  # another worker takes the number
    assert draft.store().number == 2
    assert [trial.params for trial in study.trials] == [{}, {}, {"c0": 0}]


def commits_of(search: SearchAskTell) -> list[str]:
    """Kinds of the statements that write, one text for each transaction of a database."""
    engine = open_engine(search.study)
    found: list[str] = []
    under_way: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT INTO", "UPDATE")):
            under_way.append(statement.replace("INSERT INTO ", "").replace("UPDATE ", "").split()[0])

    def end(_: Any) -> None:
        if under_way:
            found.append(" ".join(dict.fromkeys(under_way)))
        under_way.clear()

    sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    sqlalchemy.event.listen(engine, "commit", end)
    return found


def open_engine(study: optuna.Study) -> sqlalchemy.Engine:
    return study._storage.backend.engine


def test_a_trial_is_two_transactions_and_one_for_each_epoch(tmp_path: Path, opened: Opened) -> None:
    study = open_study(opened(f"sqlite:///{tmp_path / 'study'}"), "s", PARETO, {})
    evaluator = FakeEvaluator(epochs=2)
    search = make_search(small_space(), evaluator, study=study, n_trials=1, limits={"macs_m": 1000.0}, worker="w")
    commits = commits_of(search)
    search.run()
    whole = "trials trial_params trial_user_attributes trial_system_attributes"
    ended = "trial_user_attributes trial_values trials"
    assert commits == [whole, *["trial_intermediate_values"] * 2, ended]


def test_an_infeasible_candidate_is_one_transaction(tmp_path: Path, opened: Opened) -> None:
    study = open_study(opened(f"sqlite:///{tmp_path / 'study'}"), "s", PARETO, {})
    search = make_search(small_space(), FakeEvaluator(), study=study, limits={"macs_m": 1e-6})
    commits = commits_of(search)
    row = search.ask()
    assert not isinstance(row, TrialTask) and row.outcome is Outcome.INFEASIBLE  # type: ignore[union-attr]
    assert len(commits) == 1
    trial = study.trials[0]
    assert trial.state is TrialState.PRUNED and len(trial.params) == len(small_space().parameters)
    assert trial.constraints["macs_m"] > 0 and trial.user_attrs["reason"] and trial.datetime_complete is not None


def test_the_network_of_a_worker_that_was_killed_goes_to_the_next(opened: Opened, storage_url: str) -> None:
    study = open_study(opened(storage_url), "s", PARETO, {})
    task = make_search(small_space(), FakeEvaluator(), study=study, n_trials=1, worker="first").ask()
    assert isinstance(task, TrialTask)
    again = open_study(opened(storage_url), "s", PARETO, {})
    assert recover_trials(again) == 1
    evaluator = FakeEvaluator(epochs=1)
    make_search(small_space(), evaluator, study=again, n_trials=1, worker="second").run()
    assert evaluator.trained == [task.arch.arch_id]
    assert [(trial.number, trial.user_attrs["worker"]) for trial in study.trials] == [(0, "second")]
    assert [row.outcome for row in trial_records(study)] == [Outcome.TRAINED]


def test_two_workers_that_ask_at_the_same_moment_try_different_points(monkeypatch: pytest.MonkeyPatch) -> None:
    study = new_study()
    one, other = (make_search(small_space(), FakeEvaluator(), study=study, n_trials=9) for _ in range(2))
    ask, before = TrialDraft.ask, []

    def ask_while_another_does(draft: TrialDraft, *arguments: Any) -> optuna.trial.Trial:
        trial = ask(draft, *arguments)
        if not before:
            before.append(None)
            before.append(other.ask())  # draws by the same number, and stores its trial first
        return trial

    monkeypatch.setattr(TrialDraft, "ask", ask_while_another_does)
    task = one.ask()
    assert isinstance(task, TrialTask) and isinstance(before[1], TrialTask)
    assert (before[1].number, task.number) == (0, 1)
    assert study.trials[0].params != study.trials[1].params


def test_answers_that_are_lost_make_no_second_trial_and_no_second_end() -> None:
    backend, study = flaky_study(FakeTime())
    backend.unheard["create_new_trial"] = 1
    draft = TrialDraft(study)
    draft.ask(SPACE)
    finish_trial(draft.study, draft.trial, Outcome.INFEASIBLE, reason="too slow")
    backend.unheard["create_new_trial"] = 1
    draft = TrialDraft(study)
    draft.ask(SPACE)
    stored = draft.store()
    backend.unheard["set_trial_state_values"] = 1
    row = finish_trial(study, stored, Outcome.TRAINED, values=(0.5, 1.0), facts={"accuracy": 0.5})
    assert (row.number, row.accuracy) == (1, 0.5)
    assert [(trial.state, len(trial.params)) for trial in study.trials] == [
        (TrialState.PRUNED, len(SPACE)),
        (TrialState.COMPLETE, len(SPACE)),
    ]


def test_a_queued_trial_is_signed_before_it_is_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screening may measure for a while; a trial with another name, or none, is queued again by a supervisor."""
    study = new_study()
    first, second = (make_search(small_space(), FakeEvaluator(), study=study, worker=name) for name in ("1", "2"))
    names = []

    def note() -> None:
        names.append(study.trials[0].user_attrs["worker"])

    task = first.ask()
    assert isinstance(task, TrialTask)
    note()
    release_trial(study, task.trial_id)
    note()
    judge = Screening.judge
    monkeypatch.setattr(Screening, "judge", lambda *arguments: (note(), judge(*arguments))[1])
    again = second.ask()
    assert isinstance(again, TrialTask) and again.trial_id == task.trial_id
    assert names == ["1", "", "2"]


def test_a_search_through_a_proxy_ends_as_one_without(tmp_path: Path) -> None:
    pytest.importorskip("grpc")

    def found(url: str) -> list[tuple[Any, ...]]:
        storage = open_storage(url)
        study = open_study(storage, "s", PARETO, {})
        make_search(small_space(), FakeEvaluator(epochs=1), study=study, n_trials=2, limits={"macs_m": 0.2}).run()
        trials = [(trial.state, trial.params, trial.values, trial.constraints) for trial in study.trials]
        storage.close()
        return trials

    with proxy(f"sqlite:///{tmp_path / 'behind'}") as port:
        assert found(f"grpc://localhost:{port}") == found(f"sqlite:///{tmp_path / 'own'}")
