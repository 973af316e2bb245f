"""Tests of the search loop on a small real space with invented accuracies.

Which candidates are trained, what Optuna is told, and that a search resumes.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState

from nas.arch import zoo
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.methods.search.trials.initial_trials import queue_initial_trials
from nas.study.candidates import survey
from nas.study.objective import ObjectiveSettings
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_attributes import count_finished, trial_records
from nas.study.trial_loop import Idle, TrialTask, finish_without_result
from nas.study.trial_record import Outcome
from nas.training.results import TrainingError
from tests.study.fakes import (
    PARETO,
    FakeEvaluator,
    accuracy_of,
    epoch_result,
    make_search,
    mobilenet_v1,
    new_study,
    pricer,
    small_space,
)

REWARD = ObjectiveSettings(kind="mnasnet", target_ms=0.05)


def sorted_costs() -> list[float]:
    """Multiply-adds in millions of all points of the small space, in order."""
    prices = pricer(small_space())
    names, choices = zip(*prices.space.parameters.items(), strict=True)
    points = (dict(zip(names, values, strict=True)) for values in itertools.product(*choices))
    return sorted(prices.price(point).measures["macs_m"] for point in points)


def test_an_infeasible_candidate_is_told_and_never_trained() -> None:
    costs = sorted_costs()
    limit = costs[len(costs) // 4]
    evaluator = FakeEvaluator()
    search = make_search(small_space(), evaluator, n_trials=8, limits={"macs_m": limit, "params_m": 1.0})
    search.run()
    infeasible = [row for row in trial_records(search.study) if row.outcome is Outcome.INFEASIBLE]
    assert infeasible and not {row.arch_id for row in infeasible} & set(evaluator.trained)
    for row in infeasible:
        trial = search.study.trials[row.number]
        assert trial.state is TrialState.PRUNED and trial.values is None
        assert row.reason == f"macs_m {row.macs_m:.4g} > {limit:g}"
        assert row.accuracy is None
    # Optuna 5 reads the constraint by name, its dashboard a list in the order of the limits.
    for trial in search.study.trials:
        excess = [trial.user_attrs["macs_m"] / limit - 1, trial.user_attrs["params_m"] / 1.0 - 1]
        assert trial.system_attrs["constraints"] == pytest.approx(excess)
        assert trial.constraints["macs_m"] == pytest.approx(excess[0])
        assert (max(excess) > 0) == (trial.state is TrialState.PRUNED)
    assert search.study.best_trials
    assert all(trial.user_attrs["macs_m"] <= limit for trial in search.study.best_trials)


def test_without_limits_no_constraint_is_written() -> None:
    search = make_search(small_space(), FakeEvaluator(), n_trials=2)
    search.run()
    assert all(not trial.constraints for trial in search.study.trials)


def test_a_network_is_trained_once_however_it_is_spelt() -> None:
    evaluator = FakeEvaluator()
    search = make_search(small_space(), evaluator, n_trials=40)
    search.run()
    assert max(Counter(evaluator.trained).values()) == 1
    rows = trial_records(search.study)
    duplicates = [row for row in rows if row.outcome is Outcome.DUPLICATE]
    # An absent block's kernel and expansion do not count: 6 spellings of a third of the space, so that 40 distinct
    # networks out of 8 * 4 * 13 are hardly ever drawn without a repeat.
    assert duplicates
    first = {row.arch_id: row for row in rows if row.outcome is Outcome.TRAINED}
    for row in duplicates:
        twin = first[row.arch_id]
        assert (row.accuracy, row.latency_ms) == (twin.accuracy, twin.latency_ms)
        assert row.reason == f"same as trial {twin.number}"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("a\nbroken kernel"), "RuntimeError: a broken kernel"),
        (TrainingError("loss became nan at epoch 1"), "TrainingError: loss became nan at epoch 1"),
        (MemoryError(), "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory. " + "x" * 9999), "OutOfMemoryError: CUDA out of memory."),
    ],
    ids=["exception", "nan", "memory", "gpu-memory"],
)
def test_a_failing_candidate_is_one_failed_trial(error: Exception, reason: str) -> None:
    def trouble(call: int, _: ArchSpec) -> None:
        if call == 2:
            raise error

    evaluator = FakeEvaluator(trouble)
    search = make_search(small_space(), evaluator, n_trials=5)
    search.run()
    (failed,) = [row for row in trial_records(search.study) if row.outcome is Outcome.FAILED]
    assert failed.reason.startswith(reason) and len(failed.reason) <= 500 and "\n" not in failed.reason
    assert search.study.trials[failed.number].state is TrialState.FAIL
    assert len(evaluator.trained) == 4 and count_finished(search.study) == 5


def test_a_finished_study_is_left_alone_and_goes_on_for_more() -> None:
    first = make_search(small_space(), FakeEvaluator(), n_trials=4)
    first.run()
    again = FakeEvaluator()
    make_search(small_space(), again, study=first.study, n_trials=4).run()
    assert again.trained == []
    make_search(small_space(), again, study=first.study, n_trials=6).run()
    assert len(again.trained) == 2


def test_a_space_used_up_by_the_last_trial_is_a_success() -> None:
    evaluator = FakeEvaluator()
    make_search(mobilenet_v1(), evaluator, n_trials=16, max_screened=10_000).run()
    assert len(evaluator.trained) == 16


def test_a_search_that_finds_nothing_new_gives_up_in_words() -> None:
    limit = sorted_costs()[0] * 0.5
    evaluator = FakeEvaluator()
    search = make_search(small_space(), evaluator, n_trials=3, max_screened=7, limits={"macs_m": limit})
    with pytest.raises(
        NasError, match=r"0 of 3 trials: of the last 7 candidates of sampler random 7 were infeasible and 0"
    ):
        search.run()
    assert len(search.study.trials) == 7 and evaluator.trained == []


def test_published_networks_come_first_and_feasible_ones_follow() -> None:
    space = mobilenet_v1()
    names = ("mobilenetv1_100", "mobilenetv1_025")
    study = new_study()
    found = survey(pricer(space, params_m=1.0), samples=40, seed=0)
    published = {name: space.encode(zoo.get(name)) for name in names}
    for _ in range(2):  # once is enough
        queue_initial_trials(study, found, published=published, startup=3)
    evaluator = FakeEvaluator()
    make_search(space, evaluator, study=study, n_trials=4, limits={"params_m": 1.0}).run()
    baselines = [trial.user_attrs.get("published") for trial in study.trials]
    assert baselines[:2] == list(names) and set(baselines[2:]) == {None}
    assert [row.genotype for row in trial_records(study)[:2]] == [published[name] for name in names]
    # 4.2 M parameters are too many, and a baseline is no exception; the survey's own are feasible, and different.
    assert [row.outcome for row in trial_records(study)[:2]] == [Outcome.INFEASIBLE, Outcome.TRAINED]
    assert {row.outcome for row in trial_records(study)[2:5]} <= {Outcome.TRAINED, Outcome.DUPLICATE}


def test_a_short_search_that_is_extended_goes_as_a_long_one() -> None:
    limits = {"params_m": 1.0}  # of the 16 points the wide ones are infeasible
    ids = []
    for steps in ((4,), (1, 4)):
        space, study, evaluator = mobilenet_v1(), new_study(), FakeEvaluator()
        published = {name: space.encode(zoo.get(name)) for name in ("mobilenetv1_100", "mobilenetv1_025")}
        found = survey(pricer(space, **limits), samples=20, seed=0)
        for n_trials in steps:
            queue_initial_trials(study, found, published=published, startup=4)
            make_search(space, evaluator, study=study, n_trials=n_trials, limits=limits).run()
        ids.append([row.arch_id for row in trial_records(study)])
        # One infeasible baseline, and then nothing but what the survey knows to be feasible.
        assert [row.outcome for row in trial_records(study)].count(Outcome.INFEASIBLE) == 1
    assert ids[0] == ids[1]


def test_of_two_workers_that_ask_for_the_last_candidate_the_later_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    study, evaluator = new_study(), FakeEvaluator()
    search = make_search(small_space(), evaluator, study=study, n_trials=1)
    ask, others = TrialDraft.ask, []

    def ask_after_another(*arguments: Any) -> optuna.Trial:
        others.append(study.ask())  # by another worker, after this one saw none under way
        return ask(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(TrialDraft, "ask", ask_after_another)
        assert search.ask() is Idle.WAIT
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]  # the later one was never stored
    assert count_finished(study) == 0
    study.tell(others[0], state=TrialState.FAIL)
    search.run()
    assert sum(row.outcome == Outcome.TRAINED for row in trial_records(study)) == 1


@pytest.mark.parametrize("twin_ends_well", [True, False])
def test_a_network_that_another_worker_trains_is_put_aside_until_it_is_known(twin_ends_well: bool) -> None:
    study = new_study()
    one, other = (make_search(small_space(), FakeEvaluator(), study=study, n_trials=9) for _ in range(2))
    genotype = small_space().sample(random.Random(0))
    for _ in range(2):
        study.enqueue_trial(genotype)
    first = one.ask()
    assert isinstance(first, TrialTask)
    assert other.ask() is Idle.WAIT  # the same network: put aside
    second = other.ask()
    assert isinstance(second, TrialTask) and second.arch != first.arch  # and not waited for
    if twin_ends_well:
        one.tell(first, FakeEvaluator().evaluate(first.arch))
        row = other.ask()
        assert not isinstance(row, TrialTask | Idle) and row.outcome is Outcome.DUPLICATE
        assert row.accuracy == accuracy_of(first.arch)
    else:
        finish_without_result(study, first, Outcome.FAILED, "no such kernel")
        found = other.ask()
        assert isinstance(found, TrialTask) and (found.number, found.arch) == (1, first.arch)


def test_what_is_put_aside_is_queued_again_when_its_worker_leaves() -> None:
    study = new_study()
    one, other = (make_search(small_space(), FakeEvaluator(), study=study, n_trials=9) for _ in range(2))
    for _ in range(2):
        study.enqueue_trial(small_space().sample(random.Random(0)))
    assert isinstance(one.ask(), TrialTask) and other.ask() is Idle.WAIT
    other.release()
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.WAITING]


def test_epochs_are_kept_as_intermediate_values_of_the_first_objective() -> None:
    for objective in (PARETO, REWARD):
        search = make_search(small_space(), FakeEvaluator(), objective=objective)
        task = search.ask()
        assert isinstance(task, TrialTask)
        search.report_epoch(task, epoch_result(1, accuracy=0.25))
        trial = search.study.trials[0]
        latency_ms = trial.user_attrs["latency_ms"]
        expected = 0.25 if objective is PARETO else objective.reward(0.25, latency_ms)
        assert trial.intermediate_values == {1: expected}


@pytest.mark.parametrize("objective", [PARETO, REWARD], ids=["pareto", "mnasnet"])
def test_a_pruner_is_asked_after_every_epoch_but_the_last(objective: ObjectiveSettings) -> None:
    asked: list[int | None] = []

    class Third(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            asked.append(trial.last_step)
            return trial.number == 2

    search = make_search(small_space(), FakeEvaluator(epochs=2), objective=objective, n_trials=4, pruner=Third())
    search.run()
    assert asked == [1, 1, 1, 1]
    rows = trial_records(search.study)
    assert [row.outcome for row in rows] == [Outcome.TRAINED, Outcome.TRAINED, Outcome.STOPPED, Outcome.TRAINED]
    assert rows[2].accuracy is None and "after epoch 1" in rows[2].reason
    assert search.study.trials[2].state is TrialState.PRUNED
