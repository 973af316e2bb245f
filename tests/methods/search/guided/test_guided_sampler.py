"""Tests of the guided sampler: it finds what is best, whatever choices are called, and learns from all results."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas.analysis.history import ReferencePoint, hypervolume
from nas.analysis.surrogate import OWN
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.guided import GuidedMemory, GuidedSampler, Observations, prior_results, results_of
from nas.methods.search.settings import SamplerSettings, StudySettings
from nas.methods.search.trials.evaluations import PriorEvaluation
from nas.methods.search.trials.finalists import early_end_text, is_search_complete
from nas.methods.search.trials.gain_stop import gain_stop
from nas.methods.search.trials.prior_evaluations import record_prior_evaluations
from nas.study.objective import ObjectiveSettings
from nas.study.trial_attributes import trial_records
from nas.study.trial_loop import Idle, TrialTask, finish_without_result, release_trial
from nas.study.trial_record import Outcome
from search_spaces.space import Genotype, SearchSpace
from tests.study.fakes import PARETO, accuracy_of, epoch_result, new_study, pricer, small_space

ACCURACY = ObjectiveSettings(kind="mnasnet", target_ms=1.0, alpha=0.0, beta=0.0)


class Renamed(SearchSpace):
    """The small space with other names, in another order, of choices and of their values."""

    def __init__(self) -> None:
        self.inner = small_space()
        self.names = {name: f"x{place}" for place, name in enumerate(reversed(list(self.inner.parameters)))}
        self.values = {
            name: {f"v{place}": value for place, value in enumerate(reversed(self.inner.parameters[name]))}
            for name in reversed(list(self.inner.parameters))
        }

    name = "renamed"
    largest_kernel = 7

    @property
    def parameters(self) -> Mapping[str, tuple[Any, ...]]:
        return {self.names[name]: tuple(values) for name, values in self.values.items()}

    def decode(self, genotype: Genotype, *, classes: int = 1000, in_channels: int = 3) -> ArchSpec:
        inner = {name: values[str(genotype[self.names[name]])] for name, values in self.values.items()}
        return replace(self.inner.decode(inner, classes=classes, in_channels=in_channels), name="small")

    def decode_base(self, genotype: Genotype, **_: Any) -> Any:
        raise NotImplementedError

    def encode(self, spec: ArchSpec) -> Genotype:
        raise NotImplementedError


def search_of(
    space: Any, study: optuna.Study, objective: ObjectiveSettings = PARETO, n_trials: int = 100, **settings: Any
) -> SearchAskTell:
    return SearchAskTell(
        study=study,
        pricer=pricer(space),
        objective=objective,
        sampler=SamplerSettings(name="guided", startup=3),
        settings=StudySettings(n_trials=n_trials, **settings),
        epochs=4,
    )


def accuracy_by_blocks(arch: ArchSpec) -> float:
    """A made-up accuracy: large kernels in the second stage are worth more than what they cost."""
    blocks = [block for stage in arch.stages for block in stage.blocks for _ in range(block.repeats)]
    return 0.3 + 0.05 * len(blocks) + sum(0.02 * max(block.kernels) + 0.01 * block.expansion for block in blocks)


def train(search: SearchAskTell, trials: int, accuracy: Callable[[ArchSpec], float] = accuracy_of) -> list[str]:
    """Train at most so many networks, until there is nothing to do; their ids in order."""
    trained: list[str] = []
    waits = 0
    while len(trained) < trials and waits < 3 and (task := search.ask()) is not Idle.OVER:
        waits = waits + 1 if task is Idle.WAIT else 0
        if isinstance(task, TrialTask):
            search.tell(task, Evaluation(accuracy=accuracy(task.arch), cpu_s=1.0, duration_s=1.0))
            trained.append(task.arch.arch_id)
    return trained


def all_networks() -> list[ArchSpec]:
    prices = pricer(small_space())
    seen = {}
    rng = random.Random(0)
    for _ in range(4000):
        arch = prices.decode(prices.space.sample(rng))
        seen[arch.arch_id] = arch
    return list(seen.values())


def test_it_finds_the_best_network_with_few_trainings() -> None:
    networks = sorted(all_networks(), key=accuracy_of)
    best_five = {arch.arch_id for arch in networks[-5:]}
    assert best_five & set(train(search_of(small_space(), new_study(objective=ACCURACY), ACCURACY), 14))


def test_its_front_is_larger_than_that_of_random_search() -> None:
    def area(sampler: str, seed: int) -> float:
        study = new_study()
        search = search_of(small_space(), study, seed=seed)
        train(replace(search, sampler=SamplerSettings(name=sampler, startup=3)), 16, accuracy_by_blocks)
        points = [(row.accuracy or 0.0, row.latency_ms or 0.0) for row in trial_records(study)]
        return hypervolume(points, ReferencePoint(0.3, 0.1))

    guided, drawn = ([area(sampler, seed) for seed in range(4)] for sampler in ("guided", "random"))
    assert fmean(guided) > fmean(drawn) + 2 * stdev(drawn) / 2  # two standard errors of four searches


def test_names_and_order_of_choices_change_nothing() -> None:
    for objective in (ACCURACY, PARETO):
        named, renamed = (
            train(search_of(space, new_study(objective=objective), objective), 12)
            for space in (small_space(), Renamed())
        )
        assert named == renamed


def test_a_queued_trial_asks_the_model_nothing() -> None:
    study, space = new_study(), small_space()
    first = space.sample(random.Random(3))
    study.enqueue_trial(dict(first))
    search = search_of(space, study)
    task = search.ask()
    assert isinstance(task, TrialTask) and task.arch.arch_id == pricer(space).decode(first).arch_id
    assert search._state.memory._pool is None


def test_running_networks_keep_others_apart() -> None:
    search = search_of(small_space(), new_study(objective=ACCURACY), ACCURACY)
    train(search, 8)
    tasks = [search.ask() for _ in range(6)]
    assert all(isinstance(task, TrialTask) for task in tasks)
    assert len({task.arch.arch_id for task in tasks if isinstance(task, TrialTask)}) == 6


def observed_of(search: SearchAskTell) -> Any:
    return Observations(search.pricer, search.objective).read(search.study.get_trials(deepcopy=False))


def test_stopped_trainings_are_results_of_their_epoch() -> None:
    study = new_study()
    search = search_of(small_space(), study)
    for number in range(5):
        task = search.ask()
        assert isinstance(task, TrialTask)
        for epoch in (1, 2):
            search.report_epoch(task, epoch_result(epoch, accuracy=0.1 * number + 0.01 * epoch))
        if number < 3:
            search.tell(task, Evaluation(accuracy=0.5 + 0.1 * number, cpu_s=1.0, duration_s=1.0))
        else:
            finish_without_result(study, task, Outcome.STOPPED, "behind")
    results = results_of(observed_of(search))
    own = [one.accuracy for one in results if one.source == OWN]
    at_two = [one.accuracy for one in results if one.source == "after epoch 2"]
    assert own == pytest.approx([0.5, 0.6, 0.7]) and at_two == pytest.approx([0.02, 0.12, 0.22, 0.32, 0.42])
    assert isinstance(search.ask(), TrialTask)


def test_epochs_of_a_reward_are_accuracies_again() -> None:
    objective = ObjectiveSettings(kind="mnasnet", target_ms=0.001)
    study = new_study(objective=objective)
    search = search_of(small_space(), study, objective)
    task = search.ask()
    assert isinstance(task, TrialTask)
    search.report_epoch(task, epoch_result(1, accuracy=0.4))
    assert observed_of(search)[0].by_epoch[1] == pytest.approx(0.4)


def test_results_from_elsewhere_are_learned_from_before_the_first_trial() -> None:
    space = small_space()
    networks = {pricer(space).decode(one).arch_id: one for one in (space.sample(random.Random(i)) for i in range(150))}
    prior = [
        PriorEvaluation(genotype=one, accuracy=accuracy_of(pricer(space).decode(one)) / 2, source="other data")
        for one in networks.values()
    ]
    study = new_study(objective=ACCURACY)
    record_prior_evaluations(study, prior, space.parameters)
    first = train(search_of(space, study, ACCURACY), 3)
    ranked = sorted(all_networks(), key=accuracy_of)
    best = {arch.arch_id for arch in ranked[-len(ranked) // 6 :]}
    assert len(best & set(first)) >= 2
    errors = prior_results([replace(one, standard_error=0.01) for one in prior], pricer(space))
    assert 0 < errors[0].variance < 1 and {one.source for one in errors} == {"other data"}


def test_a_search_ends_when_little_is_left_to_gain() -> None:
    study = new_study()
    search = search_of(small_space(), study, stop_when_gain_below=0.02)
    trained = train(search, 100)
    assert 10 <= len(trained) < 60 and search.ask() is Idle.OVER
    stop = gain_stop(study, search.settings)
    assert stop is not None and stop.gain < 0.02 and stop.trials == len(trained)
    assert is_search_complete(study, search.estimator, search.settings)
    assert early_end_text(study, search.estimator, search.settings, PARETO).startswith(
        f"ended after {len(trained)} of 100 candidates: the best network left is expected to add"
    )
    # Another worker sees it; without the setting the search goes on.
    assert search_of(small_space(), study, stop_when_gain_below=0.02).ask() is Idle.OVER
    assert isinstance(search_of(small_space(), study).ask(), TrialTask)
    assert not is_search_complete(study, search.estimator, StudySettings(n_trials=100))


def test_the_limit_of_gain_needs_a_sampler_that_knows_it() -> None:
    settings = StudySettings(stop_when_gain_below=0.01)
    settings.check_sampler("guided")
    with pytest.raises(NasError, match=r"sampler tpe does not know what is left to gain; add sampler=guided\."):
        settings.check_sampler("tpe")
    with pytest.raises(NasError, match="stop_when_gain_below 2: must be a number above 0"):
        StudySettings(stop_when_gain_below=2)


def test_it_draws_at_random_before_it_has_results() -> None:
    memory = GuidedMemory(0)
    draws = [
        GuidedSampler(pricer=pricer(small_space()), objective=PARETO, startup=3, trial=trial, memory=memory)
        .propose([])
        .arch.arch_id
        for trial in range(12)
    ]
    assert len(set(draws)) > 8


def test_failed_networks_are_not_asked_for_again() -> None:
    study = new_study()
    search = search_of(small_space(), study)
    for _ in range(12):
        task = search.ask()
        assert isinstance(task, TrialTask)
        finish_without_result(study, task, Outcome.FAILED, "out of memory")
    ids = [trial.user_attrs["arch_id"] for trial in study.trials if trial.state is TrialState.FAIL]
    assert len(set(ids)) == len(ids) == 12


def test_a_search_that_learned_nothing_does_not_end_early() -> None:
    for objective in (PARETO, ACCURACY):
        search = search_of(small_space(), new_study(objective=objective), objective, stop_when_gain_below=0.0001)
        assert len(train(search, 14, lambda arch: 0.1)) == 14  # proxies at chance


def test_what_runs_or_waits_when_little_is_left_is_trained_first() -> None:
    study = new_study()
    search = search_of(small_space(), study, stop_when_gain_below=0.02)
    held = search.ask()
    assert isinstance(held, TrialTask)
    train(search, 100)
    assert gain_stop(study, search.settings)
    assert not is_search_complete(study, search.estimator, search.settings)
    release_trial(study, held.trial_id)  # as after a kill
    assert held.arch.arch_id in train(search_of(small_space(), study, stop_when_gain_below=0.02), 100)
    assert is_search_complete(study, search.estimator, search.settings)


def test_a_network_that_was_measured_beyond_the_limit_is_not_asked_for_again() -> None:
    study = new_study()
    search = search_of(small_space(), study)
    task = search.ask()
    assert isinstance(task, TrialTask)
    study._storage.set_trial_user_attr(task.trial_id, "measured_ms", 99.0)
    finish_without_result(study, task, Outcome.INFEASIBLE, "latency_ms 99 > 1, as measured")
    assert [one.arch_id for one in observed_of(search)] == [task.arch.arch_id]


def test_a_trial_that_is_being_written_is_left_out() -> None:
    study = new_study()
    search = search_of(small_space(), study)
    trial = study.ask()
    trial.set_user_attr("arch_id", "0123456789ab")
    assert observed_of(search) == [] and isinstance(search.ask(), TrialTask)
