"""Scorers by the name of the estimator, and several scorers as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.estimators.base import Scorer, ignore
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.settings import EstimatorSettings
from nas.estimators.supernet.settings import SupernetSettings
from nas.estimators.zero_cost.settings import ZeroCostSettings

if TYPE_CHECKING:
    from nas.estimators.supernet.scorer import SupernetScorer

SUPERNET_FOLDER: Final = "supernet"  # in the study's folder


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinedScorer:
    """Scores of several ``scorers``, whose names differ."""

    scorers: tuple[Scorer, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scores, in the order of the scorers."""
        return tuple(name for scorer in self.scorers for name in scorer.names)

    def prepare(self, progress: ProgressCallback | None = None, say: Callable[[str], object] = ignore) -> None:
        """Prepare each of the scorers; see ``Scorer``."""
        for scorer in self.scorers:
            scorer.prepare(progress, say)

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Scores of ``arch`` by all scorers. Raises: TrainingError."""
        return {name: value for scorer in self.scorers for name, value in scorer.scores(arch).items()}


def with_scorer(evaluator: ProxyEvaluator, settings: EstimatorSettings, space: Any, folder: Path) -> ProxyEvaluator:
    """``evaluator`` with the scorer of ``settings``; without one for ``proxy``.

    Proxies are scored with the images, the seed and the reduction with which they are trained. ``space``: the search
    space whose networks a supernet contains. ``folder``: of the study.
    """
    if not settings.is_scoring:
        return evaluator
    scorers: list[Scorer] = []
    if settings.name == "supernet":
        scorers += _supernet_scorers(evaluator, settings.supernet, space, folder / SUPERNET_FOLDER)
    if settings.zero_cost_settings is not None:
        scorers.append(_zero_cost_scorer(evaluator, settings.zero_cost_settings))
    if settings.short_epochs:
        scorers.append(_short_training_scorer(evaluator, settings.short_epochs))
    scorer = scorers[0] if len(scorers) == 1 else CombinedScorer(scorers=tuple(scorers))
    return replace(evaluator, scorer=scorer)


def supernets_of(scorer: Scorer | None) -> tuple[SupernetScorer, ...]:
    """The supernets by which ``scorer`` scores; empty without one."""
    from nas.estimators.supernet.scorer import SupernetScorer

    parts = scorer.scorers if isinstance(scorer, CombinedScorer) else (scorer,)
    return tuple(part for part in parts if isinstance(part, SupernetScorer))


# Imported where needed: a study that trains every candidate needs neither.


def _zero_cost_scorer(evaluator: ProxyEvaluator, settings: ZeroCostSettings) -> Scorer:
    from nas.estimators.zero_cost.scorer import ZeroCostScorer

    return ZeroCostScorer(
        data=evaluator.data,
        settings=evaluator.settings,
        largest_kernel=evaluator.largest_kernel,
        seed=evaluator.seed,
        base_resolution_px=evaluator.base_resolution_px,
        names=settings.names,
        batch_size=settings.batch_size,
    )


def _short_training_scorer(evaluator: ProxyEvaluator, epochs: int) -> Scorer:
    from nas.estimators.proxy.scorer import ShortTrainingScorer

    return ShortTrainingScorer(evaluator=evaluator, epochs=epochs)


def _supernet_scorers(evaluator: ProxyEvaluator, settings: SupernetSettings, space: Any, folder: Path) -> list[Scorer]:
    from nas.estimators.supernet.scorer import SupernetScorer

    return [
        SupernetScorer(
            data=evaluator.data,
            proxy=evaluator.settings,
            settings=settings,
            space=space,
            largest_kernel=evaluator.largest_kernel,
            seed=evaluator.seed,
            folder=folder / str(member + 1) if settings.members > 1 else folder,
            base_resolution_px=evaluator.base_resolution_px,
            member=member,
        )
        for member in range(settings.members)
    ]
