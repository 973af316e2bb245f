"""Training of a supernet: several networks per step on one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.estimators.proxy.evaluator import TaskData
from nas.estimators.supernet.layout import is_transform
from nas.estimators.supernet.network import Subnetwork
from nas.estimators.supernet.task import SupernetBatch, make_supernet_task
from nas.estimators.supernet.weights import initial_weights
from nas.training.checkpoint import Checkpoint
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import autocast, make_grad_scaler
from nas.training.oom import named_out_of_memory
from nas.training.optimization import make_scheduler
from nas.training.results import OutOfMemoryError, TrainingError
from nas.training.runtime import fast_training, pick_device, random_state, seeded, set_random_state
from nas.training.settings import TrainSettings

Networks = Callable[[int], Sequence[ArchSpec]]
Say = Callable[[str], object]

_LEAST_SHARE: Final = 2  # images: batch norm has no variance of a single one
DIFFERENT_FILES: Final = (
    "torchrun: processes found different files of the supernet; runs_dir must be a folder that all machines share."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetTraining:
    """What a supernet is trained on.

    ``networks`` returns the networks of a step, counted from 0: with ``has_teacher`` the outputs of the first are the
    targets of the others; of segmenters at each position that is not void, while detectors learn from the labels.
    ``zero_scales``: slots of the scales that begin at 0, so that blocks with a shortcut begin as the identity. ``say``
    prints a line for the user; ``progress`` is called with the steps done and in all. ``checkpoint``: a file from which
    an interrupted training resumes, with the results of an uninterrupted one; the caller deletes it. ``processes``
    share each batch, whose gradients are summed; norm statistics are those of a share. The first of them alone should
    have ``say`` and ``progress``, and writes the checkpoint, which all read.
    """

    networks: Networks
    has_teacher: bool
    data: TaskData
    settings: TrainSettings
    seed: int
    say: Say
    zero_scales: frozenset[str] = frozenset()
    progress: ProgressCallback | None = None
    checkpoint: Checkpoint | None = None
    processes: ProcessGroup = field(default_factory=ProcessGroup)


def train_supernet(shapes: Mapping[str, tuple[int, ...]], training: SupernetTraining) -> dict[str, Tensor]:
    """Draw shared weights of ``shapes`` by slot and train them.

    Deterministic with one thread on CPU, for a number of processes. A network whose loss is not finite is named once
    and left out of its step. If memory runs out, the batch of a process on its own is halved once.

    Raises: TrainingError if no network of a step has a finite loss; OutOfMemoryError after releasing the memory;
    NasError if the processes differ in what they resume from, or a batch is too small for them.
    """
    batch_size = training.settings.batch_size
    try:
        return _train(shapes, training)
    except OutOfMemoryError:
        if training.processes.size > 1:  # the others wait for this one's gradients
            raise
        training.say(f"out of memory at a batch of {batch_size} images: the supernet goes on with half")
    halved = replace(training.settings, batch_size=max(2, batch_size // 2))
    return _train(shapes, replace(training, settings=halved))


def _train(shapes: Mapping[str, tuple[int, ...]], training: SupernetTraining) -> dict[str, Tensor]:
    settings = training.settings
    with named_out_of_memory(
        f"estimator.supernet.batch_size {settings.batch_size}",
        "lower it, or proxy.resolution_px or proxy.width_multiplier",
    ):
        return _train_epochs(initial_weights(shapes, training.seed, training.zero_scales), training)


def _train_epochs(shared: Mapping[str, Tensor], training: SupernetTraining) -> dict[str, Tensor]:
    settings, device = training.settings, pick_device(training.settings)
    with seeded(training.seed, device) as generator, fast_training(nn.Identity(), device, settings.threads):
        run = _Run(shared, training, generator, device)
        saved = training.checkpoint
        if saved is not None and (state := saved.load()) is not None:
            run.load_state_dict(state)
        training.processes.check_equal(run.epoch, DIFFERENT_FILES)
        while run.epoch < settings.epochs:
            duration_s = run.next_epoch()
            if saved is not None and training.processes.is_first and run.epoch < settings.epochs:
                saved.advance(duration_s, run.state_dict)
    return {slot: tensor.detach() for slot, tensor in run.weights.items()}


class _Run:
    """Mutable state of one training."""

    def __init__(
        self, shared: Mapping[str, Tensor], training: SupernetTraining, generator: torch.Generator, device: torch.device
    ) -> None:
        self.training, self.generator, self.device = training, generator, device
        self.epoch = 0
        settings = training.settings
        self.task = make_supernet_task(
            training.data, settings, seed=training.seed, device=device, processes=training.processes
        )
        self.steps = self.task.steps
        _check_shares(self.task.train_images // self.steps, training)
        self.weights = {slot: tensor.to(device).requires_grad_() for slot, tensor in shared.items()}
        self.optimizer = create_optimizer_v2(
            _parameter_groups(self.weights, settings.weight_decay), opt=settings.optimizer, lr=settings.lr
        )
        self.scheduler = make_scheduler(self.optimizer, settings, self.steps)
        self.scaler = make_grad_scaler(settings, device)
        self.failed: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """Return the state after an epoch, as plain containers and tensors."""
        return {
            "epoch": self.epoch,
            "weights": {slot: tensor.detach() for slot, tensor in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_state(self.generator),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict`` of the same training."""
        self.epoch = state["epoch"]
        with torch.no_grad():
            for slot, tensor in state["weights"].items():
                self.weights[slot].copy_(tensor)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        set_random_state(self.generator, state["random"])

    def next_epoch(self) -> float:
        """Train one epoch and return its wall time in s."""
        start = time.perf_counter()
        self.task.start_epoch(self.epoch, self.generator)
        for index in range(self.steps):
            step = self.epoch * self.steps + index
            self._train_step(step, index)
            if self.training.progress is not None:
                self.training.progress(step + 1, self.training.settings.epochs * self.steps)
        self.epoch += 1
        return time.perf_counter() - start

    def _train_step(self, step: int, index: int) -> None:
        """Take one optimizer step on batch ``index`` of the epoch."""
        batches: dict[int, SupernetBatch] = {}
        processes = self.training.processes
        self.optimizer.zero_grad()
        teacher: Tensor | None = None
        trained = 0
        for spec in self.training.networks(step):
            if spec.resolution_px not in batches:
                batches[spec.resolution_px] = self.task.batch(index, spec)
            images, targets, weight = batches[spec.resolution_px]
            with autocast(self.training.settings, self.device):
                outputs = Subnetwork(spec).outputs(self.weights, images)
            loss = (
                self.task.loss(spec, outputs, targets)
                if teacher is None
                else self.task.soft_loss(outputs, targets, teacher)
            )
            loss = loss * weight
            if not torch.isfinite(processes.sum(loss.detach())):  # the same networks are left out in all processes
                self._report_failure(spec, step)
                continue
            if self.training.has_teacher and teacher is None:
                teacher = self.task.soft_targets(outputs)
            scaled: Any = self.scaler.scale(loss)
            scaled.backward()
            trained += 1
        if not trained:
            raise TrainingError(
                f"supernet: no network of step {step + 1} has a finite loss: lower estimator.supernet.lr."
            )
        processes.sum_gradients(self.weights.values())
        if self.training.settings.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.weights.values(), self.training.settings.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scheduler is not None:
            self.scheduler.step_update(step + 1)

    def _report_failure(self, spec: ArchSpec, step: int) -> None:
        """Name a network whose loss is not finite, once."""
        if spec.arch_id not in self.failed:
            self.failed.add(spec.arch_id)
            blocks = "; ".join(" ".join(stage) for stage in spec.strings)
            self.training.say(
                f"supernet: the loss of {spec.name} {spec.arch_id} is not finite at step {step + 1}; it is left out of "
                f"the step ({blocks})"
            )


def _check_shares(smallest_batch: int, training: SupernetTraining) -> None:
    """Check that every process gets enough images of a batch. Raises: NasError."""
    size = training.processes.size
    if size > 1 and smallest_batch < _LEAST_SHARE * size:
        raise NasError(
            f"estimator.supernet.batch_size {training.settings.batch_size}: gives some of {size} processes less than "
            f"{_LEAST_SHARE} of a batch's {smallest_batch} images; raise it, or start fewer processes."
        )


def _parameter_groups(weights: Mapping[str, Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters as timm does: no weight decay of scales, offsets and biases.

    Nor of kernel transforms, whose initial value is not zero.
    """
    decayed = {slot for slot, tensor in weights.items() if tensor.ndim > 1 and not is_transform(slot)}
    return [
        {"params": [weights[slot] for slot in weights if slot in decayed], "weight_decay": weight_decay},
        {"params": [weights[slot] for slot in weights if slot not in decayed], "weight_decay": 0.0},
    ]
