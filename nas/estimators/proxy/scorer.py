"""Score of a candidate by a short training of its proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.estimators.base import ignore
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.training.results import TrainingError

# Not 0, which trains candidates: with the same initial weights and order of images a score would share the luck of the
# training that it is to predict, and seem to order networks better than it does.
_REPEAT: Final = 1
_SCORE: Final = "short_training"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortTrainingScorer:
    """Minus the validation loss (nats) of a proxy after a training of ``epochs``.

    Data, reduction and all other settings are those of ``evaluator``; the schedule has the length of the short
    training, and initial weights and draws are others than in the training of the same network. Neither weights nor
    checkpoints are written: killed, a short training restarts.
    """

    evaluator: ProxyEvaluator
    epochs: int

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the only score."""
        return (_SCORE,)

    def prepare(self, progress: ProgressCallback | None = None, say: Callable[[str], object] = ignore) -> None:
        """Nothing: every network is trained by itself."""

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Train the proxy of ``arch`` and score it; larger is better.

        Raises: TrainingError if a loss is not finite; OutOfMemoryError, after releasing the memory.
        """
        loss = self._short.evaluate(arch, repeat=_REPEAT).loss
        if loss is None:
            raise TrainingError(f"score {_SCORE}: the training of {arch.name} has no validation loss.")
        return {_SCORE: -loss}

    @property
    def _short(self) -> ProxyEvaluator:
        settings = replace(self.evaluator.settings, epochs=self.epochs)
        return replace(self.evaluator, settings=settings, weights_dir=None, checkpoints_dir=None, scorer=None)
