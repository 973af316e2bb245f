"""Tests with simulated workers that straggle, die and are replaced.

They run the real ask-and-tell loop: no trial is lost, and none is trained twice.
"""

from __future__ import annotations

from collections import Counter

import optuna
import pytest

from nas.arch.spec import ArchSpec
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.pruners import make_pruner
from nas.methods.search.settings import PrunerSettings
from nas.study.objective import ObjectiveSettings
from nas.study.trial_attributes import count_finished, trial_records
from nas.study.trial_record import Outcome
from tests.methods.search.simulation import Cluster, Simulation, Training
from tests.study.fakes import FakeEvaluator, accuracy_of, make_search, new_study, small_space

N_TRIALS, EPOCHS = 40, 3


def training(arch: ArchSpec) -> Training:
    """Ten minutes, and an accuracy that rises in equal steps."""
    return Training(tuple(accuracy_of(arch) * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)), 200.0)


def simulated(cluster: Cluster, *, sampler: str = "random", pruner: str = "none") -> tuple[Simulation, optuna.Study]:
    """A study of a small space, run to its end."""
    study, space = new_study(), small_space()
    rule = make_pruner(PrunerSettings(name=pruner), ObjectiveSettings(), epochs=EPOCHS)

    def search(worker: str) -> SearchAskTell:
        evaluator = FakeEvaluator(epochs=EPOCHS)
        return make_search(
            space, evaluator, study=study, sampler=sampler, n_trials=N_TRIALS, worker=worker, pruner=rule
        )

    simulation = Simulation(cluster=cluster, search=search, training=training)
    simulation.run()
    return simulation, study


@pytest.mark.parametrize(("workers", "sampler"), [(1, "random"), (7, "tpe"), (100, "random")])
def test_of_workers_that_die_nothing_is_lost_and_nothing_done_twice(workers: int, sampler: str) -> None:
    simulation, study = simulated(Cluster(workers=workers, deaths_per_hour=1.0), sampler=sampler, pruner="asha")
    assert simulation.deaths
    assert count_finished(study) == N_TRIALS
    assert all(trial.state.is_finished() for trial in study.trials)
    rows = trial_records(study)
    taught = Counter(row.arch_id for row in rows if row.outcome in (Outcome.TRAINED, Outcome.STOPPED))
    assert max(taught.values()) == 1
    assert {row.outcome for row in rows} >= {Outcome.TRAINED, Outcome.STOPPED}


def test_the_same_seed_gives_the_same_study() -> None:
    runs = []
    for seed in (0, 0, 1):
        simulation, study = simulated(Cluster(workers=7, deaths_per_hour=1.0, seed=seed), sampler="tpe")
        runs.append((simulation.now_s, [(row.arch_id, row.outcome) for row in trial_records(study)]))
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("workers", [1, 5])
def test_time_is_that_of_the_trainings_dealt_to_the_workers(workers: int) -> None:
    simulation, _ = simulated(Cluster(workers=workers, spread=0.0, stragglers=0.0))
    assert simulation.busy_s == N_TRIALS * 600.0
    # A worker loses a second or two where it puts a network aside that another one trains.
    assert simulation.now_s == pytest.approx(N_TRIALS * 600.0 / workers, rel=0.01)
