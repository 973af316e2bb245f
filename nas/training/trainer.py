"""Training loop with validation after every epoch, resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import nn

from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data.images import ImageData
from nas.training.batches import BatchSource, InMemorySource
from nas.training.checkpoint import Checkpoint, open_checkpoint
from nas.training.distillation.loss import Distillation
from nas.training.distributed import ProcessGroup
from nas.training.recipe import RecipeSettings
from nas.training.results import EpochResult, TrainResult
from nas.training.run import Times, TrainingRun
from nas.training.runtime import fast_training, pick_device, seeded
from nas.training.settings import TrainSettings
from nas.training.tasks.base import Task

_DIFFERENT_CHECKPOINTS: Final = (
    "torchrun: processes found different checkpoints; runs_dir must be a folder that all machines share."
)


def _nothing(*_: object) -> None:
    return None


def train(
    model: nn.Module,
    data: ImageData,
    settings: TrainSettings,
    *,
    seed: int,
    on_epoch: Callable[[EpochResult], None] | None = None,
    checkpoint: Path | None = None,
) -> TrainResult:
    """Train ``model`` in place on images in memory, with validation after every epoch.

    ``model`` maps float32 images (B, C, H, W), normalised by the data's mean and deviation, to logits (B, classes).
    Results are deterministic for a ``seed`` with one thread on CPU. With ``settings.ema`` the averaged weights are
    scored, and the model ends with them. ``on_epoch`` is called after every epoch; an exception that it raises stops
    the training and propagates.

    ``checkpoint``: a file written after an epoch (except the last) when ``settings.checkpoint_s`` seconds of training
    have passed since the previous write. The same training, restarted from the same initial weights, resumes from it
    and ends with the results of an uninterrupted one; the times of all epochs are included. ``on_epoch`` is called
    before the checkpoint is written and not again for epochs restored from it: an interruption between the two reports
    an epoch twice, with the same results. The caller deletes the file once the result is stored. Writing it took 0.03
    CPU-s for the default proxy of mixnet_s, whose epoch on digits took 11 (0.2 for 4 million parameters with ``ema``,
    65 MB); a training that is too short for a checkpoint spends 0.01 CPU-s on its fingerprint.

    Raises: TrainingError if a loss is not finite; torch's out-of-memory errors propagate.
    """
    source = InMemorySource(data, settings, seed=seed, device=pick_device(settings))
    return train_from(model, source, settings, seed=seed, on_epoch=on_epoch, checkpoint=checkpoint)


def train_from(
    model: nn.Module,
    source: BatchSource,
    settings: TrainSettings,
    *,
    seed: int,
    task: Task | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    checkpoint: Path | None = None,
) -> TrainResult:
    """Train ``model`` in place on images of ``source``, for any ``task``.

    As ``train``, whose source has images in memory and whose task is classification (None). Source and task are made
    for the device of ``settings`` and for this training alone.

    Raises: TrainingError if a loss is not finite; torch's out-of-memory errors propagate.
    """
    device = pick_device(settings)
    with seeded(seed, device), fast_training(model, device, settings.threads):
        images = source.identity() if checkpoint is not None else ()  # which takes a look at every pixel
        saved = open_checkpoint(checkpoint, model, images, settings, seed=seed, device=device)
        run = TrainingRun(model, source, settings, device, task=task)
        if saved is not None and (state := saved.load()) is not None:
            run.load_state_dict(state)
        while run.epoch <= settings.epochs:
            result = run.next_epoch()
            if on_epoch is not None:
                on_epoch(result)
            if saved is not None and result.epoch < settings.epochs:
                saved.advance(result.duration_s, run.state_dict)
        run.load_scored_weights()
    return train_result(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingHooks:
    """What a full training calls; any may raise, which stops the training.

    ``on_start``: before the first step, with the state that was restored if there was one. ``on_step``: after every
    step, with steps done and in all. ``on_epoch``: after every epoch, before its checkpoint. ``must_stop``: asked after
    every step; the training then saves its state and raises KeyboardInterrupt. ``say`` gets a line for the user.
    """

    on_start: Callable[[TrainingRun], object] = _nothing
    on_step: ProgressCallback = _nothing
    on_epoch: Callable[[TrainingRun], object] = _nothing
    must_stop: Callable[[], object] = _nothing
    say: Callable[[str], object] = _nothing


def train_network(
    model: nn.Module,
    source: BatchSource,
    settings: RecipeSettings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    hooks: TrainingHooks | None = None,
    processes: ProcessGroup | None = None,
    task: Task | None = None,
    distillation: Distillation | None = None,
) -> TrainResult:
    """Train ``model`` in place in full, resumable at any step.

    As ``train``, but for images from any ``source``, and ``checkpoint`` is also written in the middle of an epoch, when
    ``settings.checkpoint_s`` seconds have passed, and after every epoch. On CPU with one thread and one process a
    resumed training ends with the same weights as an uninterrupted one, bit for bit. Of ``processes`` the first one
    writes the file, which all read. ``task``: loss and score; None for classification. ``distillation``: the loss with
    a teacher, of classification only; None for the labels' alone.

    Raises: TrainingError if a loss is not finite, which is checked before a checkpoint is written, so that its weights
    are good; NasError if the checkpoint cannot be resumed, or the processes differ in what they resume from.
    """
    hooks, processes = hooks or TrainingHooks(), processes or ProcessGroup()
    device = pick_device(settings)
    if settings.bn_momentum is not None:
        _set_bn_momentum(model, settings.bn_momentum)
    with seeded(seed, device), fast_training(model, device, settings.threads):
        images = [*source.identity(), *(distillation.identity() if distillation is not None else ())]
        saved = open_checkpoint(checkpoint, model, images, settings, seed=seed, device=device, say=hooks.say)
        run = TrainingRun(model, source, settings, device, processes, task=task, distillation=distillation)
        if saved is not None:
            _resume(run, saved)
        elif checkpoint is not None and checkpoint.exists():
            raise NasError(
                f"{settings.group}.checkpoint_s null: does not resume from {checkpoint}; give a number of seconds, or "
                "delete the file to begin anew."
            )
        processes.check_equal(run.steps_done, _DIFFERENT_CHECKPOINTS)
        hooks.on_start(run)
        after_step = _after_step(run, hooks, saved if processes.is_first else None)
        while run.epoch <= settings.epochs:
            run.next_epoch(after_step)
            hooks.on_step(run.steps_done, settings.epochs * run.steps)
            hooks.on_epoch(run)
            if saved is not None and processes.is_first:
                saved.save(run.state_dict)
            if hooks.must_stop() and run.epoch <= settings.epochs:
                raise KeyboardInterrupt
        run.load_scored_weights()
    return train_result(run)


def _resume(run: TrainingRun, saved: Checkpoint) -> None:
    """Restore the saved state if there is one.

    Raises: NasError if it is of another training, which would be lost by beginning anew.
    """
    state = saved.load()
    if state is not None:
        run.load_state_dict(state)
    elif saved.path.exists():
        raise NasError(
            f"checkpoint {saved.path}: cannot be resumed: damaged, or begun with other images, first weights, teacher "
            "or versions of torch, timm or nas; choose another name for this training, or delete the file to begin "
            "anew."
        )


def _after_step(run: TrainingRun, hooks: TrainingHooks, saved: Checkpoint | None) -> Callable[[], None]:
    """What is done after each step within an epoch: report, and save if it is time."""
    before = Times.now()

    def after_step() -> None:
        nonlocal before
        hooks.on_step(run.steps_done, run.settings.epochs * run.steps)
        now = Times.now()
        if saved is not None and hooks.must_stop():
            saved.save(run.checked_state_dict)
        elif saved is not None:
            saved.advance(now.since(before).wall_s, run.checked_state_dict)
        before = now
        if hooks.must_stop():
            raise KeyboardInterrupt

    return after_step


def _set_bn_momentum(model: nn.Module, momentum: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def train_result(run: TrainingRun) -> TrainResult:
    """Return the result of a training after its last epoch."""
    images = run.settings.epochs * run.source.train_images
    return TrainResult(
        epochs=tuple(run.results),
        duration_s=sum(result.duration_s for result in run.results),
        cpu_s=sum(result.cpu_s for result in run.results),
        images_per_s=images / run.trained.wall_s,
        images_per_cpu_s=images / max(run.trained.cpu_s, 1e-9),
    )
