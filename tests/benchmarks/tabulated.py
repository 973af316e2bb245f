"""Space, latencies and trainings of the table of learning curves.

Read from tests/reference/learning_curves.json; see learning_curves.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.arch.spec import ArchSpec
from nas.estimators.base import Evaluation
from nas.latency.predictors.base import LatencyEstimate
from nas.study.trial_record import Outcome, TrialRecord
from nas.training.results import EpochResult
from search_spaces.blockwise import BlockwiseSpace

TABLE = Path(__file__).parents[1] / "reference" / "learning_curves.json"


@dataclass(frozen=True)
class Curves:
    """The table by arch id, and the space that it covers."""

    space: BlockwiseSpace
    networks: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls) -> Curves:
        """Of the file in the repository."""
        found = json.loads(TABLE.read_text(encoding="utf-8"))
        return cls(BlockwiseSpace(**found["space"]), {one["arch_id"]: one for one in found["networks"]})

    @property
    def epochs(self) -> int:
        """Of every training."""
        return len(next(iter(self.networks.values()))["accuracy"])

    @property
    def rows(self) -> list[TrialRecord]:
        """All networks as if trained."""
        return [
            TrialRecord(
                number=number,
                outcome=Outcome.TRAINED,
                arch_id=one["arch_id"],
                accuracy=one["accuracy"][-1],
                latency_ms=one["latency_ms"],
            )
            for number, one in enumerate(self.networks.values())
        ]


class TabulatedPredictor:
    """The latency that the table holds."""

    error = None

    def __init__(self, curves: Curves) -> None:
        self._curves = curves

    def predict(self, arch: ArchSpec) -> LatencyEstimate:
        """As tabulated; networks of the table alone."""
        latency_ms = self._curves.networks[arch.arch_id]["latency_ms"]
        return LatencyEstimate(latency_ms=latency_ms, low_ms=latency_ms, high_ms=latency_ms)


class TabulatedEvaluator:
    """Training read from the table; ``epochs`` counts what it would have cost, in epochs and ``cpu_s``."""

    def __init__(self, curves: Curves) -> None:
        self._curves = curves
        self.epochs = 0
        self.cpu_s = 0.0

    def evaluate(
        self, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        """The tabulated accuracy, epoch by epoch."""
        one = self._curves.networks[arch.arch_id]
        for epoch, (accuracy, cpu_s) in enumerate(zip(one["accuracy"], one["cpu_s"], strict=True), start=1):
            self.epochs, self.cpu_s = self.epochs + 1, self.cpu_s + cpu_s
            if on_epoch:
                result = EpochResult(
                    epoch=epoch, accuracy=accuracy, val_loss=0.0, train_loss=0.0, duration_s=cpu_s, cpu_s=cpu_s
                )
                on_epoch(result)
        return Evaluation(accuracy=one["accuracy"][-1], cpu_s=sum(one["cpu_s"]), duration_s=0.0)

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int = 0) -> None:
        """Nothing was kept."""
