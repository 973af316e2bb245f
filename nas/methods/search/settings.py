"""Settings of a search: its study, sampler and pruner, as checked plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number
from nas.study.config import RecordSettings
from nas.study.objective import ObjectiveSettings

MAX_TRIALS: Final = 1_000_000
GUIDED: Final = "guided"
SAMPLER_NAMES: Final = (GUIDED, "tpe", "nsga2", "nsga3", "gp", "random")
LEARNING_SAMPLERS: Final = frozenset({GUIDED})  # those that learn from evaluations made elsewhere
PRUNER_NAMES: Final = ("none", "median", "asha", "mo_asha", "hyperband")
_MAX_STUDIES: Final = 50  # to learn from; their names are stored in one attribute, in MySQL of at most 65,535 bytes
_MAX_BASELINES: Final = 20  # each is a training of a whole network


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings(RecordSettings):
    """Settings of a search's study.

    ``n_trials``: candidates to score or train in this study, over all its runs; those that fail count, those that are
    infeasible or repeat an earlier network cost nothing and do not.

    ``stop_when_gain_below``: the search ends earlier where the best network that is left is expected to add less, as a
    share of the front's hypervolume or as an amount of the reward; None never.

    ``max_screened``: consecutive candidates that may be rejected before the search gives up.
    ``seed_published``: try the published networks of the space first. ``first``: an earlier study of the
    same space and storage, whose best networks come next.

    ``evaluated``: a CSV file of evaluated networks that the sampler learns from, and ``learn_from``: earlier studies of
    the storage, whose evaluated networks it learns from. They are stored in the study when it is started.

    ``baselines``: networks with weights (``timm/NAME``, a published network, a spec file with weights beside it), which
    are fine-tuned after the search, on the images and for the epochs of its proxies. More may be added later.
    """

    n_trials: int = 100
    stop_when_gain_below: float | None = None
    max_screened: int = 200
    seed_published: bool = True
    first: str | None = None
    evaluated: str | None = None
    learn_from: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        RecordSettings.__post_init__(self)  # super() does not work in a slotted dataclass
        for field in ("learn_from", "baselines"):
            if isinstance(given := getattr(self, field), list):
                object.__setattr__(self, field, tuple(given))
        _check_studies("study.learn_from", self.learn_from)
        _check_names("study.baselines", self.baselines, "networks", "timm/mobilenetv3_small_100", _MAX_BASELINES)
        if self.evaluated == "":
            raise NasError("study.evaluated: is empty; give a CSV file, or null.")
        check_number("study.n_trials", self.n_trials, low=1, high=MAX_TRIALS, whole=True)
        check_number(
            "study.stop_when_gain_below", self.stop_when_gain_below, low=0, high=1, open_low=True, optional=True
        )
        check_number("study.max_screened", self.max_screened, low=1, high=MAX_TRIALS, whole=True)

    def check_sampler(self, name: str) -> None:
        """Check that the sampler ``name`` can do what is asked of it.

        Raises: NasError.
        """
        if self.stop_when_gain_below is not None and name not in LEARNING_SAMPLERS:
            raise NasError(
                f"study.stop_when_gain_below: sampler {name} does not know what is left to gain; add sampler={GUIDED}."
            )
        for setting, value in (("study.evaluated", self.evaluated), ("study.learn_from", self.learn_from)):
            if value and name not in LEARNING_SAMPLERS:
                remedy = f"add sampler={' or sampler='.join(sorted(LEARNING_SAMPLERS))}"
                raise NasError(f"{setting}: sampler {name} does not learn from earlier evaluations; {remedy}.")


def _check_studies(setting: str, names: object) -> None:
    """Check that ``names`` is a list of names of studies. Raises: NasError."""
    for name in _check_names(setting, names, "studies", "NAME", _MAX_STUDIES):
        if "/" in name:
            raise NasError(
                f"{setting} {quoted(name)}: must be the name of a study in this storage; of another one give "
                "study.evaluated its trials.csv."
            )


def _check_names(setting: str, names: object, what: str, example: str, most: int) -> tuple[str, ...]:
    """Check that ``names`` is a list of different names of ``what``, and return it.

    Raises: NasError.
    """
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        given = list(names) if isinstance(names, tuple) else names
        example = names if isinstance(names, str) else example
        raise NasError(f"{setting} {quoted(given)}: must be a list of names of {what}, such as [{example}].")
    if len(names) > most:
        raise NasError(f"{setting}: {len(names):,} {what}; give at most {most}.")
    for name in names:
        if names.count(name) > 1:
            raise NasError(f"{setting}: {name!r} is given twice; remove one.")
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """``name``: guided, tpe, nsga2, nsga3, gp or random.

    ``startup``: trials drawn from the feasible candidates before the sampler learns from results.
    ``population``: of the genetic samplers.
    """

    name: str = "tpe"
    startup: int = 5
    population: int = 12

    def __post_init__(self) -> None:
        if self.name not in SAMPLER_NAMES:
            raise unknown_choice("sampler.name", self.name, SAMPLER_NAMES)
        check_number("sampler.startup", self.startup, low=0, high=MAX_TRIALS, whole=True)
        check_number("sampler.population", self.population, low=2, high=MAX_TRIALS, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunerSettings:
    """Rule that stops trainings early.

    ``name``: none, median, asha, mo_asha (a Pareto front alone) or hyperband (a single reward alone).

    ``min_epochs``: of every training. ``eta``: asha, mo_asha and hyperband let one in so many go on at the rungs,
    epochs ``min_epochs`` x ``eta``^k. ``latency_window``: on a Pareto front median and asha hold a network against
    those that are as fast, or faster by at most this factor. ``startup``: others needed for a comparison; with fewer
    the training goes on.
    """

    name: str = "none"
    eta: int = 3
    min_epochs: int = 1
    latency_window: float = 1.5
    startup: int = 4

    def __post_init__(self) -> None:
        if self.name not in PRUNER_NAMES:
            raise unknown_choice("pruner.name", self.name, PRUNER_NAMES)
        check_number("pruner.eta", self.eta, low=2, high=1000, whole=True)
        check_number("pruner.min_epochs", self.min_epochs, low=1, high=1_000_000, whole=True)
        check_number("pruner.latency_window", self.latency_window, low=1)
        check_number("pruner.startup", self.startup, low=1, high=MAX_TRIALS, whole=True)

    def check_fits(self, objective: ObjectiveSettings, epochs: int) -> None:
        """Check that the rule suits ``objective`` and trainings of ``epochs``.

        Raises: NasError where it could never stop a training.
        """
        if self.name == "hyperband" and objective.kind == "pareto":
            raise NasError(
                "pruner hyperband: is for a single reward; add objective=mnasnet, or take pruner=mo_asha or asha."
            )
        if self.name == "mo_asha" and objective.kind != "pareto":
            raise NasError(
                f"pruner mo_asha: ranks by two objectives, objective.kind is {objective.kind!r}; take pruner=asha, "
                "hyperband or median."
            )
        if self.name != "none" and self.min_epochs >= epochs:
            raise NasError(
                f"pruner.min_epochs {self.min_epochs}: leaves no epoch to stop at, for proxy.epochs is {epochs}; raise "
                "proxy.epochs, or add pruner=none."
            )
