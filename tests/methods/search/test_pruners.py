"""Tests of the pruners: against Optuna's own, brute force, and in whole searches."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from nas.core.errors import NasError
from nas.methods.search.pruners import EpochScore, make_pruner, non_dominated_ranks, spread_order
from nas.methods.search.settings import PRUNER_NAMES, PrunerSettings
from nas.study.objective import ObjectiveSettings, choose_winners
from nas.study.storage.opening import open_storage, open_study
from nas.study.trial_attributes import PUBLISHED, count_finished, trial_records
from nas.study.trial_loop import Idle, TrialTask, finish_without_result
from nas.study.trial_record import Outcome
from tests.study import fakes
from tests.study.fakes import PARETO, FakeEvaluator, make_search, new_study, small_space

REWARD = ObjectiveSettings(kind="mnasnet", target_ms=0.05)
EPOCHS = 9
FOUR = (0.5, 0.6, 0.7, 0.8)
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)).map(lambda pair: EpochScore(*pair)), min_size=1)


def rule(name: str, objective: ObjectiveSettings = PARETO, **settings: Any) -> BasePruner:
    """Pruner ``name`` for trainings of nine epochs."""
    made = make_pruner(PrunerSettings(name=name, **settings), objective, epochs=EPOCHS)
    assert made is not None
    return made


def add(
    study: optuna.Study,
    curve: Sequence[float],
    *,
    latency_ms: float = 1.0,
    state: TrialState = TrialState.RUNNING,
    **attrs: Any,
) -> FrozenTrial:
    """Add a trial with the accuracies ``curve`` after its epochs so far."""
    values = [curve[-1], latency_ms][: len(study.directions)] if state is TrialState.COMPLETE else None
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            values=values,
            user_attrs={"latency_ms": latency_ms, **attrs},
            intermediate_values=dict(enumerate(curve, start=1)),
        )
    )
    return study.trials[-1]


def replay(study: optuna.Study, pruner: BasePruner, curves: Sequence[Sequence[float]]) -> list[int]:
    """Train ``curves`` one after the other; the number of epochs of each."""
    lengths = []
    for curve in curves:
        trial = study.ask()
        trial.set_user_attr("latency_ms", 1.0)
        for epoch, value in enumerate(curve, start=1):
            study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
            if epoch < len(curve) and pruner.prune(study, study._storage.get_trial(trial._trial_id)):
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve[-1])
        lengths.append(epoch)
    return lengths


def rising(count: int, seed: int) -> list[list[float]]:
    """Learning curves of nine epochs that rise and cross."""
    rng = random.Random(seed)
    return [sorted(rng.random() for _ in range(EPOCHS)) for _ in range(count)]


@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("min_epochs", [1, 2])
def test_of_one_objective_halving_is_that_of_optuna(eta: int, min_epochs: int) -> None:
    theirs = optuna.pruners.SuccessiveHalvingPruner(min_resource=min_epochs, reduction_factor=eta)
    ours = rule("asha", REWARD, eta=eta, min_epochs=min_epochs, startup=1)
    curves = rising(60, seed=eta)
    expected = replay(optuna.create_study(direction="maximize"), theirs, curves)
    assert replay(optuna.create_study(direction="maximize"), ours, curves) == expected
    assert len(set(expected)) > 2


def test_of_one_objective_the_median_is_that_of_optuna_while_nothing_was_stopped() -> None:
    """Optuna compares complete trials only, by a trial's best epoch.

    That is the same for rising curves.
    """
    study = optuna.create_study(direction="maximize")
    theirs = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
    ours = rule("median", REWARD, min_epochs=2)
    verdicts = []
    for index, curve in enumerate(rising(40, seed=1)):
        newest = add(study, curve[: 1 + index % (EPOCHS - 1)])
        verdicts.append(ours.prune(study, newest))
        assert verdicts[-1] == theirs.prune(study, newest)
        study.tell(newest.number, state=TrialState.FAIL)
        add(study, curve, state=TrialState.COMPLETE)
    assert 5 < sum(verdicts) < 35


def test_hyperband_is_that_of_optuna_but_for_those_it_spares() -> None:
    def lengths(pruner: BasePruner) -> list[int]:
        return replay(optuna.create_study(direction="maximize", study_name="h"), pruner, rising(60, seed=3))

    expected = lengths(optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3))
    assert set(expected) == {1, 3, EPOCHS}
    assert lengths(rule("hyperband", REWARD, startup=1)) == expected
    patient = lengths(rule("hyperband", REWARD, startup=30))
    assert min(expected[:30]) < EPOCHS == min(patient[:30]) and min(patient) == 1
    study = new_study(objective=REWARD)
    for accuracy in FOUR:
        add(study, [accuracy])
    published = add(study, [0.0], **{PUBLISHED: "mixnet_s"})
    assert not rule("hyperband", REWARD).prune(study, published)


@pytest.mark.parametrize("name", ["median", "asha"])
def test_a_network_is_held_against_those_that_are_as_fast_or_somewhat_faster(name: str) -> None:
    study = new_study()
    for accuracy in FOUR:
        add(study, [accuracy], latency_ms=4.0)
    for latency_ms, window, is_behind in ((3.9, 2.0, False), (4.0, 1.0, True), (8.0, 2.0, True), (8.0, 1.9, False)):
        newest = add(study, [0.4], latency_ms=latency_ms)
        assert rule(name, latency_window=window).prune(study, newest) is is_behind
        assert rule(name, REWARD, latency_window=window).prune(study, newest)  # a reward has the latency in it
        study.tell(newest.number, state=TrialState.FAIL)


@pytest.mark.parametrize("name", ["median", "asha", "mo_asha"])
def test_the_worst_stops_and_the_best_goes_on(name: str) -> None:
    study = new_study()
    for accuracy in FOUR:
        add(study, [accuracy])
    assert rule(name).prune(study, add(study, [0.1]))
    assert not rule(name).prune(study, add(study, [0.9]))


@pytest.mark.parametrize("name", ["median", "asha", "mo_asha"])
def test_with_too_few_others_and_for_published_networks_training_goes_on(name: str) -> None:
    study = new_study()
    for accuracy in FOUR[:3]:
        add(study, [accuracy])
    last = add(study, [0.1])
    assert not rule(name).prune(study, last)
    add(study, [0.9], state=TrialState.FAIL)  # it may have diverged
    assert not rule(name).prune(study, last)
    add(study, [0.9], state=TrialState.PRUNED)
    assert rule(name).prune(study, last)
    assert not rule(name).prune(study, add(study, [0.1], **{PUBLISHED: "mixnet_s"}))


def test_halving_looks_at_the_rungs_alone_and_at_each_once() -> None:
    study = new_study()
    for accuracy in FOUR:
        add(study, [accuracy] * EPOCHS)
    asha = rule("asha", min_epochs=2, eta=2)
    assert [asha.prune(study, add(study, [0.1] * epochs)) for epochs in range(1, EPOCHS)] == [
        epochs in (2, 4, 8) for epochs in range(1, EPOCHS)
    ]


def test_a_rung_has_places_for_one_in_eta() -> None:
    """Of n trials max(1, n // 3) pass: the tenth must be among the best three of ten."""
    study = new_study()
    for rank in range(9):
        add(study, [0.1 + rank / 100])
    assert not rule("asha").prune(study, add(study, [0.165]))  # third of ten: 0.18, 0.17
    assert rule("asha").prune(study, add(study, [0.164]))  # fourth of eleven


def test_on_a_front_the_fast_go_on_beside_the_accurate() -> None:
    study = new_study()
    for accuracy, latency_ms in ((0.5, 1.0), (0.8, 4.0), (0.4, 1.5), (0.6, 4.5), (0.3, 1.6)):
        add(study, [accuracy], latency_ms=latency_ms)
    assert not rule("mo_asha").prune(study, add(study, [0.2], latency_ms=0.5))  # 3 on the front, 2 places: an end of it
    assert rule("mo_asha").prune(study, add(study, [0.7], latency_ms=4.2))  # dominated


@given(POINTS)
def test_ranks_are_those_of_peeling_fronts_off(points: list[EpochScore]) -> None:
    def beats(one: EpochScore, other: EpochScore) -> bool:
        return one != other and one.value >= other.value and one.latency_ms <= other.latency_ms

    left, expected = set(range(len(points))), [0] * len(points)
    for rank in range(len(points)):
        front = {i for i in left if not any(beats(points[j], points[i]) for j in left)}
        for i in front:
            expected[i] = rank
        left -= front
    assert non_dominated_ranks(points) == expected


@given(POINTS)
def test_each_next_point_of_a_net_is_the_farthest_from_those_before(points: list[EpochScore]) -> None:
    order = spread_order(points)
    assert sorted(order) == list(range(len(points)))
    assert points[order[0]].value == max(point.value for point in points)
    value_range = (max(p.value for p in points) - min(p.value for p in points)) or 1.0
    logs = [math.log(point.latency_ms) for point in points]
    log_range = (max(logs) - min(logs)) or 1.0

    def gap(i: int, chosen: list[int]) -> float:
        return min(
            math.hypot((points[i].value - points[j].value) / value_range, (logs[i] - logs[j]) / log_range)
            for j in chosen
        )

    for count in range(1, len(order)):
        best = max(gap(i, order[:count]) for i in order[count:])
        assert gap(order[count], order[:count]) == pytest.approx(best)


def test_none_is_no_rule() -> None:
    assert make_pruner(PrunerSettings(), PARETO, epochs=2) is None


@pytest.mark.parametrize(
    ("name", "objective", "epochs", "message"),
    [
        ("hyperband", PARETO, 9, r"pruner hyperband: is for a single reward; add objective=mnasnet"),
        ("mo_asha", REWARD, 9, r"pruner mo_asha: ranks by two objectives, objective\.kind is 'mnasnet'"),
        ("asha", PARETO, 1, r"pruner\.min_epochs 1: leaves no epoch to stop at, for proxy\.epochs is 1"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_in_words(
    name: str, objective: ObjectiveSettings, epochs: int, message: str
) -> None:
    with pytest.raises(NasError, match=message):
        PrunerSettings(name=name).check_fits(objective, epochs)


@pytest.fixture
def size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random accuracies, independent of latency.

    If slower networks were always better, none would rank below faster ones.
    """
    monkeypatch.setattr(fakes, "accuracy_of", lambda arch: int(arch.arch_id[:4], 16) / 2**16)


CASES = [
    (name, objective)
    for name in PRUNER_NAMES[1:]
    for objective in (PARETO, REWARD)
    if (name, objective.kind) not in (("hyperband", "pareto"), ("mo_asha", "mnasnet"))
]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize(("name", "objective"), CASES, ids=[f"{name}-{obj.kind}" for name, obj in CASES])
def test_a_search_that_stops_some_counts_them_and_never_chooses_them(
    name: str, objective: ObjectiveSettings, sampler: str, size_does_not_matter: None
) -> None:
    evaluator = FakeEvaluator(epochs=EPOCHS)
    search = make_search(
        small_space(), evaluator, objective=objective, sampler=sampler, n_trials=30, pruner=rule(name, objective)
    )
    search.run()
    rows = trial_records(search.study)
    stopped = [row for row in rows if row.outcome is Outcome.STOPPED]
    assert count_finished(search.study) == 30 == len(evaluator.trained) + len(stopped)
    assert len(stopped) >= 3
    assert all(row.outcome is Outcome.TRAINED for row in choose_winners(rows, objective))
    begun = [row.arch_id for row in rows if row.outcome in (Outcome.STOPPED, Outcome.TRAINED)]
    assert len(set(begun)) == len(begun)  # what was stopped is not tried again


def test_a_search_that_is_interrupted_stops_the_same_networks(tmp_path: Path, size_does_not_matter: None) -> None:
    """A pruner's state is in the storage alone: each run below has its own pruner."""

    def run(storage: optuna.storages.BaseStorage, interrupted_at: int | None = None) -> list[tuple[str, str]]:
        def trouble(call: int, _: object) -> None:
            if call == interrupted_at:
                raise KeyboardInterrupt

        study = open_study(storage, "s", PARETO, {})
        evaluator = FakeEvaluator(trouble, epochs=EPOCHS)
        search = make_search(
            small_space(), evaluator, study=study, sampler="tpe", n_trials=12, pruner=rule("asha", startup=1)
        )
        with suppress(KeyboardInterrupt):
            search.run()
        return [(row.arch_id, row.outcome) for row in trial_records(study)]

    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    run(open_storage(url), interrupted_at=8)
    unbroken = run(optuna.storages.InMemoryStorage())
    assert run(open_storage(url)) == unbroken
    assert Outcome.STOPPED in [outcome for _, outcome in unbroken]


def test_a_resumed_trial_that_had_passed_a_rung_is_not_stopped_there_later() -> None:
    study = new_study()
    passed = add(study, [0.2, 0.2])  # before any other came to the first rung
    for accuracy in FOUR:
        add(study, [accuracy] * EPOCHS, state=TrialState.COMPLETE)
    assert not rule("asha").prune(study, study.trials[0])
    study._storage.set_trial_intermediate_value(passed._trial_id, 3, 0.2)
    assert rule("asha").prune(study, study.trials[0])


def test_a_network_whose_twin_was_stopped_is_not_trained() -> None:
    study = new_study()
    one, other = (make_search(small_space(), FakeEvaluator(), study=study, n_trials=9) for _ in range(2))
    for _ in range(2):
        study.enqueue_trial(small_space().sample(random.Random(0)))
    first = one.ask()
    assert isinstance(first, TrialTask) and other.ask() is Idle.WAIT
    finish_without_result(study, first, Outcome.STOPPED, "behind")
    row = other.ask()
    assert not isinstance(row, TrialTask | Idle)
    assert (row.outcome, row.accuracy, row.reason) == (Outcome.DUPLICATE, None, "same as trial 0, which was stopped")
    assert study.trials[1].state is TrialState.PRUNED


def test_optuna_still_needs_to_be_told_of_stopped_trials_by_a_constraint() -> None:
    """If this fails, Optuna's TPE ranks stopped trials itself.

    Then `trial_loop` need not mark them with a constraint any more.
    """
    study = new_study()
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=0, seed=0)
    space = {"x": optuna.distributions.CategoricalDistribution([1, 2])}
    for values in ([0.5, 1.0], None):
        trial = study.ask(space)
        study._storage.set_trial_intermediate_value(trial._trial_id, 1, 0.5)
        study.tell(trial, values, state=None if values else TrialState.PRUNED)
    with pytest.raises(RuntimeError, match="single direction"):
        study.ask(space)
