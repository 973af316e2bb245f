"""Scores of networks with weights inherited from a supernet, trained once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import timm
import torch
from torch import Tensor

from nas.arch.complexity import complexity
from nas.arch.heads import dense_network
from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.core.version import __version__
from nas.data.images import ImageData
from nas.estimators.base import ignore, repeated_seed
from nas.estimators.proxy.evaluator import TaskData
from nas.estimators.proxy.reduce import proxy_factory
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.supernet.layout import check_fits, residual_scales, slot_shapes
from nas.estimators.supernet.network import NormStatistics, Outputs, Subnetwork
from nas.estimators.supernet.sampling import (
    Genotype,
    covering_genotypes,
    extreme_genotype,
    fair_genotype,
)
from nas.estimators.supernet.settings import SupernetSettings
from nas.estimators.supernet.task import SupernetTask, make_supernet_task
from nas.estimators.supernet.training import DIFFERENT_FILES, SupernetTraining, train_supernet
from nas.estimators.supernet.weights import (
    load_shared_weights,
    save_shared_weights,
    standalone_state,
)
from nas.training.checkpoint import Checkpoint
from nas.training.distributed import join_process_group
from nas.training.evaluation import autocast
from nas.training.oom import named_out_of_memory
from nas.training.results import Score, TrainingError
from nas.training.runtime import fast_training, pick_device

T = TypeVar("T")

SCORE: Final = "supernet"
_COVERED: Final = 300  # random networks whose weights a supernet has, beside those that cover each choice
_FILE: Final = "supernet.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetScorer:
    """Scorer that inherits weights of a supernet of ``space``, trained on ``data``.

    The score is minus the validation loss of the task, which orders networks better than the accuracy does: of
    classifiers and segmenters the mean log-likelihood (nats) of the labels. Networks are reduced as ``proxy`` says,
    which ``largest_kernel`` and ``base_resolution_px`` complete as in ``ProxyEvaluator``. ``member``: which of
    ``settings.members`` supernets it is, counted from 0; ``seed`` is that of the study. ``folder`` contains the trained
    supernet and the checkpoint of an unfinished one.
    """

    data: TaskData
    proxy: ProxySettings
    settings: SupernetSettings
    space: Any
    largest_kernel: int
    seed: int
    folder: Path
    base_resolution_px: int | None = None
    member: int = 0
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the score."""
        return (f"{SCORE}_{self.member + 1}" if self.member else SCORE,)

    @property
    def _own_seed(self) -> int:
        """Seed of this member's weights and draws."""
        return repeated_seed(self.seed, self.member)

    @property
    def path(self) -> Path:
        """File of the trained supernet."""
        return self.folder / _FILE

    def prepare(self, progress: ProgressCallback | None = None, say: Callable[[str], object] = ignore) -> None:
        """Train the supernet unless its file exists; resumes from a checkpoint.

        Processes that torchrun started train it together; the first writes the files and uses ``progress`` and ``say``.

        Raises: NasError for the file of another supernet; TrainingError.
        """
        (shapes, zero_scales), identity = self._layout(), self._identity()
        processes = join_process_group(self.proxy)
        processes.check_equal(self.path.exists(), DIFFERENT_FILES)
        if self.path.exists():
            self._known["trained"] = load_shared_weights(self.path, shapes, identity)
            return
        checkpoint = None
        if self.proxy.checkpoint_s is not None:
            checkpoint = Checkpoint(self._checkpoint, _digest(identity), self.proxy.checkpoint_s)
        shared = train_supernet(
            shapes,
            SupernetTraining(
                networks=partial(self._step_networks, *self._extremes()),
                has_teacher=self.settings.sandwich,
                data=self.data,
                settings=self.settings.training(self.proxy),
                seed=self._own_seed,
                zero_scales=zero_scales,
                say=say if processes.is_first else ignore,
                progress=progress if processes.is_first else None,
                checkpoint=checkpoint,
                processes=processes,
            ),
        )
        if processes.is_first:
            save_shared_weights(self.path, shared, identity)
            self._checkpoint.unlink(missing_ok=True)
        processes.wait()  # until the file exists
        self._known["trained"] = {slot: tensor.cpu() for slot, tensor in shared.items()}

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Score ``arch`` with inherited weights.

        The loss is that of ``evaluate``; no boxes of a detector are looked for. Raises: TrainingError.
        """
        loss = self._with_inherited(arch, lambda network, outputs_of: self._task().loss_of(network.spec, outputs_of))
        return {self.names[0]: -_finite(loss, arch)}

    def evaluate(self, arch: ArchSpec) -> Score:
        """Score of the task and loss of ``arch`` with inherited weights.

        On the validation images. Its batch norm statistics are estimated anew, on ``settings.statistics_images`` random
        train images.

        Raises: TrainingError if the loss is not finite; OutOfMemoryError, after releasing the memory.
        """
        score = self._with_inherited(arch, lambda network, outputs_of: self._task().score(network.spec, outputs_of))
        _finite(score.loss, arch)
        return score

    def inherited_state(self, arch: ArchSpec) -> dict[str, Tensor]:
        """State dict of the proxy of ``arch``, as built by timm, with inherited weights."""
        network, shared = self._network(arch), self._shared()
        with torch.inference_mode(), self._fast():
            return standalone_state(network.bound, shared, self._statistics(network))

    def _with_inherited(self, arch: ArchSpec, use: Callable[[Subnetwork, Callable[[Tensor], Outputs]], T]) -> T:
        """What ``use`` returns for the proxy of ``arch``.

        Its second argument computes the proxy's outputs of images, with inherited weights.
        """
        network, shared = self._network(arch), self._shared()
        with (
            named_out_of_memory(
                f"estimator.supernet.statistics_images {self.settings.statistics_images}",
                "lower it, proxy.resolution_px or proxy.width_multiplier, or score fewer networks at a time",
            ),
            torch.inference_mode(),
            self._fast(),
        ):
            statistics = self._statistics(network)
            return use(network, lambda images: network.outputs(shared, images, statistics))

    def _statistics(self, network: Subnetwork) -> NormStatistics:
        """Estimate the batch norm statistics of ``network`` on train images."""
        with autocast(self.proxy, pick_device(self.proxy)):
            return network.estimate_statistics(self._shared(), self._statistics_images(network.spec.resolution_px))

    def _fast(self) -> Any:
        return fast_training(torch.nn.Identity(), pick_device(self.proxy), self.proxy.threads)

    def _network(self, arch: ArchSpec) -> Subnetwork:
        network = Subnetwork(self.reduced(arch))
        check_fits(arch, network.bound, self._weight_shapes())
        return network

    def _weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the trained weights, collected once for all networks."""
        return self._once("weight shapes", lambda: {slot: tuple(one.shape) for slot, one in self._shared().items()})

    def _shared(self) -> dict[str, Tensor]:
        """Trained weights on the device, loaded once.

        Those of ``prepare`` are pickled with the scorer, for workers on machines without its file.
        """

        def load() -> dict[str, Tensor]:
            weights = self._known.get("trained")
            if weights is None:
                weights = load_shared_weights(self.path, self._layout()[0], self._identity())
            return {slot: tensor.to(pick_device(self.proxy)) for slot, tensor in weights.items()}

        return self._once("weights", load)

    def _once(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returned the first time that ``name`` was asked for."""
        if name not in self._known:
            self._known[name] = make()
        found: T = self._known[name]
        return found

    def _task(self) -> SupernetTask:
        """Images and scores of the task, made once."""
        return self._once(
            "task",
            lambda: make_supernet_task(self.data, self.proxy, seed=self.seed, device=pick_device(self.proxy)),
        )

    def _statistics_images(self, side_px: int) -> Tensor:
        """Normalised train images (N, C, H, W) on which norm statistics are estimated."""
        return self._once(f"statistics {side_px}", lambda: self._draw_statistics_images(side_px))

    def _draw_statistics_images(self, side_px: int) -> Tensor:
        order = torch.randperm(self._task().train_images, generator=torch.Generator().manual_seed(self.seed))
        rows = order[: self.settings.statistics_images]  # images are stored by class
        return self._task().statistics_images(side_px, rows)

    def reduced(self, arch: ArchSpec) -> ArchSpec:
        """Reduce ``arch`` to its proxy, of which the supernet has the weights."""
        return proxy_factory(self.data, self.proxy, self.largest_kernel, self.base_resolution_px)(arch).spec

    def _decoded(self, genotype: Genotype) -> ArchSpec:
        """The proxy of ``genotype``, with the head of the task."""
        arch = self.space.decode(genotype, classes=self.data.classes, in_channels=self.data.channels)
        if not isinstance(self.data, ImageData):
            arch = dense_network(arch, self.data.settings.task, self.data.classes)
        return self.reduced(arch)

    def _extremes(self) -> tuple[Genotype, Genotype]:
        def macs(genotype: Genotype) -> float:
            return complexity(self._decoded(genotype)).macs

        return self._once(
            "extremes",
            lambda: (
                extreme_genotype(self.space, macs, largest=True),
                extreme_genotype(self.space, macs, largest=False),
            ),
        )

    def _step_networks(self, largest: Genotype, smallest: Genotype, step: int) -> Sequence[ArchSpec]:
        """Networks of a training step."""
        fixed = [largest, smallest] if self.settings.sandwich else []
        first = step * self.settings.networks
        balanced = [fair_genotype(self.space, first + i, self._own_seed) for i in range(self.settings.networks)]
        return [self._decoded(genotype) for genotype in (*fixed, *balanced)]

    def _layout(self) -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
        """Shapes of the shared tensors, and the scales that begin at 0; found once."""

        def find() -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
            largest, smallest = self._extremes()
            covering = covering_genotypes(self.space, largest, drawn=_COVERED, seed=self.seed)
            networks = [self._decoded(genotype) for genotype in (largest, smallest, *covering)]
            return slot_shapes(networks, kernel_transform=self.settings.kernel_transform), residual_scales(networks)

        return self._once("layout", find)

    def _identity(self) -> dict[str, Any]:
        """What the weights depend on, by words that a message can name."""
        return {
            "format": 2,  # 1: scales of residual branches began at 1
            "space": self.space.name,
            "choices": _digest({name: list(values) for name, values in self.space.parameters.items()}),
            "largest network": self._decoded(self._extremes()[0]).arch_id,
            "class list": _digest(list(self.data.class_names)),
            **_data_identity(self.data),
            "settings": dict(self.settings.identity(self.proxy)),
            "seed": self._own_seed,
            "versions": [torch.__version__, timm.__version__, __version__],
        }

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"


def _finite(loss: float, arch: ArchSpec) -> float:
    """``loss`` of ``arch``. Raises: TrainingError if it is not finite."""
    if not loss < float("inf"):
        raise TrainingError(f"the loss of {arch.name} with inherited weights is {loss}.")
    return loss


def _data_identity(data: TaskData) -> dict[str, Any]:
    """What a supernet's weights depend on of ``data``.

    That of classifiers has no task: older files have none.
    """
    if isinstance(data, ImageData):
        return {"data": [list(data.train_images.shape), list(data.mean), list(data.std), data.flips]}
    facts = [[len(data.train)], list(data.mean), list(data.std), _digest(data.identity())]
    return {"task": data.settings.task, "data": facts}


def _digest(facts: Any) -> str:
    """Hash of plain data (SHA-256, hex)."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()
