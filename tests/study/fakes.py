"""Stand-ins for what a search spends its time on: evaluators that train nothing, a space with a feasible corner."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import optuna
import yaml

from nas.arch.complexity import complexity
from nas.arch.scaling.transform import Scaling
from nas.arch.spec import ArchSpec
from nas.data.sources import DataSettings
from nas.estimators.base import Evaluation
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.settings import EstimatorSettings
from nas.latency.predictors.held_out import HeldOutCheck, HeldOutError
from nas.latency.predictors.macs import MacsPredictor
from nas.latency.settings import LatencySettings
from nas.methods.search.ask_tell import SearchAskTell
from nas.methods.search.config import SearchPlan
from nas.methods.search.settings import PrunerSettings, SamplerSettings, StudySettings
from nas.study.candidates import Pricer
from nas.study.config import EngineSettings
from nas.study.constraints import Constraints
from nas.study.measurement import PredictorRefinement
from nas.study.objective import ObjectiveSettings
from nas.study.storage.opening import open_study
from nas.study.trial_attributes import MeasuredLatency
from nas.study.trial_loop import OnTrial, run_trial_loop
from nas.training.results import EpochResult
from search_spaces.blockwise import BlockwiseSpace
from search_spaces.mobilenet_v1 import MobileNetV1Space
from tests.paths import CONF

MS_PER_GMAC = 30.0
CONF = CONF / "space"
PARETO = ObjectiveSettings()


def mobilenet_v1() -> MobileNetV1Space:
    """The published space of 16 points: four widths, four resolutions."""
    config = yaml.safe_load((CONF / "mobilenet_v1.yaml").read_text(encoding="utf-8"))
    return MobileNetV1Space(**{key: value for key, value in config.items() if not key.startswith("_")})


BLOCKS: Final = (
    {"kernel": [3, 5], "expansion": [3, 6]},
    {"repeats": [0, 1, 2], "kernel": [3, 5, 7], "expansion": [3, 6]},
)


def small_space(blocks: Sequence[Mapping[str, Any]] = BLOCKS) -> BlockwiseSpace:
    """288 points, of which some decode to the same network: kernel and expansion of an absent block.

    ``blocks``: of its second stage.
    """
    return BlockwiseSpace(
        name="small",
        resolution_px=32,
        width=[0.5, 1.0],
        stem={"channels": 8},
        head={"channels": 32},
        stages=[
            {"stride": 1, "channels": [8, 16], "type": "ds", "kernel": 3},
            {
                "stride": 2,
                "channels": 16,
                "blocks": list(blocks),
            },
        ],
    )


def make_plan(space: Any, **changes: Any) -> SearchPlan:
    """A plan of nothing but defaults, priced by multiply-adds; ``changes`` are fields of it."""
    fields: dict[str, Any] = {
        "space": space,
        "space_config": {"name": space.name, "width": [0.25, 1.0]},
        "data": DataSettings(),
        "proxy": ProxySettings(),
        "latency": LatencySettings(backend="macs"),
        "objective": ObjectiveSettings(),
        "constraints": Constraints(),
        "sampler": SamplerSettings(),
        "pruner": PrunerSettings(),
        "engine": EngineSettings(),
        "study": StudySettings(),
        "runs_dir": Path("runs"),
    }
    return SearchPlan(**{**fields, **changes})


def pricer(space: Any, **limits: float) -> Pricer:
    """Prices by multiply-adds alone."""
    return Pricer(
        space=space,
        predictor=MacsPredictor(MS_PER_GMAC),
        constraints=Constraints(**limits),
        classes=10,
        in_channels=1,
    )


def accuracy_of(arch: ArchSpec) -> float:
    """A made-up accuracy in [0.5, 1) that grows with multiply-adds and differs between networks of equal cost."""
    size = complexity(arch).macs / 1e6
    return 0.5 + 0.4 * size / (size + 1.0) + 0.05 * int(arch.arch_id[:4], 16) / 2**16


def epoch_result(epoch: int, *, accuracy: float) -> EpochResult:
    """An epoch that took no time."""
    return EpochResult(epoch=epoch, accuracy=accuracy, val_loss=1.0, train_loss=1.0, duration_s=0.0, cpu_s=0.0)


class FakeEvaluator:
    """Scores by `accuracy_of` and remembers which networks it was asked for.

    ``trouble``: called with the number of the call, from 1, and the network before it is scored; may raise.
    ``epochs``: so many are heard of, with accuracies that rise in equal steps.
    """

    def __init__(self, trouble: Callable[[int, ArchSpec], None] | None = None, epochs: int = 0) -> None:
        self.trained: list[str] = []
        self.scored: list[str] = []
        self.forgotten: list[str] = []
        self.epochs = epochs
        self._trouble = trouble
        self._calls = 0

    def evaluate(
        self, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        self._calls += 1
        if self._trouble:
            self._trouble(self._calls, arch)
        for epoch in range(1, self.epochs + 1 if on_epoch else 1):
            on_epoch(epoch_result(epoch, accuracy=accuracy_of(arch) * epoch / self.epochs))
        self.trained.append(arch.arch_id)
        return Evaluation(accuracy=accuracy_of(arch), cpu_s=0.0, duration_s=0.0)

    def scores(self, arch: ArchSpec) -> dict[str, float]:
        self.scored.append(arch.arch_id)
        return {"size": math.log(complexity(arch).macs)}

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int = 0) -> None:
        self.forgotten.append(arch.arch_id)


class LearningPredictor(MacsPredictor):
    """Multiply-adds times a constant, which it takes from measurements where it has any."""

    def __init__(self, ms_per_gmac: float) -> None:
        super().__init__(ms_per_gmac)
        self.error = HeldOutError.of([HeldOutCheck(name=name, measured_ms=1.0, predicted_ms=1.0) for name in "ab"])

    def refined(self, measured: Sequence[tuple[ArchSpec, float]]) -> LearningPredictor:
        return LearningPredictor(statistics.median(ms / complexity(arch).macs * 1e9 for arch, ms in measured))


class Stopwatch:
    """Measures ``ms_per_gmac`` exactly and remembers of which networks; ``trouble`` as of `FakeEvaluator`.

    ``slowness``: by what the machine is slower at each call from the first, which its reference shows.
    """

    def __init__(
        self,
        ms_per_gmac: float,
        trouble: Callable[[int, ArchSpec], None] | None = None,
        slowness: Sequence[float] = (),
    ) -> None:
        self.timed: list[str] = []
        self._ms_per_gmac = ms_per_gmac
        self._trouble = trouble
        self._pace = iter(slowness)

    def __call__(self, archs: Sequence[ArchSpec]) -> list[MeasuredLatency]:
        for arch in archs:
            self.timed.append(arch.arch_id)
            if self._trouble:
                self._trouble(len(self.timed), arch)
        pace = next(self._pace, None)
        ms = [complexity(arch).macs * 1e-9 * self._ms_per_gmac * (pace or 1.0) for arch in archs]
        return [MeasuredLatency(value, 0.001, pace) for value in ms]


@dataclass(frozen=True, kw_only=True)
class OneWorker(SearchAskTell):
    """A search and its only worker."""

    evaluator: FakeEvaluator

    def run(self, on_trial: OnTrial | None = None) -> None:
        """Train all that it wants."""
        run_trial_loop(self, self.evaluator, on_trial)


class Memory(optuna.storages.InMemoryStorage):
    """Optuna's, which looks for queued trials behind the last one it found alone: those queued again stand before."""

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[Any]:
        return super().get_all_trials(study_id, deepcopy, states and list(states))  # the shortcut is for one tuple


def new_study(name: str = "fake", objective: ObjectiveSettings = PARETO) -> optuna.Study:
    """A study in memory."""
    return open_study(Memory(), name, objective, {})


def make_search(
    space: Any,
    evaluator: FakeEvaluator,
    *,
    study: optuna.Study | None = None,
    objective: ObjectiveSettings = PARETO,
    sampler: str = "random",
    n_trials: int = 8,
    seed: int = 0,
    max_screened: int = 200,
    limits: Mapping[str, float] | None = None,
    stopwatch: Stopwatch | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    worker: str = "",
    estimator: EstimatorSettings | None = None,
) -> OneWorker:
    """A search of ``space`` that trains nothing, on a study in memory unless one is given.

    With a ``stopwatch`` it measures candidates before training, and its predictor learns.
    """
    prices = pricer(space, **(limits or {}))
    refinement = None
    if stopwatch:
        prices = replace(prices, predictor=LearningPredictor(MS_PER_GMAC))
        refinement = PredictorRefinement(prices, lambda _, arch: stopwatch([arch])[0])
    return OneWorker(
        evaluator=evaluator,
        study=study or new_study(objective=objective),
        pricer=prices,
        refinement=refinement,
        objective=objective,
        epochs=max(1, evaluator.epochs),
        pruner=pruner,
        worker=worker,
        estimator=estimator or EstimatorSettings(),
        sampler=SamplerSettings(name=sampler, startup=4, population=4),
        settings=StudySettings(n_trials=n_trials, seed=seed, max_screened=max_screened),
    )


class CornerSpace:
    """Twelve choices of 1 to 4; only all ones are small, a point that 4**12 random draws hardly ever meet.

    A point decodes to the smallest MobileNetV1 at 8 px times the product of its choices: each one raises the cost.
    """

    name = "corner"
    largest_kernel = 3
    published: tuple[str, ...] = ()
    parameters: Mapping[str, tuple[int, ...]] = {f"c{index:02}": (4, 3, 2, 1) for index in range(12)}
    size = 4**12

    def __init__(self) -> None:
        self._base = mobilenet_v1()

    def sample(self, rng: random.Random) -> dict[str, int]:
        return {name: rng.choice(values) for name, values in self.parameters.items()}

    def decode(self, genotype: Mapping[str, Any], *, classes: int = 1000, in_channels: int = 3) -> ArchSpec:
        side_px = 32 * (1 + sum(genotype.values()) - len(genotype))
        space = self._base
        spec = space.decode({"width": 0.25, "resolution_px": 128}, classes=classes, in_channels=in_channels)
        return ArchSpec(**{**{name: getattr(spec, name) for name in spec.__slots__}, "resolution_px": side_px})

    def decode_base(self, genotype: Mapping[str, Any], **_: int) -> tuple[ArchSpec, Scaling]:
        raise NotImplementedError

    def encode(self, spec: ArchSpec) -> dict[str, int]:
        raise NotImplementedError
