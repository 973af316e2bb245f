"""Workers whose calls to the storage take turns in any order, some killed at one: nothing twice, nothing lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas.methods.scaling.settings import RaceSettings
from nas.methods.scaling.trial_attributes import training_of
from nas.study import trial_loop
from nas.study.recovery import recover_killed_trial
from nas.study.trial_attributes import count_finished
from tests.engines.killable import seen_through, trained_once
from tests.methods.scaling import fakes as grid
from tests.study.fakes import FakeEvaluator, make_search, mobilenet_v1, new_study, small_space

WORKERS = 3
DEATH = 0.01  # at each call
RECOVERY = 0.2  # at each call of another worker
MOST_TURNS = 100_000
Live = Callable[[optuna.Study], None]


class Seat(threading.Thread):
    """A worker that goes on by one call to the storage when it is given ``turn``; ``killed``, by none any more."""

    def __init__(self, study: optuna.Study, live: Live, over: threading.Semaphore) -> None:
        super().__init__(daemon=True)
        self.held: set[int] = set()
        self.turn, self.killed = threading.Semaphore(0), False
        self._study, self._live, self._over = study, live, over

    def run(self) -> None:
        with suppress(SystemExit):
            self.turn.acquire()
            self._live(seen_through(self._study, self))
        self.killed = True
        self._over.release()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._study._storage, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if not self.killed:
                self._over.release()
                self.turn.acquire()
            if self.killed:
                raise SystemExit
            answer = found(*arguments, **named)
            if name == "create_new_trial" and arguments[1].state is TrialState.RUNNING:
                self.held.add(answer)
            elif name == "set_trial_state_values":
                self.held.discard(arguments[0])
                if arguments[1] is TrialState.RUNNING and answer:
                    self.held.add(arguments[0])
            return answer

        return call


def take_turns(study: optuna.Study, live: Live, rng: random.Random) -> int:
    """Let ``WORKERS`` live on ``study``, those that are killed replaced a while later; how many were killed."""
    over, deaths = threading.Semaphore(0), 0
    seats: list[Seat] = []
    dead: list[Seat] = []

    def sit() -> None:
        seats.append(Seat(study, live, over))
        seats[-1].start()

    for _ in range(WORKERS):
        sit()
    for _ in range(MOST_TURNS):
        if not seats and not dead:
            assert TrialState.RUNNING not in {trial.state for trial in study.trials}
            return deaths
        if dead and (not seats or rng.random() < RECOVERY):
            held = dead.pop().held
            for trial in study.get_trials(states=(TrialState.RUNNING,)):
                if trial._trial_id in held:
                    recover_killed_trial(study, trial, max_retries=99)
            sit()
        seat = rng.choice(seats)
        seat.killed = is_killed = rng.random() < DEATH
        seat.turn.release()
        over.acquire()
        if seat.killed:
            seat.join()
            seats.remove(seat)
            if is_killed:
                deaths += 1
                dead.append(seat)
    raise AssertionError("they wait for each other")


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_loop, "_WAIT_S", 0.0)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("space", [mobilenet_v1(), small_space()], ids=["sixteen points", "many points"])
def test_a_search_has_its_trials_once_whoever_comes_first(space: Any) -> None:
    deaths = 0
    for seed in range(60):
        rng, study = random.Random(seed), new_study()
        for _ in range(2):  # whatever is queued, another worker has it too
            for first in range(3):
                study.enqueue_trial(space.sample(random.Random(first)))

        def live(mine: optuna.Study) -> None:
            make_search(space, FakeEvaluator(epochs=2), study=mine, n_trials=6).run()

        deaths += take_turns(study, live, rng)
        trained_once(study, lambda trial: trial.user_attrs["arch_id"])
        assert count_finished(study) == 6, seed
    assert deaths > 30


@pytest.mark.usefixtures("hurry")
def test_a_race_has_its_trainings_once_whoever_comes_first() -> None:
    plan = grid.make_plan(compare=("depth", "width", "compound"), race=RaceSettings(seeds=2, stop_share=0.0))
    entries = grid.entries_of(plan)

    def live(mine: optuna.Study) -> None:
        trainer = grid.FakeTrainer(entries, lambda label, repeat: 0.5 + 0.01 * repeat + 0.001 * len(label))
        grid.make_race(plan, entries, trainer, mine).run()

    unbroken = grid.new_study(plan)
    live(unbroken)
    deaths = 0
    for seed in range(20):
        study = grid.new_study(plan)
        deaths += take_turns(study, live, random.Random(seed))
        assert trained_once(study, training_of) == trained_once(unbroken, training_of), seed
    assert deaths > 10
