"""Contract of every sampler: what a search relies on, whichever one draws its candidates.

A new name in ``SAMPLER_NAMES`` has to pass all of it; what a sampler cannot do stands in ``CANNOT``, with the reason.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.estimators.base import Evaluation
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.pruners import make_pruner
from nas.methods.search.settings import SAMPLER_NAMES, PrunerSettings
from nas.methods.search.trials.initial_trials import queue_initial_trials
from nas.study.candidates import survey
from nas.study.objective import ObjectiveSettings
from nas.study.recovery import recover_trials
from nas.study.storage.opening import open_storage, open_study
from nas.study.trial_attributes import count_finished, trial_records
from nas.study.trial_loop import TrialTask
from nas.study.trial_record import Outcome
from nas.training.results import EpochResult
from search_spaces.blockwise import BlockwiseSpace
from search_spaces.mixnet import MixNetSpace
from tests.benchmarks.filled import fill
from tests.methods.search.simulation import Cluster, Simulation, Training
from tests.study.fakes import (
    BLOCKS,
    CONF,
    PARETO,
    FakeEvaluator,
    OneWorker,
    accuracy_of,
    make_search,
    new_study,
    pricer,
    small_space,
)

REWARD: Final = ObjectiveSettings(kind="mnasnet", target_ms=0.05)
STARTUP: Final = 4  # of ``make_search``
# Samplers that know the limits and ask for no candidate that breaks one.
FEASIBLE_ONLY: Final = frozenset({"guided"}) & set(SAMPLER_NAMES)
# Trials of a search: the Gaussian process takes .1 to .3 CPU-s for each after the first four, the others milliseconds.
FEW: Final[Mapping[str, int]] = {"gp": STARTUP + 1}
USUAL: Final = 12

LARGE_LIMITS: Final = {"macs_m": 1.0}  # met by 70% of the large space
RARE: Final = "a limit that hardly any candidate meets"
THOUSANDS: Final = "a study of 10,000 trials"
CANNOT: Final[Mapping[tuple[str, str], str]] = {
    ("random", RARE): "it learns nothing",
    ("gp", RARE): "it takes .3 CPU-s a draw in a space of 68 choices, and needs dozens",
    ("gp", THOUSANDS): "its time grows with the cube of the trials: 71 s a draw at 1,000 (tests/benchmarks/RESULTS.md)",
}

every_objective = pytest.mark.parametrize("objective", [PARETO, REWARD], ids=["pareto", "mnasnet"])


def every_sampler(task: str = "") -> pytest.MarkDecorator:
    """Parametrise a test over the samplers that can do ``task``."""
    return pytest.mark.parametrize("sampler", [name for name in SAMPLER_NAMES if (name, task) not in CANNOT])


def trials_of(sampler: str) -> int:
    """Trials of a search with ``sampler``: more than it draws at random."""
    return FEW.get(sampler, USUAL)


def limit_m(share: float) -> float:
    """Multiply-adds in millions that this ``share`` of the points of the small space has at most."""
    prices = pricer(small_space())
    names, choices = zip(*prices.space.parameters.items(), strict=True)
    points = (dict(zip(names, values, strict=True)) for values in itertools.product(*choices))
    costs = sorted(prices.price(point).measures["macs_m"] for point in points)
    return round(costs[round(share * len(costs))] + 1e-6, 6)


def mixnet() -> MixNetSpace:
    """The published space of 1.1e26 points."""
    config = yaml.safe_load((CONF / "mixnet.yaml").read_text(encoding="utf-8"))
    return MixNetSpace(**{key: value for key, value in config.items() if not key.startswith("_")})


def tiny_space(**choices: Any) -> BlockwiseSpace:
    """Two blocks; ``choices`` of the second one, and of ``width``."""
    block = {"kernel": 3, "expansion": 3}
    return BlockwiseSpace(
        name="tiny",
        resolution_px=32,
        width=choices.pop("width", [1.0]),
        stem={"channels": 8},
        head={"channels": 32},
        stages=[
            {"stride": 1, "channels": 8, "type": "ds", "kernel": 3},
            {"stride": 2, "channels": 16, "blocks": [block, block | choices]},
        ],
    )


def large_space() -> BlockwiseSpace:
    """93,312 points."""
    return small_space([BLOCKS[0], *[BLOCKS[1]] * 3])


def is_new(search: OneWorker, genotype: Mapping[str, Any]) -> bool:
    """Whether ``search`` has not tried the network of ``genotype``."""
    arch_id = search.pricer.decode(genotype).arch_id
    return all(row.arch_id != arch_id for row in trial_records(search.study))


def sequence(study: optuna.Study) -> list[tuple[str, str]]:
    """Network and outcome of the study's trials, in order."""
    return [(row.arch_id, row.outcome) for row in trial_records(study)]


def check_points(search: OneWorker) -> None:
    """Every trial is a point of the space, and its network is the one that the point decodes to."""
    parameters = search.pricer.space.parameters
    for row in trial_records(search.study):
        assert row.genotype.keys() == parameters.keys()
        assert all(row.genotype[name] in values for name, values in parameters.items())
        assert row.arch_id == search.pricer.decode(row.genotype).arch_id


def raise_at(error: type[BaseException], *calls: int) -> Callable[[int, ArchSpec], None]:
    """Hook of a fake evaluator: ``error`` in these calls."""

    def trouble(call: int, _: ArchSpec) -> None:
        if call in calls:
            raise error

    return trouble


class StopsEvery(optuna.pruners.BasePruner):
    """Stops every training whose turn is a multiple of ``period``."""

    def __init__(self, period: int) -> None:
        self.period, self.turn = period, 0

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        self.turn += 1
        return self.turn % self.period == 0


class Constant(FakeEvaluator):
    """All networks are equally accurate."""

    def evaluate(
        self, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        super().evaluate(arch, repeat=repeat, on_epoch=on_epoch)
        return Evaluation(accuracy=0.5, cpu_s=0.0, duration_s=0.0)


@every_objective
@every_sampler()
def test_exactly_so_many_are_trained_and_told(sampler: str, objective: ObjectiveSettings) -> None:
    evaluator, count = FakeEvaluator(), trials_of(sampler)
    heard: list[int] = []
    search = make_search(small_space(), evaluator, sampler=sampler, objective=objective, n_trials=count)
    search.run(lambda row: heard.append(row.number))
    check_points(search)
    trained = [row for row in trial_records(search.study) if row.outcome is Outcome.TRAINED]
    assert len(trained) == len(evaluator.trained) == len(set(evaluator.trained)) == count
    assert heard == [trial.number for trial in search.study.trials]
    for row in trained:
        arch = search.pricer.price(row.genotype).arch
        assert (row.arch_id, row.accuracy) == (arch.arch_id, accuracy_of(arch))
        told = (row.accuracy, row.latency_ms)
        expected = told if objective is PARETO else (objective.reward(told[0] or 0, told[1] or 0),)
        assert tuple(search.study.trials[row.number].values) == expected


@every_objective
@every_sampler()
def test_what_breaks_a_limit_is_told_and_never_trained(sampler: str, objective: ObjectiveSettings) -> None:
    evaluator, limit = FakeEvaluator(), limit_m(0.5)
    search = make_search(
        small_space(), evaluator, sampler=sampler, objective=objective, n_trials=trials_of(sampler),
        limits={"macs_m": limit},
    )  # fmt: skip
    search.run()
    check_points(search)
    rows = trial_records(search.study)
    assert [row.arch_id for row in rows if row.outcome is Outcome.TRAINED] == evaluator.trained
    assert len(evaluator.trained) == trials_of(sampler)
    for row, trial in zip(rows, search.study.trials, strict=True):
        assert ((row.macs_m or 0) > limit) == (row.outcome is Outcome.INFEASIBLE) == (trial.state is TrialState.PRUNED)
        assert (trial.constraints["macs_m"] > 0) == (row.outcome is Outcome.INFEASIBLE)


@every_sampler(RARE)
def test_infeasible_candidates_teach_the_limit(sampler: str) -> None:
    # 2.2% of 20,000 random candidates met it: six of them take 272 random draws on average, at least 100 in 97 of 100.
    limits = {"macs_m": 180}
    search = make_search(mixnet(), FakeEvaluator(), sampler=sampler, n_trials=6, seed=1, limits=limits)
    search.run()
    assert len(search.evaluator.trained) == 6 and len(search.study.trials) < 100


@pytest.mark.parametrize("sampler", sorted(FEASIBLE_ONLY))
def test_proposes_feasible_only(sampler: str) -> None:
    search = make_search(small_space(), FakeEvaluator(), sampler=sampler, n_trials=5, limits={"macs_m": limit_m(0.3)})
    search.run()
    assert Outcome.INFEASIBLE not in {row.outcome for row in trial_records(search.study)}


@every_sampler()
def test_a_search_stopped_at_any_trial_resumes_with_the_same_ones(sampler: str, tmp_path: Path) -> None:
    # The Gaussian process draws for a front slowly.
    count, objective = min(8, trials_of(sampler)), REWARD if sampler == "gp" else PARETO

    def search(study: optuna.Study, evaluator: FakeEvaluator) -> OneWorker:
        return make_search(
            large_space(), evaluator, study=study, objective=objective, sampler=sampler, n_trials=count,
            limits=LARGE_LIMITS,
        )  # fmt: skip

    def opened() -> optuna.Study:
        return open_study(open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"), "fake", objective, {})

    unbroken = new_study(objective=objective)
    found = survey(pricer(large_space(), **LARGE_LIMITS), samples=9, seed=0)
    for study in (unbroken, opened()):
        queue_initial_trials(study, found, published={}, startup=2)
    search(unbroken, FakeEvaluator()).run()

    # Ctrl-C in the second trial, a queued one; a kill in the fifth, that a sampler learns for; Ctrl-C in it once more.
    for error, call in ((KeyboardInterrupt, 2), (SystemExit, 4), (KeyboardInterrupt, 1)):
        study = opened()
        with pytest.raises(error):
            search(study, FakeEvaluator(raise_at(error, call))).run()
        if error is SystemExit:  # no ``Exception``: the trial stays RUNNING, as after a kill
            study.ask()  # and another worker is killed before its network is known
            assert recover_trials(study) == 2
        assert not study.get_trials(states=(TrialState.RUNNING,))
    study = opened()
    search(study, FakeEvaluator()).run()
    assert sequence(study) == sequence(unbroken)
    assert count_finished(study) == count


@every_sampler()
def test_seeds_decide_the_sequence(sampler: str) -> None:
    runs = []
    for seed in (5, 5, 6):
        search = make_search(
            small_space(), FakeEvaluator(), sampler=sampler, objective=REWARD, seed=seed, n_trials=STARTUP + 2
        )
        search.run()
        runs.append(sequence(search.study))
    assert runs[0] == runs[1] != runs[2]


@every_sampler()
def test_four_workers_that_die_lose_nothing_and_do_nothing_twice(sampler: str) -> None:
    study, count, epochs = new_study(), trials_of(sampler) + 2, 3
    rule = make_pruner(PrunerSettings(name="asha", startup=2), PARETO, epochs=epochs)

    def training(arch: ArchSpec) -> Training:
        return Training(tuple(accuracy_of(arch) * epoch / epochs for epoch in range(1, epochs + 1)), 200.0)

    def search(worker: str) -> SearchAskTell:
        fakes = FakeEvaluator(epochs=epochs)
        return make_search(
            small_space(), fakes, study=study, sampler=sampler, n_trials=count, worker=worker, pruner=rule
        )

    simulation = Simulation(cluster=Cluster(workers=4, deaths_per_hour=3.0), search=search, training=training)
    simulation.run()
    assert simulation.deaths
    assert count_finished(study) == count and all(trial.state.is_finished() for trial in study.trials)
    taught = Counter(
        row.arch_id for row in trial_records(study) if row.outcome in (Outcome.TRAINED, Outcome.STOPPED)
    )  # fmt: skip
    assert max(taught.values()) == 1


@every_objective
@every_sampler()
def test_a_history_of_every_outcome_is_learned_from(sampler: str, objective: ObjectiveSettings) -> None:
    count = trials_of(sampler) + 2
    evaluator = FakeEvaluator(raise_at(ValueError, 1, 4), epochs=2)
    search = make_search(
        large_space(), evaluator, sampler=sampler, objective=objective, n_trials=count, pruner=StopsEvery(3),
        limits=LARGE_LIMITS,
    )  # fmt: skip
    search.run()
    rows = trial_records(search.study)
    assert {row.outcome for row in rows} >= {Outcome.TRAINED, Outcome.STOPPED, Outcome.FAILED}
    assert count_finished(search.study) == count


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.STOPPED])
@every_objective
@every_sampler()
def test_a_history_without_any_accuracy_is_survived(
    sampler: str, objective: ObjectiveSettings, outcome: Outcome
) -> None:
    trouble = raise_at(ValueError, *range(1, 9)) if outcome is Outcome.FAILED else None
    search = make_search(
        small_space(), FakeEvaluator(trouble, epochs=2), sampler=sampler, objective=objective, n_trials=8,
        pruner=StopsEvery(1),
    )  # fmt: skip
    search.run()
    assert {row.outcome for row in trial_records(search.study)} <= {outcome, Outcome.DUPLICATE}
    assert count_finished(search.study) == 8


@every_objective
@every_sampler()
def test_equal_accuracies_are_survived(sampler: str, objective: ObjectiveSettings) -> None:
    count = trials_of(sampler)
    search = make_search(small_space(), Constant(), sampler=sampler, objective=objective, n_trials=count)
    search.run()
    assert count_finished(search.study) == count


@pytest.mark.parametrize(
    ("space", "networks"),
    [
        (tiny_space(), 1),
        (tiny_space(width=[0.5, 1.0, 1.5]), 3),
        (tiny_space(repeats=[0, 1], kernel=[3, 5]), 3),  # an absent block has no kernel: 4 points
    ],
    ids=["one-point", "one-choice", "conditional"],
)
@every_sampler()
def test_a_tiny_space_is_used_up_in_words(sampler: str, space: BlockwiseSpace, networks: int) -> None:
    evaluator, study = FakeEvaluator(), new_study()
    make_search(space, evaluator, study=study, sampler=sampler, n_trials=networks).run()
    assert len(set(evaluator.trained)) == len(evaluator.trained) == networks
    points = f"all {space.size} points of space 'tiny' have" if space.size > 1 else "the only point of space 'tiny' has"
    if sampler == "guided" and space.size > networks:  # it counts networks, and asks for none twice
        points = f"all {networks} networks in space 'tiny' have"
    with pytest.raises(NasError, match=f"stopped after {networks} of {networks + 1} trials: {points} been tried"):
        make_search(space, evaluator, study=study, sampler=sampler, n_trials=networks + 1).run()
    assert len(evaluator.trained) == networks


@every_sampler()
def test_a_network_spelt_in_two_ways_is_trained_once(sampler: str) -> None:
    evaluator, space = FakeEvaluator(), small_space()
    search = make_search(space, evaluator, sampler=sampler, objective=REWARD, n_trials=STARTUP + 2)
    point = space.sample(random.Random(0)) | {"s1.b1.repeats": 0}
    for kernel in space.parameters["s1.b1.kernel"]:
        search.study.enqueue_trial({**point, "s1.b1.kernel": kernel})
    search.run()
    first, *others = trial_records(search.study)[: len(space.parameters["s1.b1.kernel"])]
    assert first.outcome is Outcome.TRAINED and first.genotype == {
        **point,
        "s1.b1.kernel": first.genotype["s1.b1.kernel"],
    }
    for row in others:
        assert (row.outcome, row.arch_id, row.accuracy) == (Outcome.DUPLICATE, first.arch_id, first.accuracy)
        assert row.reason == "same as trial 0" and row.genotype != first.genotype
    assert len(set(evaluator.trained)) == len(evaluator.trained) == STARTUP + 2


@every_sampler()
def test_queued_candidates_come_first(sampler: str) -> None:
    space = small_space()
    search = make_search(space, FakeEvaluator(), sampler=sampler, objective=REWARD, n_trials=STARTUP + 1)
    search.run()
    queued = next(point for point in map(space.sample, map(random.Random, range(99))) if is_new(search, point))
    search.study.enqueue_trial(queued)
    task = make_search(space, FakeEvaluator(), study=search.study, sampler=sampler, objective=REWARD, n_trials=9).ask()
    assert isinstance(task, TrialTask) and task.arch == search.pricer.decode(queued)


@every_sampler()
def test_a_huge_space_is_searched(sampler: str) -> None:
    search = make_search(mixnet(), FakeEvaluator(), sampler=sampler, objective=REWARD, n_trials=STARTUP + 2)
    assert search.pricer.space.size > 1e26
    search.run()
    check_points(search)
    assert len(set(search.evaluator.trained)) == STARTUP + 2


@pytest.fixture(scope="module")
def large_study() -> optuna.Study:
    """10,000 finished trials, with generations of NSGA-II; to the other samplers these are trials of any sampler."""
    study = new_study()
    search = make_search(large_space(), FakeEvaluator(), study=study, n_trials=1, limits=LARGE_LIMITS)
    search.run()
    (like,) = (trial for trial in study.trials if trial.state is TrialState.COMPLETE)
    fill(study, 10_000, search.pricer.space, "nsga2", like)
    return study


@every_sampler(THOUSANDS)
def test_a_study_of_10000_trials_goes_on(sampler: str, large_study: optuna.Study) -> None:
    def worker() -> OneWorker:
        return make_search(
            large_space(), FakeEvaluator(), study=large_study, sampler=sampler, n_trials=20_000, limits=LARGE_LIMITS
        )  # fmt: skip

    finished, search = count_finished(large_study), worker()
    while not isinstance(task := search.ask(), TrialTask):
        pass
    assert recover_trials(large_study) == 1  # its worker was killed
    again = worker()
    same = again.ask()
    assert isinstance(same, TrialTask) and (same.number, same.arch) == (task.number, task.arch)
    again.tell(same, again.evaluator.evaluate(same.arch))
    assert count_finished(large_study) == finished + 1
