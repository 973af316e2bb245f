"""Tests of the ask-and-tell loop of a scaling study with invented accuracies.

Which networks are trained and stopped, and that kills and concurrent workers lose nothing.
"""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.search_space import intersection_search_space
from optuna.trial import TrialState

from nas.arch.spec import ArchSpec
from nas.methods.scaling.design.entries import BASELINE, Design
from nas.methods.scaling.ranking.columns import ranking_to_csv
from nas.methods.scaling.ranking.ranking import BEST, PEER, WORSE, rank_networks
from nas.methods.scaling.settings import RaceSettings
from nas.methods.scaling.trial_attributes import (
    accuracies_of,
    plan_round,
    planned_rounds,
    queue_missing,
    race_rule,
    ranges,
    record_race_rule,
    start_next_queued,
    training_of,
)
from nas.study import trial_loop
from nas.study.recovery import recover_trials
from nas.study.trial_attributes import count_finished, trial_records
from nas.study.trial_record import Outcome
from tests.methods.scaling.fakes import FakeTrainer, entries_of, make_plan, make_race, new_study, table

PLAN = make_plan(race=RaceSettings(seeds=3, finalists=4, stop_share=0.0, min_power=0.0))
STOPPING = make_plan(race=RaceSettings(seeds=2, finalists=4, stop_share=0.25))


@pytest.fixture(scope="module")
def entries() -> Design:
    return entries_of(PLAN)


def ladder(entries: Design) -> dict[str, float]:
    """Accuracies that rise by 0.001 per network; the baseline is the worst."""
    return {label: 0.5 + 0.001 * place for place, label in enumerate(entries.by_label)}


def sequence(study: optuna.Study) -> list[tuple[str, int, str, float | None]]:
    return [
        (*training_of(trial), trial.user_attrs["outcome"], trial.user_attrs.get("accuracy")) for trial in study.trials
    ]


def test_a_race_trains_all_once_and_those_that_may_be_best_again(entries: Design) -> None:
    """Noise of one point hides steps of a tenth: all four finalists get all seeds."""
    trainer = FakeTrainer(entries, table(ladder(entries), noise=0.01))
    race = make_race(PLAN, entries, trainer)
    race.run()
    all_seeds, best = list(entries.by_label), list(entries.by_label)[-4:]
    assert trainer.trained[: len(all_seeds)] == [(label, 0) for label in all_seeds]
    assert trainer.trained[len(all_seeds) :] == [(label, seed) for seed in (1, 2) for label in [BASELINE, *best]]
    assert race.is_over and len(trainer.trained) == race.most_trainings == count_finished(race.study)
    for trial in race.study.trials:
        entry = entries.by_label[trial.user_attrs["network"]]
        assert {name: trial.params[name] for name in ("alpha", "beta", "gamma")} == entry.parameters
        assert trial.user_attrs["arch_id"] == entry.arch.arch_id and trial.params["seed"] == training_of(trial)[1]
        assert trial.user_attrs["macs_x"] == pytest.approx(entry.scaled.macs_growth, abs=1e-6)
        assert trial.intermediate_values == {1: trial.value / 2, 2: trial.value}


def test_the_race_is_over_as_soon_as_the_noise_tells_the_best_apart(entries: Design) -> None:
    trainer = FakeTrainer(entries, table(ladder(entries), noise=0.00001))
    make_race(PLAN, entries, trainer).run()
    assert len(trainer.trained) == len(entries.by_label) + 5  # two rounds


def test_later_more_seeds_can_be_asked_for(entries: Design) -> None:
    trainer = FakeTrainer(entries, table(ladder(entries), noise=0.01))
    study = new_study(PLAN)
    make_race(PLAN, entries, trainer, study).run()
    before = len(trainer.trained)
    more = make_plan(race=RaceSettings(seeds=4, finalists=4, stop_share=0.0, min_power=0.0))
    race = make_race(more, entries, trainer, study)
    assert not race.is_over
    race.run()
    assert [seed for _, seed in trainer.trained[before:]] == [3] * 5


def test_only_the_last_of_the_first_round_are_stopped_half_way(entries: Design) -> None:
    """With falling accuracies all networks from the fifth on are stopped."""
    falling = {label: 0.9 - 0.01 * place for place, label in enumerate(entries.by_label)}
    trainer = FakeTrainer(entries, table(falling, noise=0.0))
    race = make_race(STOPPING, entries, trainer)
    race.run()
    labels = list(entries.by_label)
    assert trainer.trained[:5] == [(label, 0) for label in labels[:5]]
    stopped = [training_of(trial) for trial in race.study.trials if trial.user_attrs["outcome"] == Outcome.STOPPED]
    assert stopped == [(label, 0) for label in labels[5:]]
    assert all(trial.state is TrialState.PRUNED for trial in race.study.trials if training_of(trial) in stopped)
    assert count_finished(race.study) == len(race.study.trials)
    rising = FakeTrainer(entries, table(ladder(entries)))
    race = make_race(STOPPING, entries, rising)
    race.run()
    assert Outcome.STOPPED not in [row.outcome for row in trial_records(race.study)]


def test_rules_in_a_comparison_all_get_all_seeds() -> None:
    plan = make_plan(compare=("depth", "width", "compound"), race=RaceSettings(seeds=3, stop_share=0.9))
    compared = entries_of(plan)
    trainer = FakeTrainer(compared, table(ladder(compared), noise=0.00001))
    make_race(plan, compared, trainer).run()
    assert trainer.trained == [(label, seed) for seed in range(3) for label in compared.by_label]


def test_an_interrupted_race_goes_on_as_if_it_had_not_been(entries: Design) -> None:
    unbroken = make_race(STOPPING, entries, FakeTrainer(entries, table(ladder(entries), noise=0.01)))
    unbroken.run()

    def trouble(call: int, _: ArchSpec) -> None:
        if call in (3, 9, 14):
            raise KeyboardInterrupt

    trainer, study = FakeTrainer(entries, table(ladder(entries), noise=0.01), trouble), new_study(STOPPING)
    race = make_race(STOPPING, entries, trainer, study)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            race.run()
        assert not race.is_over
    race.run()
    assert sequence(study) == sequence(unbroken.study)


def test_a_kill_between_plan_and_queue_loses_no_training(entries: Design) -> None:
    unbroken = make_race(PLAN, entries, FakeTrainer(entries, table(ladder(entries), noise=0.01)))
    unbroken.run()
    trainer, study = FakeTrainer(entries, table(ladder(entries), noise=0.01)), new_study(PLAN)
    record_race_rule(study, race_rule(unbroken.study))
    plan_round(study, (), [(label, 0) for label in entries.by_label])
    assert study.trials == []
    race = make_race(PLAN, entries, trainer, study)
    assert not race.is_over
    race.prepare_round()
    trial = start_next_queued(study, ranges(entries))  # a worker takes the first one and is killed
    assert trial is not None and recover_trials(study) == 1
    race.run()
    assert sequence(study) == sequence(unbroken.study)


def test_parameters_have_the_same_narrow_axes_in_all_trials(entries: Design) -> None:
    race = make_race(PLAN, entries, FakeTrainer(entries, table(ladder(entries))))
    race.run()
    space = intersection_search_space(race.study.get_trials(deepcopy=False))
    for name in ("alpha", "beta", "gamma"):
        values = {trial.params[name] for trial in race.study.trials}
        assert (space[name].low, space[name].high) == (min(values), max(values))
        assert values == {entry.parameters[name] for entry in entries.by_label.values()}
    assert space["seed"].high < 10


def test_two_workers_that_plan_the_same_round_train_it_once(entries: Design) -> None:
    study = new_study(PLAN)
    race = make_race(PLAN, entries, FakeTrainer(entries, table(ladder(entries))), study)
    race.prepare_round()
    for label, entry in entries.by_label.items():  # as the other worker would have
        study.enqueue_trial({**entry.parameters, "seed": 0}, user_attrs={"network": label, "seed": 0})
    race.run()
    trained = [training_of(trial) for trial in study.trials if trial.user_attrs["outcome"] == Outcome.TRAINED]
    assert len(trained) == len(set(trained))
    assert sum(row.outcome is Outcome.DUPLICATE for row in trial_records(study)) == len(entries.by_label)
    assert queue_missing(study, entries) == 0 and len(planned_rounds(study)) >= 2


def test_a_race_goes_on_while_another_worker_queues_its_next_round(
    entries: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, study = FakeTrainer(entries, table(ladder(entries), noise=0.01)), new_study(PLAN)
    race, other = (make_race(PLAN, entries, trainer, study) for _ in range(2))
    race.prepare_round()
    while any(trial.state is TrialState.WAITING for trial in study.trials):
        task = race.ask()
        assert isinstance(task, trial_loop.TrialTask)
        trial_loop.run_trial(race, task, trainer)

    def a_moment_before(**named: Any) -> list[optuna.trial.FrozenTrial]:
        monkeypatch.undo()
        found = study.get_trials(**named)
        other.prepare_round()
        return found

    monkeypatch.setattr(study, "get_trials", a_moment_before)
    assert not race.is_over and len(planned_rounds(study)) == 2


def test_an_interrupt_behind_a_training_that_was_turned_down_is_passed_on(
    entries: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, close = new_study(PLAN), trial_loop.finish_trial
    race = make_race(PLAN, entries, FakeTrainer(entries, table(ladder(entries))), study)
    for _ in range(2):
        study.enqueue_trial({**entries.baseline.parameters, "seed": 0}, user_attrs={"network": BASELINE, "seed": 0})
    assert isinstance(race.ask(), trial_loop.TrialTask)

    def close_and_interrupt(*arguments: Any, **named: Any) -> None:
        close(*arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(trial_loop, "finish_trial", close_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        race.ask()
    assert [row.outcome for row in trial_records(study)] == [Outcome.RUNNING, Outcome.DUPLICATE]


def test_a_failing_training_drops_its_network_alone(entries: Design) -> None:
    broken = list(entries.by_label)[4]

    def trouble(_: int, arch: ArchSpec) -> None:
        if arch.arch_id == entries.by_label[broken].arch.arch_id:
            raise RuntimeError("a\nbroken kernel")

    race = make_race(PLAN, entries, FakeTrainer(entries, table(ladder(entries), noise=0.01), trouble))
    race.run()
    (failed,) = [row for row in trial_records(race.study) if row.outcome is Outcome.FAILED]
    assert failed.reason == "RuntimeError: a broken kernel"
    found = rank_networks(entries, accuracies_of(race.study), {broken: (Outcome.FAILED, failed.reason)})
    assert [one.verdict for one in found.others if one.entry.label == broken] == [
        "failed: RuntimeError: a broken kernel"
    ]


def test_ranking_names_the_best_and_its_peers(entries: Design) -> None:
    first, second, third, *rest = list(entries.by_label)[1:]
    accuracies = {BASELINE: (0.70, 0.71), first: (0.90, 0.91), second: (0.91, 0.92), third: (0.60, 0.61)}
    found = rank_networks(entries, accuracies, {rest[0]: (Outcome.STOPPED, "10% after epoch 1")})
    assert [(one.entry.label, one.verdict) for one in found.ranked] == [(second, BEST), (first, PEER), (third, WORSE)]
    assert found.best is not None and found.best.mean == pytest.approx(0.915)
    # Deviations of half a point about each mean: 8 squares of 0.005 over 4 degrees of freedom.
    assert found.noise.deviation == pytest.approx((8 * 0.005**2 / 4) ** 0.5)
    assert found.best.percent == f"91.50 ± {100 * found.noise.deviation / 2**0.5:.2f}"
    assert [one.verdict for one in found.others[:2]] == ["stopped: 10% after epoch 1", "not trained yet"]
    said = " ".join(found.sentences())
    assert f"Best: {second} with 91.50" in said and f"Statistically indistinguishable from it: {first}." in said
    assert "1 of the other 2 are significantly worse" in said
    lines = ranking_to_csv(found.all_networks).splitlines()
    assert len(lines) == 1 + len(entries.by_label) + len(entries.left_out)
