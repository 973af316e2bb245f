"""Tests of a search that trains a few candidates and estimates the accuracy of the others from scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.settings import EstimatorSettings
from nas.methods.search.settings import StudySettings
from nas.methods.search.trials.calibration import with_anchor_estimates
from nas.methods.search.trials.finalists import (
    early_end_text,
    final_trainings,
    is_search_complete,
    most_trials,
    queue_final_trainings,
    spread_front,
)
from nas.study.objective import ObjectiveSettings, choose_winners
from nas.study.recovery import recover_trials
from nas.study.storage.opening import open_study
from nas.study.trial_attributes import count_finished, count_searched, trial_records
from nas.study.trial_loop import Idle, TrialTask, evaluate_task, run_trial
from nas.study.trial_record import Outcome, Role, TrialRecord, pareto_front, ranked_networks
from nas.training.results import TrainingError
from tests.study.fakes import (
    PARETO,
    FakeEvaluator,
    OneWorker,
    accuracy_of,
    make_plan,
    make_search,
    new_study,
    small_space,
)

SCORED = EstimatorSettings(name="zero_cost", anchors=5, finalists=3, checks=2)
N_TRIALS = 16
SETTINGS = StudySettings(n_trials=N_TRIALS)


def scored_search(evaluator: FakeEvaluator, study: optuna.Study | None = None, **changes: Any) -> OneWorker:
    fields: dict[str, Any] = {"n_trials": N_TRIALS, "sampler": "tpe", "estimator": SCORED, **changes}
    return make_search(small_space(), evaluator, study=study, **fields)


def result(study: optuna.Study) -> list[tuple[Any, ...]]:
    """What the trials gave, oldest first, and what the study was told of them."""
    rows = trial_records(study)
    told = [tuple(study.trials[row.number].values or ()) for row in rows]
    return [(row.arch_id, row.outcome, row.role, row.accuracy, *values) for row, values in zip(rows, told, strict=True)]


@pytest.fixture(scope="module")
def searched() -> tuple[OneWorker, FakeEvaluator]:
    evaluator = FakeEvaluator(epochs=2)
    search = scored_search(evaluator)
    search.run()
    return search, evaluator


def of_role(study: optuna.Study, role: Role) -> list[TrialRecord]:
    return [row for row in trial_records(study) if row.role is role]


def test_anchors_are_trained_the_others_scored_and_finalists_trained(
    searched: tuple[OneWorker, FakeEvaluator],
) -> None:
    search, evaluator = searched
    rows = trial_records(search.study)
    counted = [row for row in rows if row.outcome is not Outcome.DUPLICATE]
    roles = [row.role for row in counted]
    scored_only = N_TRIALS - SCORED.anchors
    assert roles == [*[Role.ANCHOR] * 5, *[None] * scored_only, *[Role.FINALIST] * 3, *[Role.CHECK] * 2]
    assert [row.outcome for row in counted[5:N_TRIALS]] == [Outcome.SCORED] * scored_only
    assert all(row.accuracy is None and row.estimate_error for row in counted[5:N_TRIALS])
    assert len(evaluator.trained) == 10 and len(evaluator.scored) == N_TRIALS  # each network once
    assert (count_searched(search.study), count_finished(search.study)) == (N_TRIALS, N_TRIALS + 5)
    for row in rows:
        if row.outcome is Outcome.TRAINED:
            assert row.accuracy == accuracy_of(search.pricer.decode(row.genotype))


def test_the_study_is_told_trained_accuracies_and_estimates(searched: tuple[OneWorker, FakeEvaluator]) -> None:
    search, _ = searched
    for row in trial_records(search.study):
        told = search.study.trials[row.number].values
        assert told == pytest.approx([row.ranked_accuracy, row.latency_ms], abs=1e-6)


def test_finalists_keep_the_estimate_that_was_made_before_their_training(
    searched: tuple[OneWorker, FakeEvaluator],
) -> None:
    search, _ = searched
    scored = {row.arch_id: row for row in trial_records(search.study) if row.outcome is Outcome.SCORED}
    for row in [*of_role(search.study, Role.FINALIST), *of_role(search.study, Role.CHECK)]:
        before = scored[row.arch_id]
        assert (row.estimated_accuracy, row.estimate_error) == (before.estimated_accuracy, before.estimate_error)
        assert row.scores == before.scores


def test_winners_are_among_trained_networks_once_finalists_are_trained(
    searched: tuple[OneWorker, FakeEvaluator],
) -> None:
    rows = trial_records(searched[0].study)
    before = [row for row in rows if row.role not in (Role.FINALIST, Role.CHECK)]
    assert {row.outcome for row in ranked_networks(before)} == {Outcome.TRAINED, Outcome.SCORED}
    assert {row.outcome for row in choose_winners(rows, PARETO)} == {Outcome.TRAINED}
    assert any(row.outcome is Outcome.SCORED for row in choose_winners(before, PARETO))


def test_an_anchor_is_compared_with_an_estimate_without_its_own_training(
    searched: tuple[OneWorker, FakeEvaluator],
) -> None:
    """Its own accuracy moves it by no more than the mean of all does; its neighbours' accuracies move it."""
    search, _ = searched
    anchors = of_role(search.study, Role.ANCHOR)
    (first, *others) = with_anchor_estimates(anchors, search.pricer)
    assert all(row.estimated_accuracy and row.estimate_error for row in (first, *others))
    moved = [replace(anchors[0], accuracy=0.9), *anchors[1:]]
    without = with_anchor_estimates(moved, search.pricer)[0]
    assert without.estimated_accuracy and first.estimated_accuracy
    shift = abs(without.estimated_accuracy - first.estimated_accuracy)
    assert shift < 1.5 * abs(0.9 - (anchors[0].accuracy or 0.0)) / len(anchors)


def interrupt_at(*calls: int) -> Callable[[int, ArchSpec], None]:
    def trouble(call: int, _: ArchSpec) -> None:
        if call in calls:
            raise KeyboardInterrupt

    return trouble


@pytest.mark.parametrize("calls", [(2,), (5, 6), (7,), (9, 11)], ids=["anchor", "last anchor", "finalist", "check"])
def test_an_interrupted_search_ends_as_one_that_was_not(
    calls: tuple[int, ...], searched: tuple[OneWorker, FakeEvaluator]
) -> None:
    study, evaluator = new_study(), FakeEvaluator(interrupt_at(*calls), epochs=2)
    for _ in calls:
        with pytest.raises(KeyboardInterrupt):
            scored_search(evaluator, study).run()
    scored_search(evaluator, study).run()
    assert result(study) == result(searched[0].study)


def test_a_search_that_dies_while_it_scores_ends_as_one_that_did_not(
    searched: tuple[OneWorker, FakeEvaluator],
) -> None:
    study, evaluator = new_study(), FakeEvaluator(epochs=2)
    search = scored_search(evaluator, study)
    while not (isinstance(task := search.ask(), TrialTask) and not task.train):
        if isinstance(task, TrialTask):
            run_trial(search, task, evaluator)
    evaluate_task(evaluator, task, None)  # and is killed before its result is told
    recover_trials(study)
    scored_search(evaluator, study).run()
    assert result(study) == result(searched[0].study)


def test_two_workers_train_and_score_each_network_once() -> None:
    """In turns: each asks before the other has told its result."""
    study, evaluator = new_study(), FakeEvaluator()
    workers = [scored_search(evaluator, study, sampler="random", seed=seed) for seed in (0, 1)]
    held: dict[int, TrialTask] = {}
    for turn in range(2000):
        number = turn % 2
        if number in held:
            task = held.pop(number)
            workers[number].tell(task, evaluate_task(evaluator, task, None))
            continue
        found = workers[number].ask()
        if isinstance(found, TrialTask):
            held[number] = found
        elif found is Idle.OVER:
            break
    assert is_search_complete(study, SCORED, SETTINGS)
    trained = [row.arch_id for row in trial_records(study) if row.outcome is Outcome.TRAINED]
    assert len(set(trained)) == len(trained) == 10
    assert len([row for row in of_role(study, Role.ANCHOR) if row.outcome is Outcome.TRAINED]) == 5


def test_an_anchor_that_fails_is_replaced_and_a_network_without_a_score_fails() -> None:
    def trouble(call: int, arch: ArchSpec) -> None:
        if call == 2:
            raise TrainingError("loss became nan")

    class Unscored(FakeEvaluator):
        def scores(self, arch: ArchSpec) -> dict[str, float]:
            if len(self.scored) == 8:
                self.scored.append(arch.arch_id)
                raise TrainingError("score size is inf")
            return super().scores(arch)

    search = scored_search(Unscored(trouble))
    search.run()
    rows = trial_records(search.study)
    failed = [row for row in rows if row.outcome is Outcome.FAILED]
    assert [row.reason for row in failed] == ["TrainingError: loss became nan", "TrainingError: score size is inf"]
    assert sum(row.outcome is Outcome.TRAINED for row in of_role(search.study, Role.ANCHOR)) == SCORED.anchors
    assert is_search_complete(search.study, SCORED, SETTINGS)


def test_without_trained_anchors_nothing_is_estimated() -> None:
    def trouble(*_: object) -> None:
        raise TrainingError("loss became nan")

    search = scored_search(FakeEvaluator(trouble))
    search.run()
    assert {row.outcome for row in trial_records(search.study)} <= {Outcome.FAILED, Outcome.DUPLICATE}
    assert final_trainings(search.study) == () and is_search_complete(search.study, SCORED, SETTINGS)


def test_a_search_extended_after_its_finalists_trains_further_ones(
    searched: tuple[OneWorker, FakeEvaluator],
) -> None:
    study, evaluator = new_study(), FakeEvaluator(epochs=2)
    scored_search(evaluator, study, n_trials=N_TRIALS).run()
    longer = scored_search(evaluator, study, n_trials=24)
    assert (
        not is_search_complete(study, SCORED, replace(SETTINGS, n_trials=24))
        and most_trials(study, SCORED, replace(SETTINGS, n_trials=24)) == 24 + 5 + 3
    )
    longer.run()
    assert is_search_complete(study, SCORED, replace(SETTINGS, n_trials=24)) and count_searched(study) == 24
    assert result(study)[: len(result(searched[0].study))] == result(searched[0].study)
    best = {row.arch_id for row in spread_front(trial_records(study), PARETO, SCORED.finalists)}
    trained = {row.arch_id for row in trial_records(study) if row.outcome is Outcome.TRAINED}
    assert best <= trained
    assert len(of_role(study, Role.CHECK)) == 2


def test_planning_twice_changes_nothing(searched: tuple[OneWorker, FakeEvaluator]) -> None:
    study = searched[0].study
    before = final_trainings(study), len(study.trials)
    queue_final_trainings(study, SCORED, PARETO, n_trials=N_TRIALS, seed=7)
    assert (final_trainings(study), len(study.trials)) == before


def scored_row(number: int, accuracy: float, latency_ms: float) -> TrialRecord:
    return TrialRecord(
        number=number,
        outcome=Outcome.SCORED,
        arch_id=f"id{number}",
        estimated_accuracy=accuracy,
        estimate_error=0.01,
        latency_ms=latency_ms,
    )


def test_finalists_are_spread_over_the_front() -> None:
    front = [scored_row(number, 0.5 + 0.01 * number, 1.0 + number) for number in range(11)]
    below = [scored_row(20 + number, 0.4 + 0.01 * number, 1.5 + number) for number in range(3)]
    assert [row.number for row in spread_front([*below, *front], PARETO, 3)] == [0, 5, 10]
    assert [row.number for row in spread_front([*below, *front], PARETO, 1)] == [10]
    assert {row.number for row in spread_front([*below, *front], PARETO, 12)} > {row.number for row in front}
    assert pareto_front([*below, *front]) == front
    reward = ObjectiveSettings(kind="mnasnet", target_ms=1.0, form="hard")
    chosen = spread_front([*below, *front], reward, 2)
    assert chosen == sorted([*below, *front], key=reward.reward_of, reverse=True)[:2]


def test_with_a_reward_the_finalists_have_the_highest_and_the_winner_is_one_that_was_trained() -> None:
    objective = ObjectiveSettings(kind="mnasnet", target_ms=0.02)
    search = scored_search(FakeEvaluator(), objective=objective)
    search.run()
    (winner,) = choose_winners(trial_records(search.study), objective)
    assert winner.outcome is Outcome.TRAINED
    assert is_search_complete(search.study, SCORED, SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "zero_costs"}, "unknown estimator.name 'zero_costs': choose from proxy, zero_cost"),
        ({"anchors": 3}, "estimator.anchors 3: must be a whole number of at least 4 and at most 10000."),
        ({"finalists": -1}, "estimator.finalists -1: must be a whole number of at least 0"),
        ({"short_epochs": 0.5}, "estimator.short_epochs 0.5: must be a whole number of at least 0"),
        ({"zero_cost": ["naswott"]}, "unknown estimator.zero_cost 'naswott': choose from naswot, "),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError) as raised:
        EstimatorSettings(**settings)
    assert str(raised.value).startswith(message)


def test_a_plan_that_leaves_nothing_to_score_or_prunes_is_refused() -> None:
    fits = {"estimator": EstimatorSettings(name="zero_cost", anchors=8)}
    with pytest.raises(NasError, match=r"estimator.anchors 8: leaves nothing to score of study.n_trials 8; raise"):
        make_plan(small_space(), study=replace(make_plan(small_space()).study, n_trials=8), **fits)
    few = {"estimator": EstimatorSettings(name="zero_cost", anchors=4)}  # which cannot be lowered
    with pytest.raises(
        NasError, match=r"study.n_trials 3; raise study.n_trials, or add estimator=proxy to train every"
    ):
        make_plan(small_space(), study=replace(make_plan(small_space()).study, n_trials=3), **few)
    pruner = replace(make_plan(small_space()).pruner, name="asha")
    with pytest.raises(NasError, match=r"pruner.name 'asha': stops trainings by .* add estimator=proxy to train every"):
        make_plan(small_space(), pruner=pruner, **fits)


@pytest.mark.parametrize(
    ("short_epochs", "message"),
    [
        (
            4,
            r"estimator\.short_epochs 4: must be less than proxy\.epochs 4, or a score costs what",
        ),
        (1, r"estimator\.short_epochs 1: must be at least proxy\.warmup_epochs 1\.5; raise it, or lower proxy\.warmup"),
    ],
)
def test_a_short_training_has_to_fit_the_training(short_epochs: int, message: str) -> None:
    plan = make_plan(small_space(), estimator=SCORED)
    plan = replace(plan, proxy=replace(plan.proxy, epochs=4, warmup_epochs=1.5))
    with pytest.raises(NasError, match=message):
        replace(plan, estimator=replace(SCORED, short_epochs=short_epochs))
    fits = replace(plan, estimator=replace(SCORED, short_epochs=2)).identity("device")
    assert fits.pop("estimator.short_epochs") == 2
    assert fits == plan.identity("device")  # as in studies of versions without short trainings
    unused = EstimatorSettings(short_epochs=short_epochs)
    assert replace(plan, estimator=unused).estimator.identity() == {}


def test_a_study_of_a_version_without_estimators_goes_on_as_proxy() -> None:
    plan = make_plan(small_space())
    kept = {name: group for name, group in plan.settings.items() if name != "estimator"}
    known = {"space": plan.space, "space_config": plan.space_config, "runs_dir": plan.runs_dir, "command": ""}
    assert type(plan).of(kept, **known) == plan
    assert not [key for key in plan.identity("device") if key.startswith("estimator")]
    scoring = replace(plan, estimator=SCORED)
    assert scoring.identity("device")["estimator.anchors"] == 5
    later = replace(scoring, estimator=replace(SCORED, finalists=9, checks=9))
    assert later.identity("device") == scoring.identity("device")


def test_a_study_that_trained_every_candidate_is_not_continued_by_estimates() -> None:
    plan, storage = make_plan(small_space()), optuna.storages.InMemoryStorage()
    open_study(storage, "study", PARETO, plan.identity("device"))
    message = r"study 'study' was started with estimator.name = 'proxy', now it is 'zero_cost' \(and \d more: "
    with pytest.raises(NasError, match=message):
        open_study(storage, "study", PARETO, replace(plan, estimator=SCORED).identity("device"))


def test_an_exhausted_space_ends_the_search_and_its_finalists_are_trained() -> None:
    """A space of 12 points, of which 16 are wanted; asked for more later, it trains none twice."""
    block = {"kernel": 3, "expansion": 3}
    space = small_space([block, {"repeats": [0, 1, 2], **block}])
    search = make_search(space, FakeEvaluator(), sampler="random", n_trials=N_TRIALS, estimator=SCORED)
    search.run()
    study, found = search.study, count_searched(search.study)
    assert found < N_TRIALS
    assert [len(of_role(study, role)) for role in Role] == [5, 3, min(2, found - 8)]
    assert is_search_complete(study, SCORED, SETTINGS)
    assert (
        most_trials(study, SCORED, SETTINGS) == count_finished(study) == min(found + 5, 2 * found - 5)
    )  # all but anchors, if few
    assert early_end_text(study, SCORED, SETTINGS, PARETO).startswith(f"ended after {found} of 16 candidates")
    assert not is_search_complete(study, SCORED, replace(SETTINGS, n_trials=N_TRIALS + 10))
    again = FakeEvaluator()
    make_search(space, again, study=study, sampler="random", n_trials=N_TRIALS + 10, estimator=SCORED).run()
    assert not again.scored and len(again.trained) <= SCORED.finalists
    assert is_search_complete(study, SCORED, replace(SETTINGS, n_trials=N_TRIALS + 10))
