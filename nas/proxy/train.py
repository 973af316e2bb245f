"""Train a network for a few epochs on images in memory and score it on the validation split."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from nas.proxy.augment import make_mixup, normalise, take_shifted
from nas.proxy.data import ImageData
from nas.proxy.results import EpochResult, Score, TrainingError, TrainResult
from nas.proxy.score import amp_type, autocast, layout, pick_device, score_model, statistics
from nas.proxy.settings import TrainSettings
from nas.proxy.speed import fast_training, seeded


def train(
    model: nn.Module,
    data: ImageData,
    settings: TrainSettings,
    *,
    seed: int,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> TrainResult:
    """Train ``model`` in place and score it after every epoch; with one thread on CPU a seed gives the same numbers.

    With ``settings.ema`` the averaged weights are scored, and the model ends with them.
    ``on_epoch`` may raise to stop the training, which then leaves as that exception.

    Raises: TrainingError when the loss is no longer a number; torch's out-of-memory error passes through.
    """
    device = pick_device(settings)
    with seeded(seed, device) as generator, fast_training(model, device, settings.threads):
        run = _Run(model, data.to(device), settings, generator)
        results: list[EpochResult] = []
        train_s = train_cpu_s = 0.0
        for epoch in range(1, settings.epochs + 1):
            start = _Times.now()
            train_loss = run.train_epoch(epoch)
            trained = _Times.now().since(start)
            score = score_model(run.scored_model, run.data, settings)
            if not math.isfinite(score.loss):
                raise TrainingError(f"validation loss became {score.loss} at epoch {epoch}: lower proxy.lr.")
            train_s, train_cpu_s = train_s + trained.wall_s, train_cpu_s + trained.cpu_s
            results.append(_epoch_result(epoch, score, train_loss, _Times.now().since(start)))
            if on_epoch is not None:
                on_epoch(results[-1])
        run.keep_scored_weights()
    images = settings.epochs * len(data.train_labels)
    return TrainResult(
        epochs=tuple(results),
        duration_s=sum(result.duration_s for result in results),
        cpu_s=sum(result.cpu_s for result in results),
        images_per_s=images / train_s,
        images_per_cpu_s=images / max(train_cpu_s, 1e-9),
    )


class _Times(NamedTuple):
    """Readings of two clocks: of the wall, and of the CPU time of all threads."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> _Times:
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: _Times) -> _Times:
        return _Times(self.wall_s - start.wall_s, self.cpu_s - start.cpu_s)


def _epoch_result(epoch: int, score: Score, train_loss: float, taken: _Times) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        accuracy=score.accuracy,
        val_loss=score.loss,
        train_loss=train_loss,
        duration_s=taken.wall_s,
        cpu_s=taken.cpu_s,
    )


class _Run:
    """The moving parts of one training: model, optimizer, schedule, averaged weights, random draws."""

    def __init__(self, model: nn.Module, data: ImageData, settings: TrainSettings, generator: torch.Generator) -> None:
        self.data, self.settings, self.generator = data, settings, generator
        self.device = data.train_images.device
        self.model = model.to(self.device, memory_format=layout(settings))  # type: ignore[call-overload]
        count = len(data.train_labels)
        # Batches of nearly equal size: no small last one, whose statistics would be poor and whose weight too high.
        self.steps = max(1, min(math.ceil(count / settings.batch_size), count // 2))
        self.optimizer = create_optimizer_v2(
            model, opt=settings.optimizer, lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.scheduler = _make_scheduler(self.optimizer, settings, self.steps)
        self.mixup = make_mixup(settings, data.classes)
        self.loss: nn.Module = SoftTargetCrossEntropy()
        if self.mixup is None:
            self.loss = LabelSmoothingCrossEntropy(settings.label_smoothing)
        self.ema = ModelEmaV3(model, settings.ema, use_warmup=True) if settings.ema is not None else None
        self.scored_model: nn.Module = self.model if self.ema is None else self.ema.module
        # Only float16 needs its small gradients scaled up.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp_type(settings, self.device) == torch.float16)
        self.mean, self.std = statistics(data)

    def train_epoch(self, epoch: int) -> float:
        """Train one epoch (counted from 1); its mean loss."""
        self.model.train()
        count = len(self.data.train_labels)
        order = torch.randperm(count, generator=self.generator, device=self.device)
        losses = torch.empty(self.steps, device=self.device)  # read once per epoch: reading stalls a GPU
        for step, rows in enumerate(order.tensor_split(self.steps)):
            done = (epoch - 1) * self.steps + step
            losses[step] = self._train_step(rows)
            if self.scheduler is not None:
                self.scheduler.step_update(done + 1)
            if self.ema is not None:
                self.ema.update(self.model, step=done + 1)
        wrong = (~losses.isfinite()).nonzero()
        if len(wrong):
            step = int(wrong[0])
            raise TrainingError(f"loss became {float(losses[step])} at epoch {epoch}, step {step + 1}: lower proxy.lr.")
        return float(losses.mean())

    def keep_scored_weights(self) -> None:
        """Leave the averaged weights in the model where those were scored: what is saved must give the accuracy."""
        if self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())

    def _train_step(self, rows: Tensor) -> Tensor:
        images, targets = self._batch(rows)
        self.optimizer.zero_grad()
        with autocast(self.settings, self.device):
            loss = self.loss(self.model(images), targets)
        self.scaler.scale(loss).backward()
        if self.settings.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        detached: Tensor = loss.detach()
        return detached

    def _batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if self.mixup is not None:
            rows = rows[: len(rows) // 2 * 2]  # timm mixes pairs
        shift_px = round(self.settings.shift * self.data.resolution_px)
        picked = take_shifted(
            self.data.train_images, rows, shift_px=shift_px, flips=self.data.flips, generator=self.generator
        )
        images = normalise(picked, self.mean, self.std).contiguous(memory_format=layout(self.settings))
        targets = self.data.train_labels[rows]
        return (images, targets) if self.mixup is None else self.mixup(images, targets)


def _make_scheduler(optimizer: torch.optim.Optimizer, settings: TrainSettings, steps: int) -> Any:
    """timm's schedule, stepped per update, or None for a constant rate."""
    if settings.schedule == "constant":
        return None
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=settings.schedule,
        num_epochs=settings.epochs,
        warmup_epochs=settings.warmup_epochs,
        warmup_lr=settings.lr / 100,
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    return scheduler
