"""Optuna's samplers by name, seeded afresh for every trial so that a resumed search goes on as an unbroken one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final

import optuna

from nas.study.plan import SamplerSettings


def make_sampler(settings: SamplerSettings, *, seed: int, trial: int) -> optuna.samplers.BaseSampler:
    """The sampler for trial number ``trial``: its random stream depends on ``seed`` and ``trial`` alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[settings.name](settings, (seed * 1_000_003 + trial) % 2**32)


def _tpe(settings: SamplerSettings, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(
        n_startup_trials=settings.startup,
        multivariate=True,
        constant_liar=True,
        seed=seed,
    )


SAMPLERS: Final[dict[str, Callable[[SamplerSettings, int], optuna.samplers.BaseSampler]]] = {
    "tpe": _tpe,
    "nsga2": lambda settings, seed: optuna.samplers.NSGAIISampler(population_size=settings.population, seed=seed),
    "nsga3": lambda settings, seed: optuna.samplers.NSGAIIISampler(population_size=settings.population, seed=seed),
    "gp": lambda settings, seed: optuna.samplers.GPSampler(n_startup_trials=max(1, settings.startup), seed=seed),
    "random": lambda settings, seed: optuna.samplers.RandomSampler(seed=seed),
}
