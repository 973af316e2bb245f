"""State of one training: steps, epochs, validation, and resuming in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from nas.training.batches import BatchSource, LabelledSource, TrainBatch
from nas.training.distillation.loss import Distillation
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import autocast, make_grad_scaler, memory_layout
from nas.training.optimization import make_optimizer, make_scheduler
from nas.training.results import EpochResult, TrainingError
from nas.training.runtime import global_random_state, set_global_random_state
from nas.training.settings import TrainSettings
from nas.training.tasks.base import Task, moved
from nas.training.tasks.classification import Classification


class Times(NamedTuple):
    """Wall time and CPU time of all threads, in s: clock readings or differences."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    @classmethod
    def now(cls) -> Times:
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Times) -> Times:
        """Return the time from ``start`` to this reading."""
        return Times(self.wall_s - start.wall_s, self.cpu_s - start.cpu_s)

    def plus(self, other: Times) -> Times:
        """Return the sum of two differences."""
        return Times(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


class TrainingRun:
    """Mutable state of one training.

    Model, optimizer, schedule, averaged weights, the source of batches and the results so far. ``step``: steps of the
    present epoch that are done. ``trained``: time of the training steps, without validation. ``scored_model``: the
    weights that are validated, averaged ones with ``settings.ema``. ``processes`` share each batch, gradients are
    summed; norm statistics are those of a share, and averaged before they are used. ``task``: loss and score; None for
    classification. ``distillation``: the loss with a teacher, of classification only; None for the labels' alone.
    """

    def __init__(
        self,
        model: nn.Module,
        source: BatchSource,
        settings: TrainSettings,
        device: torch.device,
        processes: ProcessGroup | None = None,
        *,
        task: Task | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        self.task: Task = task or Classification(cast(LabelledSource, source), settings, device)
        self.distillation = distillation
        self.source, self.settings, self.device = source, settings, device
        self.processes = processes or ProcessGroup()
        self.results: list[EpochResult] = []
        self.trained = Times()
        self.model = model.to(device, memory_format=memory_layout(settings))  # type: ignore[call-overload]
        self.steps, self.step = source.steps, 0
        self.losses = torch.zeros(self.steps, device=device)  # read rarely: a read synchronises the GPU
        self.spent = Times()  # on the present epoch, before this process began
        self.optimizer = make_optimizer(model, settings)
        self.scheduler = make_scheduler(self.optimizer, settings, self.steps)
        self.ema = ModelEmaV3(model, settings.ema, use_warmup=True) if settings.ema is not None else None
        self.scored_model: nn.Module = self.model if self.ema is None else self.ema.module
        self.scaler = make_grad_scaler(settings, device)
        self.start = Times.now()

    @property
    def epoch(self) -> int:
        """The present epoch, counted from 1."""
        return len(self.results) + 1

    @property
    def steps_done(self) -> int:
        """Steps of all epochs that are done."""
        return len(self.results) * self.steps + self.step

    def state_dict(self) -> dict[str, Any]:
        """Return the state after any step or epoch, as plain containers and tensors.

        The learning rate schedule is not included: it is a function of the step.
        """
        return {
            "results": [asdict(result) for result in self.results],
            "trained": list(self.trained),
            "step": self.step,
            "losses": self.losses[: self.step].clone(),
            "spent": list(self.spent.plus(Times.now().since(self.start)) if self.step else Times()),
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": global_random_state(self.device),
            "source": dict(self.source.state_dict()),
        }

    def checked_state_dict(self) -> dict[str, Any]:
        """Return ``state_dict`` after a look at the losses.

        Raises: TrainingError if one is not finite.
        """
        self.check_losses()
        return self.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict`` of the same training."""
        self.results = [EpochResult(**result) for result in state["results"]]
        self.trained, self.spent = Times(*state["trained"]), Times(*state["spent"])
        self.step = state["step"]
        self.losses[: self.step] = state["losses"].to(self.device)
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        set_global_random_state(state["random"], self.device)
        self.source.load_state_dict(state["source"])

    def next_epoch(self, after_step: Callable[[], None] | None = None) -> EpochResult:
        """Train and score the next epoch, or the rest of one that was left in the middle.

        ``after_step`` is called after every step and may raise.

        Raises: TrainingError if the training or validation loss is not finite.
        """
        epoch, self.start = self.epoch, Times.now()
        train_loss = self._train_epoch(after_step)
        spent = self.spent
        self.trained = self.trained.plus(Times.now().since(self.start)).plus(spent)
        self._average_statistics()
        score = self.task.score(self.scored_model.eval(), self.source.val_batches(), self.processes)
        if not math.isfinite(score.loss):
            raise TrainingError(
                f"validation loss became {score.loss} at epoch {epoch}: lower {self.settings.group}.lr."
            )
        elapsed = Times.now().since(self.start).plus(spent)
        result = EpochResult(
            epoch=epoch,
            accuracy=score.accuracy,
            val_loss=score.loss,
            train_loss=train_loss,
            duration_s=elapsed.wall_s,
            cpu_s=elapsed.cpu_s,
            class_correct=score.class_correct,
            metrics=dict(score.metrics),
            standard_error=score.standard_error,
            class_scores=score.class_scores,
            class_errors=score.class_errors,
        )
        self.results.append(result)
        self.step, self.spent = 0, Times()
        return result

    def check_losses(self) -> None:
        """Check the losses of the present epoch.

        Raises: TrainingError at the first that is not finite.
        """
        wrong = (~self.losses[: self.step].isfinite()).nonzero()
        if len(wrong):
            step = int(wrong[0])
            raise TrainingError(
                f"loss became {float(self.losses[step])} at epoch {self.epoch}, step {step + 1}: lower "
                f"{self.settings.group}.lr."
            )

    def load_scored_weights(self) -> None:
        """Load the averaged weights into the model if those were scored.

        Saved weights must reproduce the reported accuracy.
        """
        if self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())

    def _train_epoch(self, after_step: Callable[[], None] | None) -> float:
        """Train the present epoch to its end and return its mean loss."""
        self.model.train()
        for batch in self.source.train_batches(self.epoch, self.step):
            self.losses[self.step] = self._train_step(batch)
            self.step += 1
            if self.scheduler is not None:
                self.scheduler.step_update(self.steps_done)
            if self.ema is not None:
                self.ema.update(self.model, step=self.steps_done)
            if after_step is not None and self.step < self.steps:
                after_step()
        self.check_losses()
        return float(self.losses.mean())

    def _train_step(self, batch: TrainBatch) -> Tensor:
        """Take one optimizer step; returns the detached loss of the whole batch, ()."""
        images, targets = self.task.prepare(batch.images.to(self.device), moved(batch.targets, self.device))
        images = images.contiguous(memory_format=memory_layout(self.settings))
        self.optimizer.zero_grad()
        with autocast(self.settings, self.device):
            outputs = self.model(images)
            loss = self.task.loss(outputs, targets)
            if self.distillation is not None:
                loss = self.distillation.loss(loss, outputs, batch.rows, images)
        if self.processes.size > 1:
            loss = loss * (len(images) / batch.total)
        scaled: Any = self.scaler.scale(loss)
        scaled.backward()
        self.processes.sum_gradients(self.model.parameters())
        if self.settings.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.processes.sum(loss.detach())

    def _average_statistics(self) -> None:
        """Average the norm statistics over all processes, as each has seen its share only."""
        if self.processes.size == 1:
            return
        for module in {self.model, self.scored_model}:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.processes.sum(buffer) / self.processes.size)
