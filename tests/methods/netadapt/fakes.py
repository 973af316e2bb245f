"""An adaptation in memory: a small network, priced by multiply-adds, with invented losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from nas.arch import ArchSpec, HeadSpec, StemSpec
from nas.arch.complexity import complexity
from nas.estimators.base import Evaluation, ParentNetwork
from nas.latency.predictors.macs import MacsPredictor
from nas.methods.netadapt.ask_tell import NetAdaptAskTell
from nas.methods.netadapt.proposals import network_pricer
from nas.methods.netadapt.settings import NetAdaptSettings
from nas.methods.netadapt.state import LOSS, LOSS_ERROR
from nas.methods.netadapt.step_files import StepFiles
from nas.study.objective import Accuracy
from nas.study.storage.opening import open_study

SEED = ArchSpec.from_strings(
    "seed",
    [["ds_r1_k3_s1_c16"], ["ir_r2_k5_s2_e4_c24"], ["ir_r2_k3.5_s2_e3_c40"]],
    stem=StemSpec(channels=16),
    head=HeadSpec(channels=64),
    resolution_px=32,
    classes=10,
)
PRICE = network_pricer(MacsPredictor(1000.0))
Loss = Callable[[ArchSpec], float]


@dataclass
class FakeEvaluator:
    """Evaluator that invents losses, and writes what a parent's weights were into the weights of its networks."""

    folder: Path
    loss: Loss
    fails: Callable[[ArchSpec], bool] = lambda _: False
    fails_to_train: Callable[[ArchSpec], bool] = lambda _: False
    parents: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def weights_dir(self) -> Path | None:
        return self.folder / "weights"

    @property
    def checkpoints_dir(self) -> Path | None:
        return None

    def with_folders(self, **_: Any) -> FakeEvaluator:
        return self

    def scores(self, arch: ArchSpec, *, parent: ParentNetwork | None = None) -> Mapping[str, float]:
        assert parent is not None
        self.parents.append((arch.arch_id, parent.weights))
        if self.fails(arch):
            raise ValueError("invented")
        return {LOSS: self.loss(arch), LOSS_ERROR: 1e-6}

    def evaluate(
        self, arch: ArchSpec, *, repeat: int, on_epoch: Any, parent: ParentNetwork | None = None
    ) -> Evaluation:
        if self.fails_to_train(arch):
            raise ValueError("invented")
        scores = {LOSS: self.loss(arch), LOSS_ERROR: 1e-6} if parent else {}
        before = parent.weights if parent else b"drawn"
        (self.folder / "weights").mkdir(exist_ok=True)
        (self.folder / "weights" / f"{arch.arch_id}.safetensors").write_bytes(before + f" {arch.arch_id}".encode())
        return Evaluation(accuracy=0.5, cpu_s=1.0, duration_s=1.0, loss=1.0, scores=scores)

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int) -> None:
        pass


def macs(arch: ArchSpec) -> float:
    return complexity(arch).macs / 1e6


def new_study() -> optuna.Study:
    return open_study(optuna.storages.InMemoryStorage(), "adaptation", Accuracy(), {"netadapt.delta": 0.05})


def asker(study: optuna.Study, folder: Path, share: float = 0.6, **settings: Any) -> NetAdaptAskTell:
    found = NetAdaptSettings(**{"delta": 0.05, "step": 0.1, **settings})
    return NetAdaptAskTell(
        study=study,
        seed=SEED,
        files=StepFiles(folder=folder),
        price=PRICE,
        settings=found,
        measure="macs_m",
        target=share * macs(SEED),
        delta=found.delta * macs(SEED),
        step=found.step * macs(SEED),
        least_px=16,
        trains_seed=True,
        has_interval=False,
    )
