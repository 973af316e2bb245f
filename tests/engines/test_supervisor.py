"""Supervision of workers that are puppets: who is replaced, what becomes of trials, and when a run ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import optuna
import pytest
from optuna.trial import TrialState

from nas.core.errors import NasError
from nas.engines.local import limits, supervisor
from nas.methods.search.ask_tell import SearchAskTell
from nas.study.config import EngineSettings
from nas.study.storage.trial_draft import TrialDraft
from nas.study.trial_attributes import WORKER, count_finished, distributions, trial_records
from nas.study.trial_loop import TrialTask, run_trial
from nas.study.trial_record import Outcome, TrialRecord
from tests.engines.killable import Puppet, Script, at_work
from tests.study.fakes import FakeEvaluator, make_search, new_study, small_space

N_TRIALS = 4


@dataclass
class Stage:
    """A study, what its crew said, and the scripts of its workers in the order in which they are started."""

    engine: EngineSettings
    study: optuna.Study = field(default_factory=new_study)
    scripts: list[Callable[[Puppet], Script]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    shown: list[TrialRecord] = field(default_factory=list)
    puppets: list[Puppet] = field(default_factory=list)
    check: Callable[..., None] = lambda *_: None

    def search(self, worker: str) -> SearchAskTell:
        search = make_search(small_space(), FakeEvaluator(), study=self.study, n_trials=N_TRIALS)
        names = ("study", "pricer", "objective", "sampler", "settings", "epochs")
        return SearchAskTell(worker=worker, **{name: getattr(search, name) for name in names})

    def run(self) -> None:
        plan = SimpleNamespace(engine=self.engine, latency=SimpleNamespace(refine=False))
        session: Any = SimpleNamespace(
            plan=plan,
            total=lambda _: N_TRIALS,
            is_complete=lambda study: count_finished(study) >= N_TRIALS,
            check_latencies=self.check,
        )
        progress: Any = SimpleNamespace(say=self.said.append, on_trial=self.shown.append)
        supervisor.Supervisor(session, None, self.study, progress).run()  # type: ignore[arg-type]

    def good(self, puppet: Puppet) -> Script:
        yield from at_work(puppet, self.search(puppet.name), FakeEvaluator())

    def take(self, puppet: Puppet) -> None:
        task: Any = self.search(puppet.name).ask()
        puppet.ready = puppet.began = True
        puppet.number = task.number

    def killed_at_work(self, puppet: Puppet) -> Script:
        self.take(puppet)
        yield
        raise SystemExit

    def hangs(self, puppet: Puppet) -> Script:
        self.take(puppet)
        while True:
            yield

    def ends(self, code: int, reason: str = "") -> Callable[[Puppet], Script]:
        def script(puppet: Puppet) -> Script:
            puppet.exitcode, puppet.reason = code, reason
            yield

        return script

    def ends_at_work(self, code: int, reason: str = "") -> Callable[[Puppet], Script]:
        def script(puppet: Puppet) -> Script:
            self.take(puppet)
            yield
            puppet.exitcode, puppet.reason = code, reason
            yield

        return script


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    """A stage whose clock goes on by half a second whenever the crew waits."""

    def make(*names: str | Callable[[Puppet], Script], **settings: Any) -> Stage:
        made = Stage(EngineSettings(**settings))
        made.scripts = [getattr(made, name) if isinstance(name, str) else name for name in names]
        script = iter(made.scripts)

        def worker(_plan: object, _work: object, place: int) -> Puppet:
            made.puppets.append(Puppet(place, next(script, made.good)))
            return made.puppets[-1]

        ticks = iter(range(10**6))
        monkeypatch.setattr(supervisor, "start_server", lambda _: None)
        monkeypatch.setattr(supervisor, "Worker", worker)
        monkeypatch.setattr(supervisor, "wait", lambda *_: [])
        monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 2))
        return made

    return make


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.trials]


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(stage: Callable[..., Stage]) -> None:
    made = stage("killed_at_work", "good", workers=2)
    made.run()
    first, second, third = made.puppets
    assert (first.exitcode, second.exitcode, third.exitcode) == (-9, 0, 0)
    assert first.place == third.place != second.place
    assert count_finished(made.study) == N_TRIALS == len(made.shown)
    assert made.said == [f"{first.name} was killed by SIGKILL; taken back: trial 0"]
    assert made.study.trials[0].user_attrs["kills"] == 1 and made.study.trials[0].state is TrialState.COMPLETE


def test_after_each_trial_latencies_may_be_checked_while_all_workers_are_paused(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, paused, ended = stage("good", "good", workers=2), list[list[Puppet]](), list[int]()
    monkeypatch.setattr(
        supervisor, "pause_training", lambda workers: contextlib.nullcontext(paused.append(list(workers)))
    )

    def check(study: optuna.Study, say: Callable[[str], None], pause: Callable[[], Any]) -> None:
        ended.append(count_finished(study))
        if len(ended) == 1:
            with pause():
                say("measured")

    made.check = check
    made.run()
    assert ended[-1] == N_TRIALS and ended == sorted(ended)
    assert paused == [made.puppets] and "measured" in made.said


@pytest.mark.parametrize("max_retries", [0, 2])
def test_a_trial_is_retried_so_often_and_then_fails(stage: Callable[..., Stage], max_retries: int) -> None:
    made = stage(*["killed_at_work"] * (max_retries + 1), max_retries=max_retries, trial_timeout_s=1000.0)
    made.run()
    assert len(made.puppets) == max_retries + 2
    (failed,) = [row for row in trial_records(made.study) if row.outcome is Outcome.FAILED]
    assert failed.number == 0
    assert failed.reason.startswith(
        f"its worker was killed {max_retries + 1} times; out of memory? Fewer engine.workers"
    )
    assert count_finished(made.study) == N_TRIALS


def test_a_trial_beyond_its_time_fails_at_once_and_what_its_worker_held_besides_does_not(
    stage: Callable[..., Stage],
) -> None:
    made = stage("hangs", trial_timeout_s=20.0, max_retries=0)
    made.scripts[0] = made.hangs
    parked = made.study.ask(distributions(small_space().parameters))
    for name, value in (("arch_id", "parked"), (WORKER, f"puppet-{next(Puppet._numbers) + 1}")):
        parked.set_user_attr(name, value)
    made.run()
    (failed,) = [row for row in trial_records(made.study) if row.outcome is Outcome.FAILED]
    assert failed.number == 1 and failed.reason.startswith("trained for longer than engine.trial_timeout_s 20; raise")
    assert "kills" not in made.study.trials[0].user_attrs and set(states(made.study)) == {
        TrialState.COMPLETE,
        TrialState.FAIL,
    }
    assert count_finished(made.study) == N_TRIALS and made.said == []


def test_a_trial_beyond_its_memory_fails_and_what_helps_is_said_before(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_mb = iter([500.0, 700.0, 850.0, 900.0, 1001.0])
    monkeypatch.setattr(supervisor, "resident_mb", lambda _: next(held_mb, 500.0))
    made = stage("hangs", trial_memory_mb=1000.0)
    made.run()
    (failed,) = [row for row in trial_records(made.study) if row.outcome is Outcome.FAILED]
    assert failed.reason.startswith("its worker held 1001 MB, engine.trial_memory_mb is 1000; lower proxy.batch_size")
    (said,) = made.said
    assert said.startswith(f"{made.puppets[0].name} at trial 0 holds 850 of the 1000 MB of engine.trial_memory_mb; ")
    assert count_finished(made.study) == N_TRIALS


def test_a_trial_that_nobody_had_claimed_is_recovered_after_a_while(stage: Callable[..., Stage]) -> None:
    def killed_between_ask_and_name(puppet: Puppet) -> Script:
        made.study.ask(distributions(small_space().parameters)).set_user_attr("arch_id", "x")
        puppet.ready = puppet.began = True
        raise SystemExit
        yield

    made = stage(killed_between_ask_and_name, "good", workers=2)
    made.run()
    assert count_finished(made.study) == N_TRIALS and made.study.trials[0].state is TrialState.COMPLETE
    assert made.study.trials[0].user_attrs["kills"] == 1


def test_a_trial_that_was_asked_for_in_vain_is_not_stored(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(workers=1, trial_timeout_s=1000.0)
    ask, others = TrialDraft.ask, []

    def ask_after_another(*arguments: Any) -> optuna.Trial:
        if not others and len(made.study.trials) == N_TRIALS - 1:
            other = made.search("other")  # asks for the last trial after this worker saw that one is wanted
            others.append(other)
            run_trial(other, cast(TrialTask, other.ask()), FakeEvaluator())
        return ask(*arguments)

    monkeypatch.setattr(TrialDraft, "ask", ask_after_another)
    made.run()
    assert states(made.study) == [TrialState.COMPLETE] * N_TRIALS
    assert [(row.number, row.outcome) for row in made.shown] == [(n, Outcome.TRAINED) for n in range(N_TRIALS)]
    assert trial_records(made.study) == made.shown and made.said == []


def test_workers_that_cannot_load_end_the_run_with_the_first_reason(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.scripts += [made.ends(1), made.ends(1)]
    made.engine = EngineSettings(workers=2)
    with pytest.raises(NasError, match=r"^a worker process ended with exit code 1; what it wrote above says why\.$"):
        made.run()
    assert len(made.puppets) == 2
    assert made.said == [f"{puppet.name} ended with exit code 1" for puppet in made.puppets]
    told = stage(workers=2)
    told.scripts += [told.ends(0, "the space is used up"), told.ends(0, "another reason")]
    with pytest.raises(NasError, match=r"^the space is used up$"):
        told.run()


def test_workers_killed_before_their_first_trial_are_replaced_a_few_times(stage: Callable[..., Stage]) -> None:
    made = stage(workers=1, max_retries=1, trial_timeout_s=9.0)
    made.scripts += [made.ends(-9)] * 5
    with pytest.raises(
        NasError, match=r"^2 worker processes in a row were killed by SIGKILL before .* out of memory\?"
    ):
        made.run()
    assert len(made.puppets) == 2
    fewer = stage(workers=2, max_retries=1)
    fewer.scripts += [fewer.good, *[fewer.ends(-9)] * 5]
    fewer.run()
    assert count_finished(fewer.study) == N_TRIALS


def test_workers_that_die_with_the_process_they_were_forked_from_are_replaced(stage: Callable[..., Stage]) -> None:
    made = stage(workers=2)
    made.scripts += [made.ends(255), made.ends(255)]
    made.run()
    assert count_finished(made.study) == N_TRIALS and len(made.puppets) == 4
    assert made.said == [f"{puppet.name} was killed by SIGKILL" for puppet in made.puppets[:2]]


def test_a_worker_that_breaks_down_gives_up_its_place_and_its_trial_but_not_those_of_others(
    stage: Callable[..., Stage],
) -> None:
    made = stage(workers=2)
    made.scripts += [made.ends_at_work(1)]
    made.run()
    broken, other = made.puppets
    assert (broken.exitcode, other.exitcode) == (1, 0)
    assert made.said == [f"{broken.name} ended with exit code 1; taken back: trial 0"]
    assert count_finished(made.study) == N_TRIALS and set(states(made.study)) == {TrialState.COMPLETE}


def test_a_trial_is_not_blamed_for_a_worker_that_stopped_by_itself(stage: Callable[..., Stage]) -> None:
    made = stage(workers=2, max_retries=0)
    made.scripts += [made.ends_at_work(0, "study.storage was not reachable")]
    made.run()
    assert len(made.puppets) == 2 and "kills" not in made.study.trials[0].user_attrs
    assert count_finished(made.study) == N_TRIALS and set(states(made.study)) == {TrialState.COMPLETE}


def test_the_trials_of_workers_that_die_with_the_process_they_were_forked_from_are_tried_again(
    stage: Callable[..., Stage],
) -> None:
    made = stage(workers=2, max_retries=1)
    made.scripts += [made.ends_at_work(255)] * 2
    made.run()
    first, second = made.puppets[:2]
    assert [line.partition(";")[0] for line in made.said] == [
        f"{puppet.name} was killed by SIGKILL" for puppet in (first, second)
    ]
    assert [trial.user_attrs.get("kills") for trial in made.study.trials[:2]] == [1, 1]
    assert count_finished(made.study) == N_TRIALS and set(states(made.study)) == {TrialState.COMPLETE}


def test_workers_that_find_nothing_left_to_do_are_no_sign_of_a_lack_of_memory(stage: Callable[..., Stage]) -> None:
    made = stage(workers=1, max_retries=0)
    made.scripts += [made.ends(0), made.ends(0), made.ends(-9)]
    with pytest.raises(NasError, match=r"^1 worker processes in a row were killed by SIGKILL"):
        made.run()
    assert len(made.puppets) == 3


def test_an_interrupt_gives_everything_back(stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    made = stage("hangs", "hangs", workers=2)
    ticks = iter(range(100))

    def wait(*_: object) -> list[object]:
        if next(ticks) == 3:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(supervisor, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert states(made.study) == [TrialState.WAITING, TrialState.WAITING]
    assert [puppet.exitcode for puppet in made.puppets] == [0, 0]


def test_a_worker_that_is_too_large_from_the_start_says_so() -> None:
    own_mb = limits.resident_mb()
    assert 50 < own_mb < 50_000
    limits.check_baseline(EngineSettings(trial_memory_mb=2 * own_mb))
    with pytest.raises(NasError, match=r"trial_memory_mb 20: a worker holds \d+ MB before its first trial"):
        limits.check_baseline(EngineSettings(trial_memory_mb=20.0))
    assert limits.resident_mb(2**22 + 1) == 0.0  # beyond the largest process id there can be
