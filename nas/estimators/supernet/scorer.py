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
from torch.nn import functional

from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.progress import ProgressCallback
from nas.core.version import __version__
from nas.data.images import ImageData
from nas.estimators.base import ignore
from nas.estimators.proxy.reduce import reduce_arch
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.supernet.layout import check_fits, slot_shapes
from nas.estimators.supernet.network import Subnetwork
from nas.estimators.supernet.sampling import (
    Genotype,
    covering_genotypes,
    extreme_genotype,
    fair_genotype,
)
from nas.estimators.supernet.settings import SupernetSettings
from nas.estimators.supernet.training import SupernetTraining, train_supernet
from nas.estimators.supernet.weights import (
    initial_weights,
    load_shared_weights,
    save_shared_weights,
    standalone_state,
)
from nas.training.augmentation import normalise
from nas.training.checkpoint import Checkpoint
from nas.training.evaluation import autocast, memory_layout, normalization_statistics, pick_device
from nas.training.results import Score, TrainingError
from nas.training.runtime import fast_training

T = TypeVar("T")

SCORE: Final = "supernet"
_COVERED: Final = 300  # random networks whose weights a supernet has, beside those that cover each choice
_SCORE_BATCH: Final = 256
_MEMBER_STRIDE: Final = 1_000_003  # far above usual seeds, so that members do not share seeds with other studies
_FILE: Final = "supernet.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetScorer:
    """Scorer that inherits weights of a supernet of ``space``, trained on ``data``.

    The score is the mean log-likelihood (nats) of the validation labels, which orders networks better than the accuracy
    does. Networks are reduced as ``proxy`` says, which ``largest_kernel`` and ``base_resolution_px`` complete as in
    ``ProxyEvaluator``. ``member``: which of ``settings.members`` supernets it is, counted from 0; ``seed`` is that of
    the study. ``folder`` contains the trained supernet and the checkpoint of an unfinished one.
    """

    data: ImageData
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
        return self.seed + _MEMBER_STRIDE * self.member

    @property
    def path(self) -> Path:
        """File of the trained supernet."""
        return self.folder / _FILE

    def prepare(self, progress: ProgressCallback | None = None, say: Callable[[str], object] = ignore) -> None:
        """Train the supernet unless its file exists; resumes from a checkpoint.

        Raises: NasError for the file of another supernet; TrainingError.
        """
        shapes, identity = self._shapes(), self._identity()
        if self.path.exists():
            self._known["trained"] = load_shared_weights(self.path, shapes, identity)
            return
        shared = initial_weights(shapes, self._own_seed)
        checkpoint = None
        if self.proxy.checkpoint_s is not None:
            checkpoint = Checkpoint(self._checkpoint, _digest(identity), self.proxy.checkpoint_s)
        train_supernet(
            shared,
            SupernetTraining(
                networks=partial(self._step_networks, *self._extremes()),
                has_teacher=self.settings.sandwich,
                data=self.data,
                settings=self.settings.training(self.proxy),
                seed=self._own_seed,
                say=say,
                progress=progress,
                checkpoint=checkpoint,
            ),
        )
        save_shared_weights(self.path, shared, identity)
        self._known["trained"] = {slot: tensor.cpu() for slot, tensor in shared.items()}
        self._checkpoint.unlink(missing_ok=True)

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Score ``arch`` with inherited weights. Raises: TrainingError."""
        return {self.names[0]: -self.evaluate(arch).loss}

    def evaluate(self, arch: ArchSpec) -> Score:
        """Accuracy and loss of ``arch`` with inherited weights, on the validation images.

        Its batch norm statistics are estimated anew, on ``settings.statistics_images`` random train images. Raises:
        TrainingError if the loss is not finite.
        """
        network = self._network(arch)
        score = self._score(network)
        if not score.loss < float("inf"):
            raise TrainingError(f"the loss of {arch.name} with inherited weights is {score.loss}.")
        return score

    def inherited_state(self, arch: ArchSpec) -> dict[str, Tensor]:
        """State dict of the proxy of ``arch``, as built by timm, with inherited weights."""
        network, shared = self._network(arch), self._shared()
        with torch.inference_mode(), self._fast():
            statistics = network.estimate_statistics(shared, self._statistics_images(network.spec.resolution_px))
            return standalone_state(network.bound, shared, statistics)

    def _score(self, network: Subnetwork) -> Score:
        data, shared, device = self._images(network.spec.resolution_px), self._shared(), pick_device(self.proxy)
        mean, std = normalization_statistics(data)
        correct = torch.zeros(data.classes, dtype=torch.int64, device=device)
        loss = torch.zeros((), device=device)
        with torch.inference_mode(), self._fast(), autocast(self.proxy, device):
            statistics = network.estimate_statistics(shared, self._statistics_images(network.spec.resolution_px))
            batches = zip(
                torch.split(data.val_images, _SCORE_BATCH), torch.split(data.val_labels, _SCORE_BATCH), strict=True
            )
            for images, labels in batches:
                inputs = normalise(images, mean, std).contiguous(memory_format=memory_layout(self.proxy))
                logits = network.logits(shared, inputs, statistics).float()
                correct += torch.bincount(labels[logits.argmax(1) == labels], minlength=data.classes)
                loss += functional.cross_entropy(logits, labels, reduction="sum")
        count = len(data.val_labels)
        return Score(
            accuracy=float(correct.sum()) / count, loss=float(loss) / count, class_correct=tuple(correct.tolist())
        )

    def _fast(self) -> Any:
        return fast_training(torch.nn.Identity(), pick_device(self.proxy), self.proxy.threads)

    def _network(self, arch: ArchSpec) -> Subnetwork:
        network = Subnetwork(self.reduced(arch))
        check_fits(arch, network.bound, {slot: tuple(tensor.shape) for slot, tensor in self._shared().items()})
        return network

    def _shared(self) -> dict[str, Tensor]:
        """Trained weights on the device, loaded once.

        Those of ``prepare`` are pickled with the scorer, for workers on machines without its file.
        """

        def load() -> dict[str, Tensor]:
            weights = self._known.get("trained")
            if weights is None:
                weights = load_shared_weights(self.path, self._shapes(), self._identity())
            return {slot: tensor.to(pick_device(self.proxy)) for slot, tensor in weights.items()}

        return self._once("weights", load)

    def _once(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returned the first time that ``name`` was asked for."""
        if name not in self._known:
            self._known[name] = make()
        found: T = self._known[name]
        return found

    def _images(self, side_px: int) -> ImageData:
        return self._once(f"images {side_px}", lambda: self.data.resized(side_px).to(pick_device(self.proxy)))

    def _statistics_images(self, side_px: int) -> Tensor:
        """Normalised train images (N, C, H, W) on which norm statistics are estimated."""
        return self._once(f"statistics {side_px}", lambda: self._draw_statistics_images(side_px))

    def _draw_statistics_images(self, side_px: int) -> Tensor:
        data = self._images(side_px)
        order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(self.seed))
        rows = order[: self.settings.statistics_images].to(data.train_images.device)  # images are stored by class
        images = normalise(data.train_images[rows], *normalization_statistics(data))
        return images.contiguous(memory_format=memory_layout(self.proxy))

    def reduced(self, arch: ArchSpec) -> ArchSpec:
        """Reduce ``arch`` to its proxy, of which the supernet has the weights."""
        return reduce_arch(
            arch,
            self.proxy,
            classes=self.data.classes,
            in_channels=self.data.channels,
            largest_kernel=self.largest_kernel,
            base_resolution_px=self.base_resolution_px,
        ).spec

    def _decoded(self, genotype: Genotype) -> ArchSpec:
        """The proxy of ``genotype``."""
        return self.reduced(self.space.decode(genotype, classes=self.data.classes, in_channels=self.data.channels))

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

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the shared tensors."""
        largest, smallest = self._extremes()
        covering = covering_genotypes(self.space, largest, drawn=_COVERED, seed=self.seed)
        genotypes = (largest, smallest, *covering)
        return self._once("shapes", lambda: slot_shapes(map(self._decoded, genotypes)))

    def _identity(self) -> dict[str, Any]:
        """What the weights depend on, by words that a message can name."""
        data = self.data
        return {
            "format": 1,
            "space": self.space.name,
            "choices": _digest({name: list(values) for name, values in self.space.parameters.items()}),
            "largest network": self._decoded(self._extremes()[0]).arch_id,
            "class list": _digest(list(data.class_names)),
            "data": [list(data.train_images.shape), list(data.mean), list(data.std), data.flips],
            "settings": dict(self.settings.identity(self.proxy)),
            "seed": self._own_seed,
            "versions": [torch.__version__, timm.__version__, __version__],
        }

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"


def _digest(facts: Any) -> str:
    """Hash of plain data (SHA-256, hex)."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()
