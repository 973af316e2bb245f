"""Tests of stepwise expansion in a study: networks, chosen axes, and resumption.

Which networks a step needs, which axis it chooses, and that a kill changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna
import pytest
from optuna.search_space import intersection_search_space

from nas.arch import zoo
from nas.arch.scaling.rules import DIRECTIONS, stepwise
from nas.arch.spec import ArchSpec
from nas.estimators.base import Evaluation
from nas.methods.scaling import ask_tell as race_module
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.networks import DesignAt
from nas.methods.scaling.ranking.ranking import Ranking, rank_networks
from nas.methods.scaling.settings import RaceSettings
from nas.methods.scaling.trial_attributes import accuracies_of, chosen_axes, planned_rounds, training_of
from nas.training.results import EpochResult
from tests.methods.scaling.fakes import OneWorker, design_at, make_plan, make_race, new_study

B = zoo.get("mobilenetv2_035")
PLAN = make_plan(
    baseline="mobilenetv2_035", phi=3, compare=("depth", "compound", "stepwise"), race=RaceSettings(seeds=2)
)


@pytest.fixture(scope="module")
def at() -> DesignAt:
    return design_at(PLAN)


def merit(arch: ArchSpec) -> float:
    """Accuracy of a network: a gain per doubling of each dimension.

    Width pays only for the first fifth of a doubling.
    """
    wider = math.log2(arch.stages[-1].blocks[-1].channels / B.stages[-1].blocks[-1].channels)
    deeper, larger = math.log2(arch.depth / B.depth), math.log2(arch.resolution_px / B.resolution_px)
    return 0.3 + 0.5 * min(0.2, wider) + 0.02 * deeper + 0.12 * larger


@dataclass
class ByMerit:
    """Fake trainer: accuracy by ``merit``, with noise that alternates between repeats.

    ``noise``: subtracted for even repeats, added for odd ones. ``trouble``: called with the number of the training,
    from 1, and its network; may raise.
    """

    noise: float = 0.001
    trouble: Callable[[int, ArchSpec], None] | None = None
    trained: list[tuple[str, int]] = field(default_factory=list)
    calls: int = 0

    def evaluate(
        self, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        self.calls += 1
        if self.trouble:
            self.trouble(self.calls, arch)
        self.trained.append((arch.arch_id, repeat))
        accuracy = merit(arch) + self.noise * (1 if repeat % 2 else -1)
        return Evaluation(accuracy=accuracy, cpu_s=0.0, duration_s=0.0)

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int = 0) -> None:
        """Do nothing: there are no checkpoints."""


def race_of(at: DesignAt, trainer: ByMerit, study: optuna.Study | None = None, plan: ScalingPlan = PLAN) -> OneWorker:
    return make_race(plan, at, trainer, study)


def ranking_of(race: OneWorker) -> Ranking:
    return rank_networks(race.entries, accuracies_of(race.study), {})


def record(study: optuna.Study) -> list[tuple[str, int, float | None]]:
    return [(*training_of(trial), trial.user_attrs.get("accuracy")) for trial in study.trials]


def test_the_path_is_that_of_stepwise_expansion(at: DesignAt) -> None:
    trainer = ByMerit()
    race = race_of(at, trainer)
    race.run()
    expected = stepwise(B, lambda grown: merit(grown.arch), 8, rules=PLAN.rules)
    assert chosen_axes(race.study) == tuple(step.axis for step in expected)
    for step, found in zip(expected, race.entries.steps, strict=True):
        assert {axis: entry.arch.arch_id for axis, entry in found.candidates.items()} == {
            axis: grown.arch.arch_id for axis, grown in step.candidates.items()
        }
    end = race.entries.end
    assert end is not None and end.arch.arch_id == expected[-1].chosen.arch.arch_id
    assert (
        len({axis for axis in chosen_axes(race.study)}) > 1
    )  # otherwise the test would not depend on the order of steps


def test_every_network_is_trained_once_per_seed_and_all_axes_of_a_step_alike(at: DesignAt) -> None:
    trainer = ByMerit()
    race = race_of(at, trainer)
    race.run()
    assert race.is_over and len(set(trainer.trained)) == len(trainer.trained) <= race.most_trainings
    for step in race.entries.steps:
        ids = {entry.arch.arch_id for entry in step.candidates.values()}
        assert len(ids) == len(DIRECTIONS)
        assert {seed for arch_id, seed in trainer.trained if arch_id in ids} == {0, 1}
    first_of_second = trainer.trained.index((race.entries.steps[1].candidates["depth"].arch.arch_id, 0))
    first_step = {entry.arch.arch_id for entry in race.entries.steps[0].candidates.values()}
    assert not [one for one in trainer.trained[first_of_second:] if one[0] in first_step]


def test_parameters_have_the_same_axes_in_all_steps(at: DesignAt) -> None:
    race = race_of(at, ByMerit())
    race.run()
    space = intersection_search_space(race.study.get_trials(deepcopy=False))
    assert set(space) >= {"depth", "width", "resolution"} and max(space["width"].high, space["depth"].high) < 20


def test_a_step_that_another_rule_trains_too_is_trained_once() -> None:
    """With one doubling the step's networks are those of the single-dimension rules."""
    plan = make_plan(compare=("depth", "width", "resolution", "stepwise"), race=RaceSettings(seeds=2))
    found = design_at(plan)
    assert not found(()).step_networks and len(found(()).steps) == 1
    trainer = ByMerit()
    race = race_of(found, trainer, plan=plan)
    race.run()
    assert len(trainer.trained) == 4 * 2 == race.most_trainings
    ranked = {one.entry.label: one for one in ranking_of(race).ranked}
    (axis,) = chosen_axes(race.study)
    assert ranked["stepwise"].accuracies == ranked[axis].accuracies and len(ranked) == 4


def test_only_the_end_is_held_against_the_other_rules_at_equal_cost(at: DesignAt) -> None:
    race = race_of(at, ByMerit())
    race.run()
    found = ranking_of(race)
    assert {one.entry.label for one in found.ranked} == {"depth", "compound", "stepwise"}
    for one in found.ranked:
        assert one.entry.scaled.macs_growth == pytest.approx(8, rel=0.08)
    verdicts = {one.entry.label: one.verdict for one in found.others}
    axes = chosen_axes(race.study)
    assert verdicts[f"step {axes[0][0]}"] == "step 1 of stepwise: chosen"
    assert sum(verdict.endswith(": chosen") for verdict in verdicts.values()) == len(axes) == 3
    assert [step.axis for step in found.steps] == list(axes)


def test_a_step_says_when_its_choice_is_within_the_noise(at: DesignAt) -> None:
    """Noise of 10 points hides all differences, noise of 0.001 points none."""
    loud, quiet = race_of(at, ByMerit(noise=0.1)), race_of(at, ByMerit(noise=1e-5))
    for race in (loud, quiet):
        race.run()
    assert chosen_axes(loud.study) == chosen_axes(quiet.study)  # by the mean
    for step in ranking_of(loud).steps:
        assert set(step.peers) == set(DIRECTIONS) - {step.axis}
        assert f"chose {step.axis}" in step.sentence and "; statistically indistinguishable: " in step.sentence
    assert not any(step.peers or "indistinguishable" in step.sentence for step in ranking_of(quiet).steps)


def test_an_interrupted_path_goes_on_as_if_it_had_not_been(at: DesignAt) -> None:
    unbroken = race_of(at, ByMerit())
    unbroken.run()
    total = len(unbroken.study.trials)

    def fail(call: int, _: ArchSpec) -> None:
        if call % 3 == 0:
            raise KeyboardInterrupt

    study, broken = new_study(PLAN), 0
    trainer = ByMerit(trouble=fail)
    race = race_of(at, trainer, study)
    while not race.is_over:
        try:
            race.run()
        except KeyboardInterrupt:
            broken += 1
    assert broken > total // 3 and record(study) == record(unbroken.study)


@pytest.mark.parametrize("interrupted_at", ["record_chosen_axes", "plan_round", "queue_missing"])
def test_a_kill_between_the_choice_and_its_trainings_changes_nothing(
    at: DesignAt, monkeypatch: pytest.MonkeyPatch, interrupted_at: str
) -> None:
    """Axis, round and queue are recorded in this order; a kill may precede each."""
    unbroken = race_of(at, ByMerit())
    unbroken.run()
    study, real, killed = new_study(PLAN), getattr(race_module, interrupted_at), []

    def killing(study: optuna.Study, *arguments: object) -> object:
        decided = interrupted_at == "record_chosen_axes" or chosen_axes(study)
        round_is_planned = interrupted_at != "queue_missing" or len(planned_rounds(study)) == 3
        if decided and round_is_planned and not killed:
            killed.append(interrupted_at)
            raise KeyboardInterrupt
        return real(study, *arguments)

    monkeypatch.setattr(race_module, interrupted_at, killing)
    with pytest.raises(KeyboardInterrupt):
        race_of(at, ByMerit(), study).run()
    assert len(chosen_axes(study)) == (interrupted_at != "record_chosen_axes")
    race_of(at, ByMerit(), study).run()
    assert chosen_axes(study) == chosen_axes(unbroken.study) and record(study) == record(unbroken.study)


def test_more_seeds_later_go_to_the_rules_and_leave_the_path_as_it_was(at: DesignAt) -> None:
    study = new_study(PLAN)
    race_of(at, ByMerit(), study).run()
    before, axes = len(study.trials), chosen_axes(study)
    more = race_of(at, trainer := ByMerit(), study, make_plan(phi=3, compare=PLAN.compare, race=RaceSettings(seeds=4)))
    assert not more.is_over
    more.run()
    assert chosen_axes(study) == axes and len(study.trials) == before + len(trainer.trained)
    assert {label for label, seed, _ in record(study) if seed > 1} == set(more.entries.racing)
    assert set(more.entries.racing) == {"baseline", "depth", "compound", more.entries.end.label}


def test_an_axis_whose_training_fails_is_not_taken(at: DesignAt) -> None:
    best = at(()).steps[0].candidates[chosen_axes(_done(at))[0]].arch.arch_id

    def fail(_: int, arch: ArchSpec) -> None:
        if arch.arch_id == best:
            raise RuntimeError("a broken kernel")

    race = race_of(at, ByMerit(trouble=fail))
    race.run()
    assert race.is_over and race.entries.end is not None
    assert chosen_axes(race.study)[0] != chosen_axes(_done(at))[0]


def _done(at: DesignAt) -> optuna.Study:
    race = race_of(at, ByMerit())
    race.run()
    return race.study


def test_a_path_without_a_network_left_ends_and_the_rules_go_on(at: DesignAt) -> None:
    steps = {entry.arch.arch_id for entry in at(()).steps[0].candidates.values()}

    def fail(_: int, arch: ArchSpec) -> None:
        if arch.arch_id in steps:
            raise RuntimeError("a broken kernel")

    race = race_of(at, ByMerit(trouble=fail))
    race.run()
    found = ranking_of(race)
    assert race.is_over and race.entries.end is None and chosen_axes(race.study) == ()
    assert {one.entry.label for one in found.ranked} == {"depth", "compound"} and not found.steps


def test_axes_beyond_the_limits_are_left_out_and_said() -> None:
    """A memory limit that excludes resolution leaves depth and width as axes."""
    compare = ("depth", "stepwise")
    free = design_at(make_plan(baseline="mobilenetv2_035", phi=2, compare=compare))(())
    memory = {axis: entry.candidate.measures["peak_memory_mb"] for axis, entry in free.steps[0].candidates.items()}
    limit = (memory["depth"] + memory["resolution"]) / 2
    plan = make_plan(baseline="mobilenetv2_035", phi=2, compare=compare, limits={"peak_memory_mb": limit})
    found = design_at(plan)(())
    assert "resolution" not in found.steps[0].candidates and "depth" in found.steps[0].candidates
    assert any(entry.label == "step r" and "peak_memory_mb" in entry.reason for entry in found.left_out)
