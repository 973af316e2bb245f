"""Optuna samplers by name, reseeded for each trial.

A resumed search therefore draws the same trials as an uninterrupted one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.methods.search.settings import SamplerSettings
from nas.study.storage.optuna_private import StudyView
from nas.study.trial_record import Outcome

SamplerFactory = Callable[[SamplerSettings, int], optuna.samplers.BaseSampler]


def make_sampler(settings: SamplerSettings, *, seed: int, trial: int) -> optuna.samplers.BaseSampler:
    """Sampler for trial number ``trial``.

    Its random stream depends on ``seed`` and ``trial`` alone.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[settings.name](settings, (seed * 1_000_003 + trial) % 2**32)


class _SamplerWrapper(optuna.samplers.BaseSampler):  # type: ignore[misc]  # Optuna is not typed here
    """Sampler that delegates all to another."""

    def __init__(self, sampler: optuna.samplers.BaseSampler) -> None:
        self._sampler = sampler

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Delegate to the wrapped sampler."""
        return dict(self._sampler.infer_relative_search_space(study, trial))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Delegate to the wrapped sampler."""
        return dict(self._sampler.sample_relative(study, trial, search_space))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Delegate to the wrapped sampler."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Delegate to the wrapped sampler."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Delegate to the wrapped sampler."""
        self._sampler.after_trial(study, trial, state, values)


class FixedSpaceSampler(_SamplerWrapper):
    """Sampler wrapper with a fixed relative search space.

    A new sampler infers its space by comparing all distributions of all trials, but all trials of a search have the
    same space. With one sampler per trial, 90 to 97% of the sampling time was spent on that inference at 1,000 trials.
    """

    def __init__(self, sampler: optuna.samplers.BaseSampler, space: Mapping[str, BaseDistribution]) -> None:
        super().__init__(sampler)
        self._space = dict(sorted(space.items()))  # in the order in which Optuna passes it

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, whether or not the wrapped sampler uses all of it."""
        return self._space


class LimitAwareSampler(_SamplerWrapper):
    """Sampler wrapper that shows infeasible trials to samplers of completed ones.

    Infeasible trials are pruned, for they have no accuracy; Optuna's TPE learns from pruned trials, too. Without them
    its Gaussian process asks for one infeasible candidate again and again, and its genetic samplers never leave their
    random first generation where hardly anything is feasible: on ``mixnet`` with 1 in 500 feasible NSGA-II gave up
    after 2 to 5 of 50 trainings, and finds all with 58 to 134 infeasible ones.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw by the trials of ``study``, infeasible ones shown as completed."""
        view = StudyView(study, lambda trials: _with_infeasible_completed(trials, len(study.directions)))
        return dict(self._sampler.sample_relative(view, trial, search_space))


class _GaussianProcess(LimitAwareSampler):
    """Optuna's Gaussian process, with a random candidate instead of a known one.

    The maximum of its acquisition function may be a known network, above all where few are left. It depends on the
    trials alone, and a repetition hardly changes it: it would come again and again.
    """

    def __init__(self, settings: SamplerSettings, seed: int) -> None:
        startup = max(1, settings.startup)
        super().__init__(
            optuna.samplers.GPSampler(n_startup_trials=startup, seed=seed, warn_independent_sampling=False)
        )

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the candidate; empty for a random one."""
        drawn = super().sample_relative(study, trial, search_space)
        return {} if any(drawn == other.params for other in study.get_trials(deepcopy=False)) else drawn


def _with_infeasible_completed(trials: Sequence[FrozenTrial], objectives: int) -> list[FrozenTrial]:
    """``trials``, with infeasible ones as completed ones of mean values.

    The mean of each objective tells a model of the objectives nothing, and constrained domination does not read it.
    """
    told = [trial.values for trial in trials if trial.state is TrialState.COMPLETE]
    means = [fmean(values) for values in zip(*told, strict=True)] or [0.0] * objectives

    def completed(trial: FrozenTrial) -> FrozenTrial:
        shown = copy.copy(trial)
        shown.state, shown.values = TrialState.COMPLETE, means
        return shown

    return [completed(one) if one.user_attrs.get("outcome") == Outcome.INFEASIBLE else one for one in trials]


def _tpe(settings: SamplerSettings, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(
        n_startup_trials=settings.startup,
        multivariate=True,
        constant_liar=True,
        seed=seed,
    )


def _nsga(kind: Callable[..., optuna.samplers.BaseSampler]) -> SamplerFactory:
    return lambda settings, seed: LimitAwareSampler(kind(population_size=settings.population, seed=seed))


# Of Optuna alone; ``guided`` needs to price candidates, and is made by ``SearchAskTell``.
SAMPLERS: Final[dict[str, SamplerFactory]] = {
    "tpe": _tpe,
    "nsga2": _nsga(optuna.samplers.NSGAIISampler),
    "nsga3": _nsga(optuna.samplers.NSGAIIISampler),
    "gp": _GaussianProcess,
    "random": lambda settings, seed: optuna.samplers.RandomSampler(seed=seed),
}
