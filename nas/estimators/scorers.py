"""Scorers by the name of the estimator, and several scorers as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.estimators.base import Scorer
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.settings import EstimatorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinedScorer:
    """Scores of several ``scorers``, whose names differ."""

    scorers: tuple[Scorer, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scores, in the order of the scorers."""
        return tuple(name for scorer in self.scorers for name in scorer.names)

    def prepare(self, progress: ProgressCallback | None = None) -> None:
        """Prepare each of the scorers; see ``Scorer``."""
        for scorer in self.scorers:
            scorer.prepare(progress)

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Scores of ``arch`` by all scorers. Raises: TrainingError."""
        return {name: value for scorer in self.scorers for name, value in scorer.scores(arch).items()}


def with_scorer(evaluator: ProxyEvaluator, settings: EstimatorSettings) -> ProxyEvaluator:
    """``evaluator`` with the scorer of ``settings``; without one for ``proxy``.

    Proxies are scored with the images, the seed and the reduction with which they are trained.
    """
    if not settings.is_scoring:
        return evaluator
    from nas.estimators.zero_cost.scorer import ZeroCostScorer  # not needed by studies that train every candidate

    scorer = ZeroCostScorer(
        data=evaluator.data,
        settings=evaluator.settings,
        largest_kernel=evaluator.largest_kernel,
        seed=evaluator.seed,
        base_resolution_px=evaluator.base_resolution_px,
        names=settings.zero_cost_settings.names,
        batch_size=settings.zero_cost_settings.batch_size,
    )
    return replace(evaluator, scorer=scorer)
