"""What killed workers leave behind: nothing lost, nothing for ever, nothing twice."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.trial import TrialState

from nas.study.config import MAX_RETRIES
from nas.study.recovery import recover_trials
from nas.study.storage.opening import open_study
from nas.study.storage.retrying_storage import RetryingStorage
from nas.study.trial_attributes import count_finished, distributions, trial_records
from tests.study.fakes import PARETO, FakeEvaluator, make_search, new_study, small_space

Opened = Callable[..., RetryingStorage]


def killed_trial(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """A trial as a killed worker leaves it: asked for, priced, RUNNING."""
    trial = study.ask(distributions(small_space().parameters))
    trial.set_user_attr("arch_id", "unknown")
    return study.trials[-1]


def test_trials_of_a_killed_worker_are_tried_again(storage_url: str, opened: Opened) -> None:
    study = open_study(opened(storage_url), "s", PARETO, {})
    left = killed_trial(study)
    assert recover_trials(study) == 1
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]
    assert count_finished(study) == 0 and trial_records(study) == []
    evaluator = FakeEvaluator()
    make_search(small_space(), evaluator, study=study, n_trials=1).run()
    assert [(trial.number, trial.params) for trial in study.trials] == [(left.number, left.params)]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
    assert len(evaluator.trained) == 1
    assert recover_trials(study) == 0


def test_a_trial_killed_before_its_genotype_was_complete_is_given_up_and_not_counted() -> None:
    study = new_study()
    study.ask({"width": optuna.distributions.CategoricalDistribution([0.5, 1.0])})
    assert recover_trials(study) == 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
    assert count_finished(study) == 0
    search = make_search(small_space(), FakeEvaluator(), study=study, n_trials=2)
    search.run()
    untouched = make_search(small_space(), FakeEvaluator(), n_trials=2)
    untouched.run()
    assert [row.arch_id for row in trial_records(study)] == [row.arch_id for row in trial_records(untouched.study)]


def test_a_candidate_that_kills_its_worker_again_and_again_fails() -> None:
    study = new_study()
    killed_trial(study)
    for _ in range(MAX_RETRIES):
        recover_trials(study)
        assert study.trials[0].state is TrialState.WAITING
        study.ask()
    recover_trials(study)
    assert count_finished(study) == 1
    (row,) = trial_records(study)
    assert row.outcome == "failed" and "killed 3 times" in row.reason


def test_kills_count_anew_whenever_a_trial_got_further() -> None:
    study = new_study()
    trial = killed_trial(study)
    for epoch in range(1, MAX_RETRIES + 3):
        study._storage.set_trial_intermediate_value(trial._trial_id, epoch, 0.5)
        recover_trials(study)
        assert study.trials[0].state is TrialState.WAITING
        study.ask()
    assert study.trials[0].user_attrs["kills"] == MAX_RETRIES + 2
    for _ in range(MAX_RETRIES - 1):
        recover_trials(study)
        assert study.trials[0].state is TrialState.WAITING
        study.ask()
    recover_trials(study)
    (row,) = trial_records(study)
    assert row.outcome == "failed" and row.reason.startswith(f"its worker was killed 3 times after epoch {epoch}; out")
