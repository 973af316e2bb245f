"""Fakes for scaling studies: invented accuracies, and plans of a small baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from nas.arch import zoo
from nas.arch.scaling.rounding_rules import RoundingOverrides
from nas.arch.scaling.transform import Compound
from nas.arch.spec import ArchSpec
from nas.data.sources import DataSettings
from nas.estimators.base import Evaluation
from nas.estimators.proxy.reduce import reduce_arch
from nas.estimators.proxy.settings import ProxySettings
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.settings import LatencySettings
from nas.methods.scaling.ask_tell import ScalingAskTell
from nas.methods.scaling.config import ScalingPlan
from nas.methods.scaling.design.entries import Design
from nas.methods.scaling.design.networks import DesignAt, make_design
from nas.methods.scaling.settings import GridSettings, RaceSettings, TableSettings
from nas.study.config import EngineSettings, RecordSettings
from nas.study.constraints import Constraints
from nas.study.storage.opening import open_study
from nas.study.trial_loop import run_trial_loop
from nas.training.results import EpochResult
from tests.study.fakes import Memory

PROXY = ProxySettings(width_multiplier=0.25, resolution_px=20, min_map_px="auto", divisor=1, epochs=2)
GRID = GridSettings(alpha=(1.0, 1.2, 1.4, 1.6, 1.8, 2.0), beta=(1.0, 1.1, 1.2, 1.3, 1.4), gamma=(1.0, 1.15, 1.3, 1.4))
Trouble = Callable[[int, ArchSpec], None]


def make_plan(baseline: str = "efficientnet_b0", **changes: Any) -> ScalingPlan:
    """Plan of the default grid with ``changes`` to its fields.

    ``limits``: fields of its constraints.
    """
    spec = zoo.get(baseline)
    fields: dict[str, Any] = {
        "baseline": spec,
        "phi": 1,
        "target": "macs",
        "compare": (),
        "coefficients": Compound(),
        "rules": RoundingOverrides(depth_rule="round").rules(spec),
        "grid": GRID,
        "table": TableSettings(),
        "race": RaceSettings(),
        "data": DataSettings(name="digits"),
        "proxy": PROXY,
        "latency": LatencySettings(backend="macs"),
        "constraints": Constraints(**changes.pop("limits", {})),
        "engine": EngineSettings(),
        "study": RecordSettings(),
        "runs_dir": Path("runs"),
    }
    return ScalingPlan(**{**fields, **changes})


def entries_of(plan: ScalingPlan, proxy: ProxySettings = PROXY) -> Design:
    """Networks of ``plan`` that are known before the first training."""
    return design_at(plan, proxy)(())


def design_at(plan: ScalingPlan, proxy: ProxySettings = PROXY) -> DesignAt:
    """Networks of ``plan`` for grey images of ten classes, priced by multiply-adds."""
    kernel = max(max(block.kernels) for stage in plan.baseline.stages for block in stage.blocks)

    def proxy_of(arch: ArchSpec) -> Any:
        side = plan.baseline.resolution_px
        return reduce_arch(arch, proxy, classes=10, largest_kernel=kernel, in_channels=1, base_resolution_px=side)

    return make_design(plan, plan.baseline, MacsPredictor(30.0).predict, proxy_of)


class FakeTrainer:
    """Fake trainer of two epochs: half of ``accuracy(label, repeat)``, then all of it.

    The validation loss is one minus that, or ``val_loss(label, repeat)``.

    ``trouble``: called with the number of the training, from 1, and its network before it is trained; may raise.
    """

    def __init__(
        self,
        entries: Design,
        accuracy: Callable[[str, int], float],
        trouble: Trouble | None = None,
        val_loss: Callable[[str, int], float] | None = None,
    ) -> None:
        self._val_loss = val_loss
        self.trained: list[tuple[str, int]] = []
        self._label = {entry.arch.arch_id: label for label, entry in entries.by_label.items()}
        self._accuracy = accuracy
        self._trouble = trouble
        self._calls = 0

    def evaluate(self, arch: ArchSpec, *, repeat: int, on_epoch: Callable[[EpochResult], None] | None) -> Evaluation:
        self._calls += 1
        label = self._label[arch.arch_id]
        value = self._accuracy(label, repeat)
        for epoch in (1, 2):
            if on_epoch:
                reached = value * epoch / 2
                loss = self._val_loss(label, repeat) if self._val_loss else 1 - reached
                result = EpochResult(epoch=epoch, accuracy=reached, val_loss=loss, train_loss=1, duration_s=0, cpu_s=0)
                on_epoch(result)
            if epoch == 1 and self._trouble:
                self._trouble(self._calls, arch)
        self.trained.append((label, repeat))
        return Evaluation(accuracy=value, cpu_s=0.0, duration_s=0.0)

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int) -> None:
        """Do nothing: there are no checkpoints."""


def new_study(plan: ScalingPlan) -> optuna.Study:
    """New study in memory."""
    return open_study(Memory(), plan.name, plan.objective, {})


@dataclass(frozen=True, kw_only=True)
class OneWorker(ScalingAskTell):
    """Ask-and-tell loop of a study with one worker."""

    trainer: FakeTrainer

    def run(self) -> None:
        """Train until the study is complete."""
        run_trial_loop(self, self.trainer)


def make_race(
    plan: ScalingPlan, entries: Design | DesignAt, trainer: FakeTrainer, study: optuna.Study | None = None
) -> OneWorker:
    """Worker on ``study``, or on a new one in memory."""
    return OneWorker(
        trainer=trainer,
        study=study or new_study(plan),
        design_at=entries if callable(entries) else lambda _: entries,
        settings=plan.race,
        epochs=2,
        has_interval=False,
        all_seeds=bool(plan.compare),
    )


def table(values: Mapping[str, float], noise: float = 0.0) -> Callable[[str, int], float]:
    """Accuracies by label, minus ``noise`` for even repeats, plus for odd ones."""
    return lambda label, repeat: values[label] + noise * (1 if repeat % 2 else -1)
