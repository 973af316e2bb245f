"""Tests of the samplers: draws depend on seed and trial number alone."""

from __future__ import annotations

import optuna
import pytest

from nas.methods.search.samplers import SAMPLERS, FixedSpaceSampler, make_sampler
from nas.methods.search.settings import GUIDED, SAMPLER_NAMES, SamplerSettings

CHOICES = {f"c{index}": optuna.distributions.CategoricalDistribution(list(range(10))) for index in range(6)}
FIVE_BY_FIVE = {name: optuna.distributions.CategoricalDistribution(list(range(5))) for name in "ab"}


def first_draw(name: str, seed: int, trial: int) -> dict[str, int]:
    study = optuna.create_study(sampler=make_sampler(SamplerSettings(name=name), seed=seed, trial=trial))
    return study.ask(CHOICES).params


def test_every_name_of_the_settings_has_a_sampler() -> None:
    assert {GUIDED, *SAMPLERS} == set(SAMPLER_NAMES)


# The Gaussian process draws its first trials at random, as `random` does, but takes seconds to be imported.
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_draws_depend_on_seed_and_turn(name: str) -> None:
    assert first_draw(name, 0, 3) == first_draw(name, 0, 3)
    # Two draws of six choices among ten agree by chance once in a million.
    assert first_draw(name, 0, 3) != first_draw(name, 0, 4)
    assert first_draw(name, 0, 3) != first_draw(name, 1, 3)


def test_neighbouring_seeds_share_no_stream() -> None:
    # With seed + trial, the second trial of seed 0 would be the first of seed 1.
    assert first_draw("random", 0, 1) != first_draw("random", 1, 0)


def test_large_seeds_are_taken() -> None:
    assert first_draw("random", 2**40, 0) == first_draw("random", 2**40, 0)


def learnt_draws(name: str, *, known: bool) -> list[dict[str, int]]:
    """Draws in a study of two objectives whose trials all have the same space."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    drawn = []
    for turn in range(12):
        sampler = make_sampler(SamplerSettings(name=name, startup=4, population=4), seed=0, trial=turn)
        study.sampler = FixedSpaceSampler(sampler, CHOICES) if known else sampler
        trial = study.ask(CHOICES)
        drawn.append(trial.params)
        study.tell(trial, [trial.params["c0"] + trial.params["c1"], trial.params["c2"]])
    return drawn


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_a_fixed_space_does_not_change_the_draws(name: str) -> None:
    assert learnt_draws(name, known=True) == learnt_draws(name, known=False)


def test_the_gaussian_process_asks_for_no_candidate_twice() -> None:
    study = optuna.create_study(direction="maximize")
    drawn = []
    for turn in range(9):  # of 25 points; the better half is infeasible
        sampler = make_sampler(SamplerSettings(name="gp", startup=3), seed=0, trial=turn)
        study.sampler = FixedSpaceSampler(sampler, FIVE_BY_FIVE)
        trial = study.ask(FIVE_BY_FIVE)
        drawn.append(tuple(trial.params.values()))
        trial.set_constraint("sum", sum(drawn[-1]) - 4)
        if sum(drawn[-1]) <= 4:
            study.tell(trial, sum(drawn[-1]))
        else:
            trial.set_user_attr("outcome", "infeasible")
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert len(set(drawn[3:])) == 6
