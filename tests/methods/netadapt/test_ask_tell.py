"""Tests of the adaptation's ask-and-tell loop, with invented losses."""

from __future__ import annotations

import itertools
from functools import reduce
from pathlib import Path

import pytest
from optuna.trial import TrialState

from nas.arch import ArchSpec
from nas.core.errors import NasError
from nas.methods.netadapt.ask_tell import NetAdaptAskTell
from nas.methods.netadapt.proposals import Change, changed
from nas.methods.netadapt.state import Phase, planned, queue_trials, retry_failed, step_trial, steps_taken, trials_at
from nas.study.recovery import recover_trials
from nas.study.trial_loop import Idle, TrialTask, run_trial, run_trial_loop
from nas.study.trial_record import Outcome
from tests.methods.netadapt.fakes import SEED, FakeEvaluator, asker, macs, new_study


def free_kernels(arch: ArchSpec) -> float:
    """Loss at which smaller kernels and fewer groups cost nothing, all else a lot."""
    others = 100 * (macs(SEED) - macs(arch)) / macs(SEED)
    kernels, whole = ([placed.block.kernels for placed in one.placed_blocks()] for one in (arch, SEED))
    return 1e-3 * others if len(kernels) == len(whole) and kernels != whole else others


def flat(_: ArchSpec) -> float:
    return 1.0


def network_of(tasks: NetAdaptAskTell) -> ArchSpec:
    return tasks.files.arch(len(steps_taken(tasks.study)) - 1)


def test_the_target_is_met_in_steps_of_at_least_their_size(tmp_path: Path) -> None:
    tasks = asker(new_study(), tmp_path)
    run_trial_loop(tasks, FakeEvaluator(tmp_path, flat))
    taken = steps_taken(tasks.study)
    costs = [macs(tasks.files.arch(step)) for step in range(len(taken))]
    assert costs[0] == macs(SEED) and costs[-1] <= tasks.target
    for before, after in itertools.pairwise(costs):
        assert after <= max(before - tasks.step, tasks.target) + 1e-9
    assert len(taken) <= tasks.most_steps + 1
    assert tasks.ask() is Idle.OVER


def test_weights_pass_from_step_to_step(tmp_path: Path) -> None:
    tasks, evaluator = asker(new_study(), tmp_path), FakeEvaluator(tmp_path, flat)
    run_trial_loop(tasks, evaluator)
    chain = ["drawn", *(tasks.files.arch(step).arch_id for step in range(len(steps_taken(tasks.study))))]
    for step in range(len(steps_taken(tasks.study))):
        assert tasks.files.weights(step).decode() == " ".join(chain[: step + 2])
    assert not list((tmp_path / "weights").iterdir())  # of networks that no step kept


def test_the_change_that_costs_nothing_is_kept_first(tmp_path: Path) -> None:
    tasks = asker(new_study(), tmp_path, share=0.95, delta=0.02, step=0.02)
    run_trial_loop(tasks, FakeEvaluator(tmp_path, free_kernels))
    kept = tasks.study.get_trials()[steps_taken(tasks.study)[1]]
    assert {change.kind for change in step_trial(kept).changes} <= {"kernel", "group"}
    scored = trials_at(tasks.study, 1, Phase.LOSS)
    assert step_trial(scored[0]).changes == ()
    assert all(trial.user_attrs["outcome"] == Outcome.SCORED for trial in scored)
    assert all(trial.state is TrialState.PRUNED for trial in scored)  # no accuracy: no best trial


def test_proposals_are_joined_until_a_step_is_cut(tmp_path: Path) -> None:
    tasks = asker(new_study(), tmp_path, share=0.7, delta=0.02, step=0.15, kinds=("expansion", "width"))
    run_trial_loop(tasks, FakeEvaluator(tmp_path, flat))
    first = tasks.study.get_trials()[steps_taken(tasks.study)[1]]
    changes = step_trial(first).changes
    assert len(changes) > 1
    whole = reduce(lambda arch, change: changed(arch, change, tasks.settings, 16), changes, SEED)
    assert whole.arch_id == tasks.files.arch(1).arch_id
    for left_out in changes[1:]:  # none is there that is not needed; the first is the best proposal
        fewer = [change for change in changes if change != left_out]
        arch = reduce(lambda arch, change: changed(arch, change, tasks.settings, 16), fewer, SEED)
        assert macs(arch) > macs(SEED) - tasks.step


def test_several_networks_are_fine_tuned_and_the_best_is_kept(tmp_path: Path) -> None:
    tasks = asker(new_study(), tmp_path, share=0.97, delta=0.02, step=0.02, fine_tuned=3, criterion="loss")
    evaluator = FakeEvaluator(tmp_path, lambda arch: macs(arch) * 7 % 1)
    run_trial_loop(tasks, evaluator)
    tuned = trials_at(tasks.study, 1, Phase.FINE_TUNING)
    assert len(tuned) == 3 and len({step_trial(trial).changes[0] for trial in tuned}) == 3
    best = min(tuned, key=lambda trial: trial.user_attrs["score_adaptation_loss"])
    assert steps_taken(tasks.study)[1] == best.number


def test_a_failed_proposal_is_left_out(tmp_path: Path) -> None:
    evaluator = FakeEvaluator(tmp_path, flat, fails=lambda arch: arch.resolution_px < 32)
    tasks = asker(new_study(), tmp_path)
    run_trial_loop(tasks, evaluator)
    assert network_of(tasks).resolution_px == 32
    failed = [trial for trial in tasks.study.get_trials() if trial.user_attrs["outcome"] == Outcome.FAILED]
    assert failed and all("resolution" in step_trial(trial).label for trial in failed)


def test_a_step_without_results_names_the_last_good_weights(tmp_path: Path) -> None:
    evaluator = FakeEvaluator(tmp_path, flat, fails=lambda arch: arch.arch_id != SEED.arch_id)
    with pytest.raises(NasError, match=r"step 1: none of \d+ networks .*invented\. .*steps/000\.safetensors"):
        run_trial_loop(asker(new_study(), tmp_path), evaluator)


def test_without_a_loss_of_the_unchanged_network_nothing_is_ordered(tmp_path: Path) -> None:
    evaluator = FakeEvaluator(tmp_path, flat, fails=lambda arch: arch.arch_id == SEED.arch_id)
    with pytest.raises(NasError, match=r"step 1: network 'unchanged' came to no loss: .*invented\. .*steps/000\.saf"):
        run_trial_loop(asker(new_study(), tmp_path), evaluator)


@pytest.mark.parametrize("failed", ["seed", "unchanged", "proposals", "fine-tuning"])
def test_what_failed_in_the_present_step_is_tried_again_on_resuming(tmp_path: Path, failed: str) -> None:
    def fails(arch: ArchSpec) -> bool:
        return failed == "proposals" or (failed == "unchanged" and arch.arch_id == SEED.arch_id)

    tasks, evaluator = asker(new_study(), tmp_path, fine_tuned=2), FakeEvaluator(tmp_path, flat, fails=fails)
    if failed in ("seed", "fine-tuning"):
        evaluator.fails_to_train = lambda arch: failed == "seed" or arch.arch_id != SEED.arch_id
    with pytest.raises(NasError, match="invented"):
        run_trial_loop(tasks, evaluator)
    with pytest.raises(NasError, match="invented"):
        run_trial_loop(tasks, evaluator)
    ended = len(tasks.study.trials)
    retry_failed(tasks.study)
    assert len(tasks.study.trials) > ended
    run_trial_loop(tasks, FakeEvaluator(tmp_path, flat))
    assert tasks.ask() is Idle.OVER
    assert not any(trial.user_attrs["outcome"] == Outcome.DUPLICATE for trial in tasks.study.trials)


def test_a_trial_that_is_killed_too_often_is_not_tried_again(tmp_path: Path) -> None:
    tasks = asker(new_study(), tmp_path)
    assert isinstance(tasks.ask(), TrialTask)
    recover_trials(tasks.study, max_retries=0)
    retry_failed(tasks.study)
    assert [trial.state for trial in tasks.study.trials] == [TrialState.FAIL]


@pytest.mark.parametrize("killed_after", [0, 1, 2, 5, 9, 14, 20])
def test_a_killed_adaptation_ends_like_an_unbroken_one(tmp_path: Path, killed_after: int) -> None:
    def loss(arch: ArchSpec) -> float:
        return (macs(arch) * 13.7) % 1

    whole = asker(new_study(), tmp_path)
    run_trial_loop(whole, FakeEvaluator(tmp_path, loss))

    folder = tmp_path / "killed"
    folder.mkdir()
    broken, evaluator, count = asker(new_study(), folder), FakeEvaluator(folder, loss), 0
    while isinstance(task := broken.ask(), TrialTask) and count < killed_after:
        run_trial(broken, task, evaluator)
        count += 1
    recover_trials(broken.study)  # the trial that was handed out stays RUNNING after a kill
    again = asker(broken.study, folder)
    run_trial_loop(again, evaluator)
    assert [trial.user_attrs.get("arch_id") for trial in again.study.get_trials()] == [
        trial.user_attrs.get("arch_id") for trial in whole.study.get_trials()
    ]
    assert steps_taken(again.study) == steps_taken(whole.study)
    assert network_of(again).arch_id == network_of(whole).arch_id


def test_a_kill_while_trials_are_queued_loses_none(tmp_path: Path) -> None:
    tasks, evaluator = asker(new_study(), tmp_path), FakeEvaluator(tmp_path, flat)
    seed = tasks.ask()
    assert isinstance(seed, TrialTask)
    run_trial(tasks, seed, evaluator)
    tasks.prepare_next()  # keeps the seed network
    tasks.prepare_next()  # queues the first step
    plan = planned(tasks.study)
    assert plan is not None and plan.phase is Phase.LOSS
    storage = tasks.study._storage
    dropped = trials_at(tasks.study, 1, Phase.LOSS)[2:]
    trials = storage._studies[tasks.study._study_id].trials
    del trials[-len(dropped) :]
    run_trial_loop(asker(tasks.study, tmp_path), evaluator)
    assert len(trials_at(tasks.study, 1, Phase.LOSS)) == plan.trials


def test_two_workers_share_a_step(tmp_path: Path) -> None:
    study, evaluator = new_study(), FakeEvaluator(tmp_path, flat)
    first, second = asker(study, tmp_path), asker(study, tmp_path)
    seed = first.ask()
    assert isinstance(seed, TrialTask) and second.ask() is Idle.WAIT
    run_trial(first, seed, evaluator)
    one, two = first.ask(), second.ask()
    assert isinstance(one, TrialTask) and isinstance(two, TrialTask) and one.number != two.number
    for worker, task in ((second, two), (first, one)):
        run_trial(worker, task, evaluator)
    queue_trials(study, [step_trial(trial) for trial in trials_at(study, 1, Phase.LOSS)])  # as both plan it at once
    run_trial_loop(second, evaluator)
    assert second.is_over


def test_a_trial_that_is_queued_twice_is_tried_once(tmp_path: Path) -> None:
    study, evaluator = new_study(), FakeEvaluator(tmp_path, flat)
    tasks = asker(study, tmp_path)
    seed = tasks.ask()
    assert isinstance(seed, TrialTask)
    study.enqueue_trial({"step": 0, "phase": "seed"}, user_attrs=dict(study.get_trials()[0].user_attrs))
    run_trial(tasks, seed, evaluator)
    row = tasks.ask()
    assert not isinstance(row, TrialTask | Idle) and row.outcome is Outcome.DUPLICATE


def test_lost_weights_are_told(tmp_path: Path) -> None:
    tasks, evaluator = asker(new_study(), tmp_path), FakeEvaluator(tmp_path, flat)
    seed = tasks.ask()
    assert isinstance(seed, TrialTask)
    run_trial(tasks, seed, evaluator)
    tasks.prepare_next()
    tasks.files.weights_path(0).unlink()
    with pytest.raises(NasError, match=r"000\.safetensors: cannot be read .*; restore it, or begin"):
        tasks.ask()


def test_no_proposal_left_is_told(tmp_path: Path) -> None:
    tasks = asker(new_study(), tmp_path, share=0.2, kinds=("kernel",), delta=0.001, step=0.001)
    with pytest.raises(NasError, match=r"no single change cuts macs_m by .*netadapt\.kinds"):
        run_trial_loop(tasks, FakeEvaluator(tmp_path, flat))


def test_changes_are_read_back_as_they_were_queued(tmp_path: Path) -> None:
    tasks = asker(new_study(), tmp_path)
    run_trial_loop(tasks, FakeEvaluator(tmp_path, flat))
    for trial in tasks.study.get_trials():
        assert all(isinstance(change, Change) for change in step_trial(trial).changes)
