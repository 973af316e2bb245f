"""A full training from its first step or its checkpoint to its report."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import FrameType
from typing import cast

import torch
from rich.console import Console
from torch import nn

from nas.arch.heads.task_scores import TASK_SCORES
from nas.arch.spec import ArchSpec
from nas.core.console import print_lines, progress_bar
from nas.core.formatting import percent, shown_path
from nas.core.progress import ProgressCallback
from nas.estimators.proxy import last_map_px
from nas.methods.full_training.conclude import conclude
from nas.methods.full_training.config import TrainingPlan
from nas.methods.full_training.dense_images import load_dense_images
from nas.methods.full_training.images import TrainingImages, load_training_images
from nas.methods.full_training.network_files import NetworkFiles
from nas.methods.full_training.results import TrainedDenseNetwork, TrainedNetwork, best_epoch
from nas.methods.full_training.run_folder import BEST, LAST, RunFolder
from nas.model.build import build
from nas.model.weights import InitialWeights, initial_state, print_initial_weights, weights_folder
from nas.study.storage.ownership import exclusive_ownership
from nas.training.batches import BatchSource, LabelledSource
from nas.training.distillation import Distillation, begin_distillation
from nas.training.distributed import ProcessGroup, join_process_group
from nas.training.oom import named_out_of_memory
from nas.training.optimization import epoch_learning_rates
from nas.training.results import TrainingError, TrainResult
from nas.training.run import TrainingRun
from nas.training.runtime import pick_device
from nas.training.trainer import TrainingHooks, train_network


def run_training(plan: TrainingPlan, console: Console) -> TrainedNetwork | TrainedDenseNetwork | None:
    """Train the network of ``plan``, or go on with it, and write its files.

    Returns the result; None in all but the first of several processes.

    Raises: NasError in one line; what was trained until then is in the folder, and the same call goes on.
    """
    processes = join_process_group(plan.recipe)
    folder = RunFolder(path=plan.folder)
    owned = exclusive_ownership(plan.folder, console, field="run.name") if processes.is_first else nullcontext()
    with owned:
        is_begun = folder.is_begun(plan.identity())
        if processes.is_first:
            folder.remove_leftovers()
        images = load_dense_images(plan, console) if plan.is_dense else load_training_images(plan, console)
        network = plan.network(images.summary.classes, images.summary.channels)
        if processes.is_first:
            print_lines(console, *_small_map_note(network))
        initial = _initial_weights(plan, network, images, console)
        if initial.mean:
            images = images.normalised(initial.mean, initial.std)
        model = build(network)
        model.load_state_dict(initial.state)
        files = NetworkFiles(
            plan=plan,
            network=network,
            images=images.summary,
            begun_with=initial.origin,
            is_streamed=images.is_streamed,
        )
        result = _train(model, files, images, processes, console, is_begun=is_begun)
        return conclude(files, images, result, console) if processes.is_first else None


def _small_map_note(network: ArchSpec) -> list[str]:
    """What a user should know of a network whose last map is a single pixel."""
    if last_map_px(network, network.resolution_px) > 1:
        return []
    return [
        f"note: at an input side of {network.resolution_px} px the last map has 1 px (stride {network.total_stride}), "
        "which sees little of where things are; raise recipe.resolution_px"
    ]


def _initial_weights(plan: TrainingPlan, network: ArchSpec, images: TrainingImages, console: Console) -> InitialWeights:
    """Return the first weights, and print what was carried from others.

    Raises: NasError.
    """
    initial = initial_state(
        network,
        plan.weights,
        seed=plan.run.seed,
        folder=weights_folder(plan.runs_dir),
        class_names=images.summary.class_names,
    )
    print_initial_weights(initial, console)
    return initial


def _distillation(
    plan: TrainingPlan, source: BatchSource, device: torch.device, processes: ProcessGroup, console: Console
) -> Distillation | None:
    """Load the teacher, if there is one. Raises: NasError."""
    if plan.teacher is None:
        return None
    return begin_distillation(
        plan.teacher,
        plan.distillation,
        cast(LabelledSource, source),  # as only classification has a teacher
        plan.recipe,
        device=device,
        weights_folder=weights_folder(plan.runs_dir),
        outputs_folder=plan.folder,
        processes=processes,
        say=partial(print_lines, console),
    )


def _train(
    model: nn.Module,
    files: NetworkFiles,
    images: TrainingImages,
    processes: ProcessGroup,
    console: Console,
    *,
    is_begun: bool,
) -> TrainResult:
    plan = files.plan
    advice = "lower it or recipe.resolution_px"
    device = pick_device(plan.recipe)
    source = images.make_source(device, processes)
    task = images.make_task(files.network, source, device) if images.make_task is not None else None
    distillation = _distillation(plan, source, device, processes, console)
    with (
        named_out_of_memory(f"recipe.batch_size {plan.recipe.batch_size}", advice),
        _interrupt_after_step() as must_stop,
        progress_bar(console, f"training {files.network.name}") as progress,
    ):
        watch = _Watch(files, console, processes, progress, is_begun=is_begun)
        try:
            return train_network(
                model,
                source,
                plan.recipe,
                seed=plan.run.seed,
                checkpoint=files.folder.checkpoint,
                hooks=watch.hooks(must_stop),
                processes=processes,
                task=task,
                distillation=distillation,
            )
        except TrainingError as error:
            raise TrainingError(f"{error} {watch.last_good}") from None


class _Watch:
    """What is printed and written while a network trains."""

    def __init__(
        self,
        files: NetworkFiles,
        console: Console,
        processes: ProcessGroup,
        progress: ProgressCallback,
        *,
        is_begun: bool,
    ) -> None:
        self.files, self.console, self.processes, self.progress = files, console, processes, progress
        self.is_begun = is_begun
        self.epochs_done = 0

    @property
    def last_good(self) -> str:
        """Which weights are good when a loss is not finite, in a sentence."""
        folder = self.files.folder
        if not self.epochs_done:
            return "No epoch was finished; choose another run.name for the new settings."
        return (
            f"The last good weights are {shown_path(folder.weights(LAST))} (epoch {self.epochs_done}): with another "
            f"run.name, weights={shown_path(folder.spec(LAST))} begins with them."
        )

    def hooks(self, must_stop: Callable[[], bool]) -> TrainingHooks:
        return TrainingHooks(
            on_start=self._start, on_step=self.progress, on_epoch=self._epoch, must_stop=must_stop, say=self._say
        )

    def _say(self, text: str) -> None:
        print_lines(self.console, text)

    def _start(self, run: TrainingRun) -> None:
        """Write the settings once all of them are checked.

        Those of a run that never began may be corrected under the same name.
        """
        if self.processes.is_first and not self.is_begun:
            self.files.folder.write_config(self.files.plan, self.files.images)
        self.epochs_done = len(run.results)
        if run.steps_done:
            self._say(f"resumed after {run.steps_done:,} of {run.settings.epochs * run.steps:,} steps")
            self.progress(run.steps_done, run.settings.epochs * run.steps)

    def _epoch(self, run: TrainingRun) -> None:
        """Write the weights of an epoch; the best first.

        A training that is killed in between repeats the epoch.
        """
        result = run.results[-1]
        if self.processes.is_first:
            if result.epoch == best_epoch(run.results):
                self.files.write_weights(BEST, run.scored_model, result)
            self.files.write_weights(LAST, run.scored_model, result)
            self.files.write_log(run.results, epoch_learning_rates(run.settings, run.steps))
        self.epochs_done = result.epoch
        score, error = TASK_SCORES[run.task.name], result.error_of(self.files.images.val)
        self._say(
            f"epoch {result.epoch} of {run.settings.epochs}: {score.name} {percent(result.accuracy, error)}, loss "
            f"{result.val_loss:.4f} (training {result.train_loss:.4f}), {result.duration_s:.0f} s"
        )


@contextmanager
def _interrupt_after_step() -> Iterator[Callable[[], bool]]:
    """Context in which the first Ctrl-C is only noted, so that the state can be saved.

    Yields whether it was; the second one interrupts at once.
    """
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        if noted.is_set():
            raise KeyboardInterrupt
        noted.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted.is_set
    finally:
        signal.signal(signal.SIGINT, before)
