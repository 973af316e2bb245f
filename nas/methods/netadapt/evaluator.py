"""Evaluation of proposals: carried weights, loss, a short fine-tuning."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.data.summary import ImageSummary
from nas.estimators.base import Evaluation, ParentNetwork, network_seed, repeated_seed
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.reduce import LEAST_NORM_MOMENTUM, Proxy, last_map_px
from nas.exporters.metadata import input_metadata
from nas.exporters.standalone import save_weights
from nas.methods.netadapt.settings import NetAdaptSettings
from nas.methods.netadapt.state import LOSS, LOSS_ERROR
from nas.model.build import build
from nas.model.weights import carry_weights
from nas.training.augmentation import normalise
from nas.training.evaluation import (
    augmented_batch,
    memory_layout,
    normalization_statistics,
    score_model,
)
from nas.training.oom import named_out_of_memory
from nas.training.results import EpochResult, TrainingError
from nas.training.runtime import fast_training, pick_device, seeded

_MOMENTUM: Final = 0.9
_LOSS_BATCH: Final = 256
_SIDES_KEPT: Final = 3


class LossSample(NamedTuple):
    """Rows (int64) of train images for the loss, and of those to fine-tune on."""

    loss_rows: Tensor
    train_rows: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptEvaluator(ProxyEvaluator):
    """Evaluator of an adaptation's networks.

    A network with a ``parent`` begins with the weights of that. Its scores are its loss on train images that are left
    out of fine-tuning: what networks of a step compare by, so that the validation images choose nothing. It is
    fine-tuned for a few batches, the same for all networks of a step (``repeat`` is the step; at step 0 given weights
    are scored as they are). A network without a parent is trained in full.
    """

    netadapt: NetAdaptSettings

    def proxy(self, arch: ArchSpec) -> Proxy:
        """Return ``arch`` itself: an adaptation trains networks as they are."""
        return whole_network(arch)

    def evaluate(
        self,
        arch: ArchSpec,
        *,
        repeat: int = 0,
        on_epoch: Callable[[EpochResult], None] | None = None,
        parent: ParentNetwork | None = None,
    ) -> Evaluation:
        """Fine-tune ``arch`` from the weights of ``parent``, or train it in full.

        ``on_epoch`` may raise to stop. Raises: TrainingError if a loss is not finite; OutOfMemoryError.
        """
        with named_out_of_memory(
            f"training.batch_size {self.settings.batch_size}", "lower it, or run fewer trials at a time"
        ):
            if parent is None:
                return self._train(arch, repeat, on_epoch)
            return self._fine_tune(arch, repeat, parent)

    def scores(self, arch: ArchSpec, *, parent: ParentNetwork | None = None) -> Mapping[str, float]:
        """Loss of ``arch`` with the weights of ``parent``, and its standard error.

        That of its difference to the parent's loss.

        Raises: TrainingError if the loss is not finite; NasError without a parent.
        """
        if parent is None:
            raise NasError("an adaptation scores no network without a parent.")
        device = pick_device(self.settings)
        model = self._carried(arch, parent, device)
        with fast_training(model, device, self.settings.threads):
            return self._loss_scores(model, arch, parent, device)

    def _fine_tune(self, arch: ArchSpec, step: int, parent: ParentNetwork) -> Evaluation:
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        device = pick_device(self.settings)
        data = _SIZED.get(self.images, arch.resolution_px, device)
        model = self._carried(arch, parent, device)
        # The draws are those of the step, not of the network: all networks of a step see the same images. Norms follow
        # a removed channel within tens of batches.
        draws = seeded(repeated_seed(self.seed, step) % 2**31, device)
        with (
            draws as generator,
            fast_training(model, device, self.settings.threads),
            _norms_with(model, momentum=max(arch.norm.momentum, LEAST_NORM_MOMENTUM)),
        ):
            tuning = _FineTuning(model, data, self._sample.train_rows, self, generator)
            for batch in range(self.netadapt.batches if step else 0):
                tuning.train(batch)
            scores = self._loss_scores(model, arch, parent, device)
            score = score_model(model, data, self.settings)
        if self.weights_dir is not None:
            metadata = input_metadata(arch, ImageSummary.of(self.data).input_facts)
            save_weights(model, self.weights_dir / f"{arch.arch_id}.safetensors", metadata)
        return Evaluation(
            accuracy=score.accuracy,
            loss=score.loss,
            cpu_s=time.process_time() - start_cpu_s,
            duration_s=time.perf_counter() - start_s,
            class_correct=score.class_correct,
            class_images=data.val_class_images,
            scores=scores,
        )

    @property
    def _sample(self) -> LossSample:
        return loss_sample(len(self.images.train_labels), self.netadapt.loss_images, self.seed)

    def _carried(self, arch: ArchSpec, parent: ParentNetwork, device: torch.device) -> nn.Module:
        """Module of ``arch`` with the weights of ``parent``, without dropout."""
        torch.manual_seed(network_seed(arch, self.seed))
        model = build(arch, dropout=0.0, drop_path=0.0)
        state = _PARENTS.get(parent).state
        model.load_state_dict(carry_weights(parent.arch, state, arch, None).state)
        return model.to(device, memory_format=memory_layout(self.settings))  # type: ignore[call-overload, no-any-return]

    def _loss_scores(
        self, model: nn.Module, arch: ArchSpec, parent: ParentNetwork, device: torch.device
    ) -> dict[str, float]:
        rows = self._sample.loss_rows
        losses = image_losses(model, _SIZED.get(self.images, arch.resolution_px, device), rows, self)
        change = (losses - _PARENTS.get(parent).losses(self, rows, device)).double()
        loss = float(losses.mean())
        if not math.isfinite(loss):
            raise TrainingError(f"loss of the network became {loss}: lower netadapt.lr.")
        return {LOSS: loss, LOSS_ERROR: float(change.std() / math.sqrt(len(change)))}


class _FineTuning:
    """Momentum SGD of one proposal, the learning rate falling linearly to zero."""

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        rows: Tensor,
        evaluator: NetAdaptEvaluator,
        generator: torch.Generator,
    ) -> None:
        self.model, self.data, self.rows, self.generator = model, data, rows, generator
        self.settings, self.netadapt = evaluator.settings, evaluator.netadapt
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=self.netadapt.lr,
            momentum=_MOMENTUM,
            weight_decay=self.settings.weight_decay,
            nesterov=True,
        )

    def train(self, batch: int) -> None:
        """Take one step on the batch of that number."""
        settings, rows = self.settings, self.rows
        for group in self.optimizer.param_groups:
            group["lr"] = self.netadapt.lr * (1 - batch / self.netadapt.batches)
        self.model.train()
        picked = rows[torch.randint(len(rows), (settings.batch_size,), generator=self.generator, device=rows.device)]
        images, labels = augmented_batch(self.data, picked, settings, None, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(self.model(images), labels, label_smoothing=settings.label_smoothing).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def whole_network(arch: ArchSpec) -> Proxy:
    """``arch`` as its own proxy."""
    strides = (arch.stem.stride, *(stage.blocks[0].stride for stage in arch.stages))
    return Proxy(
        spec=arch,
        width_ratio=1.0,
        width_range=(1.0, 1.0),
        depth_ratio=1.0,
        strides=strides,
        final_map_px=last_map_px(arch, arch.resolution_px),
        warnings=(),
    )


def loss_sample(count: int, wanted: int, seed: int) -> LossSample:
    """Split train images into those for the loss and those to train on.

    ``count``: of all; for the loss at most ``wanted`` and a quarter of them. Two at least: one has no standard error,
    and no statistics for a norm behind a map of 1 px.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    cut = min(wanted, max(2, count // 4))
    return LossSample(order[:cut], order[cut:])


@torch.no_grad()
def image_losses(model: nn.Module, data: ImageData, rows: Tensor, evaluator: NetAdaptEvaluator) -> Tensor:
    """Cross entropy (nats) of each train image of ``rows``, without augmentation.

    Norms take the statistics of these images, in batches, and keep their own. Behind a removed channel the running
    statistics are those of another network: with them the loss says little of what a fine-tuning will find
    (tests/benchmarks/channel_importance.py).
    """
    mean, std = normalization_statistics(data)
    losses = []
    with _norms_with(model, track_running_stats=False):
        model.train()
        for part in rows.tensor_split(math.ceil(len(rows) / _LOSS_BATCH)):
            images = normalise(data.train_images[part], mean, std)
            logits = model(images.contiguous(memory_format=memory_layout(evaluator.settings))).float()
            losses.append(functional.cross_entropy(logits, data.train_labels[part], reduction="none"))
    return torch.cat(losses)


@contextmanager
def _norms_with(model: nn.Module, **fields: Any) -> Iterator[None]:
    """Context in which the batch norms of ``model`` have other ``fields``."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [{name: getattr(norm, name) for name in fields} for norm in norms]
    for norm in norms:
        vars(norm).update(fields)
    try:
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            vars(norm).update(own)


class _SizedImages:
    """Images at the sides that were asked for last, so that proposals share them."""

    def __init__(self) -> None:
        self._source: ImageData | None = None
        self._found: dict[tuple[int, str], ImageData] = {}

    def get(self, data: ImageData, side_px: int, device: torch.device) -> ImageData:
        if self._source is not data or len(self._found) > _SIDES_KEPT:
            self._source, self._found = data, {}
        key = (side_px, str(device))
        if key not in self._found:
            self._found[key] = data.resized(side_px).to(device)
        return self._found[key]


_SIZED = _SizedImages()


class _Parent:
    """A parent network as its proposals need it: weights, and losses by image."""

    def __init__(self, parent: ParentNetwork) -> None:
        self.state = load(parent.weights)
        self._arch = parent.arch
        self._losses: tuple[ImageData, Tensor, Tensor] | None = None  # images, rows, and their losses

    def losses(self, evaluator: NetAdaptEvaluator, rows: Tensor, device: torch.device) -> Tensor:
        """Cross entropy (nats) of each train image of ``rows``."""
        known = self._losses
        if known is None or known[0] is not evaluator.data or not torch.equal(known[1], rows):
            model = build(self._arch, dropout=0.0, drop_path=0.0)
            model.load_state_dict(self.state)
            model.to(device, memory_format=memory_layout(evaluator.settings))  # type: ignore[call-overload]
            data = _SIZED.get(evaluator.images, self._arch.resolution_px, device)
            known = self._losses = (evaluator.images, rows, image_losses(model, data, rows, evaluator))
        return known[2]


class _Parents:
    """The parent of the present step, prepared once per process."""

    def __init__(self) -> None:
        self._key: ParentNetwork | None = None
        self._found: _Parent | None = None

    def get(self, parent: ParentNetwork) -> _Parent:
        if self._found is None or self._key != parent:
            self._key, self._found = parent, _Parent(parent)
        return self._found


_PARENTS = _Parents()
