"""Proxy evaluation of a candidate: reduce, build, train, save the weights."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.dense import AnyDenseData
from nas.data.images import ImageData
from nas.data.summary import ImageSummary
from nas.estimators.base import Evaluation, Scorer, network_seed
from nas.estimators.proxy.reduce import Proxy, proxy_factory
from nas.estimators.proxy.settings import ProxySettings
from nas.exporters.metadata import input_metadata
from nas.exporters.standalone import save_weights
from nas.model.build import build
from nas.model.initialization import zero_init_residual
from nas.training.oom import named_out_of_memory
from nas.training.results import EpochResult, TrainingError, TrainResult
from nas.training.runtime import pick_device
from nas.training.tasks import make_dense_source, make_dense_task
from nas.training.trainer import train, train_from

TaskData: TypeAlias = ImageData | AnyDenseData


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEvaluator:
    """Evaluator that trains proxies on ``data``, by the task that these are for.

    The seed of a training is a function of ``seed``, network and repeat, not of the order of evaluations.
    ``largest_kernel`` is the side in px of the largest kernel of the space. ``base_resolution_px`` is the largest
    resolution of a space that compares resolutions, so that their proxies differ in resolution too.
    ``weights_dir`` receives ``<arch_id>.safetensors`` of the trained proxy (None: weights are not saved).
    ``checkpoints_dir`` contains checkpoints of unfinished trainings, ``<arch_id>.pt`` or ``<arch_id>-<repeat>.pt``,
    from which an interrupted training resumes (None: it restarts). ``scorer`` scores networks without training.
    ``initial_state``: state dict with which the proxy of a network begins its training (None: random weights).
    """

    data: TaskData
    settings: ProxySettings
    largest_kernel: int
    seed: int
    base_resolution_px: int | None = None
    weights_dir: Path | None = None
    checkpoints_dir: Path | None = None
    scorer: Scorer | None = None
    initial_state: Callable[[ArchSpec], Mapping[str, Tensor]] | None = None

    @property
    def images(self) -> ImageData:
        """Images with a class each, for what classifies alone."""
        if not isinstance(self.data, ImageData):
            raise TypeError("the labels of these images are boxes or masks, not classes.")
        return self.data

    def with_folders(self, *, weights_dir: Path | None, checkpoints_dir: Path | None) -> ProxyEvaluator:
        """Return the same evaluator with other folders."""
        return replace(self, weights_dir=weights_dir, checkpoints_dir=checkpoints_dir)

    def proxy(self, arch: ArchSpec) -> Proxy:
        """Reduce ``arch`` to its proxy."""
        return proxy_factory(self.data, self.settings, self.largest_kernel, self.base_resolution_px)(arch)

    def evaluate(
        self, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        """Train the proxy of ``arch`` and return its accuracy.

        Each ``repeat`` has its own seed for weights and draws. ``on_epoch`` may raise to stop the training; when
        resuming it is called only for the epochs after the checkpoint.

        Raises: TrainingError if a loss is not finite; OutOfMemoryError, after releasing the memory.
        """
        with named_out_of_memory(
            f"proxy.batch_size {self.settings.batch_size}",
            "lower it, proxy.resolution_px or proxy.width_multiplier, or run fewer trainings at a time",
        ):
            return self._train(arch, repeat, on_epoch)

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Score ``arch`` without training it.

        Raises: TrainingError if a score is not finite; NasError without a ``scorer``.
        """
        if self.scorer is None:
            raise NasError("estimator.name proxy: trains networks and scores none.")
        scores = dict(self.scorer.scores(arch))
        for name, value in scores.items():
            if not math.isfinite(value):
                raise TrainingError(f"score {name} is {value}: the network cannot be compared with others.")
        return scores

    def discard_checkpoint(self, arch: ArchSpec, *, repeat: int = 0) -> None:
        """Delete the checkpoint of a training whose result is stored; idempotent."""
        checkpoint = self._checkpoint(arch, repeat)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)

    def discard_checkpoints(self) -> None:
        """Delete all checkpoints, including those of abandoned trainings; idempotent."""
        if self.checkpoints_dir is not None:
            shutil.rmtree(self.checkpoints_dir, ignore_errors=True)

    def _train(self, arch: ArchSpec, repeat: int, on_epoch: Callable[[EpochResult], None] | None) -> Evaluation:
        seed = network_seed(arch, self.seed, repeat)
        torch.manual_seed(seed)
        proxy = self.proxy(arch).spec
        model = build(proxy)
        zero_init_residual(model)
        if self.initial_state is not None:
            model.load_state_dict(self.initial_state(arch))
        checkpoint = self._checkpoint(arch, repeat)
        evaluation = _trained(
            model, proxy, self.data, self.settings, seed=seed, on_epoch=on_epoch, checkpoint=checkpoint
        )
        if self.weights_dir is not None:
            metadata = input_metadata(proxy, ImageSummary.of(self.data).input_facts)
            save_weights(model, self.weights_dir / f"{arch.arch_id}.safetensors", metadata)
        return evaluation

    def _checkpoint(self, arch: ArchSpec, repeat: int) -> Path | None:
        name = f"{arch.arch_id}-{repeat}.pt" if repeat else f"{arch.arch_id}.pt"
        return None if self.checkpoints_dir is None else self.checkpoints_dir / name


def _trained(
    model: nn.Module,
    proxy: ArchSpec,
    data: TaskData,
    settings: ProxySettings,
    *,
    seed: int,
    on_epoch: Callable[[EpochResult], None] | None,
    checkpoint: Path | None,
) -> Evaluation:
    """Train ``model``, built from ``proxy``, by the task of ``data``."""
    given: dict[str, Any] = {"seed": seed, "on_epoch": on_epoch, "checkpoint": checkpoint}
    if isinstance(data, ImageData):
        images = data.resized(proxy.resolution_px)
        result = train(model, images, settings, **given)
        return _evaluation(result, class_correct=result.class_correct, class_images=images.val_class_images)
    device = pick_device(settings)
    source = make_dense_source(data, settings, resolution_px=proxy.resolution_px, seed=seed, device=device)
    task = make_dense_task(proxy, source, settings, device)
    result = train_from(model, source, settings, task=task, **given)
    last = result.epochs[-1]
    return _evaluation(
        result,
        standard_error=last.standard_error,
        class_scores=last.class_scores,
        class_errors=last.class_errors,
        constant_accuracy=task.constant_score(),
        metrics={name: value for name, value in last.metrics.items() if not name.endswith("_error")},
    )


def _evaluation(result: TrainResult, **figures: Any) -> Evaluation:
    return Evaluation(
        accuracy=result.accuracy, cpu_s=result.cpu_s, duration_s=result.duration_s, loss=result.loss, **figures
    )
