"""The end of a full training: its weights scored once more, results, report."""

from __future__ import annotations

import torch
from rich.console import Console

from nas.arch.complexity import complexity
from nas.core.console import announced
from nas.exporters.standalone import load_weights
from nas.methods.full_training.images import TrainingImages
from nas.methods.full_training.network_files import NetworkFiles
from nas.methods.full_training.report import write_training_report
from nas.methods.full_training.results import ScoredWeights, TrainedNetwork, best_epoch
from nas.methods.full_training.run_folder import BEST, LAST
from nas.model.build import build
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import score_batches
from nas.training.results import TrainResult
from nas.training.runtime import fast_training, pick_device


def conclude(files: NetworkFiles, images: TrainingImages, result: TrainResult, console: Console) -> TrainedNetwork:
    """Write results and report of a training after its last epoch.

    Raises: NasError.
    """
    with announced(console, "report"):
        cost, epochs, best = complexity(files.network), len(result.epochs), best_epoch(result.epochs)
        last = _scored(LAST, epochs, files, images)
        trained = TrainedNetwork(
            name=files.plan.name,
            arch_name=files.network.name,
            arch_id=files.network.arch_id,
            params=cost.params,
            macs=cost.macs,
            resolution_px=files.network.resolution_px,
            class_names=images.summary.class_names,
            train_images=images.summary.train,
            epochs=epochs,
            last=last,
            best=last if best == epochs else _scored(BEST, best, files, images),  # the same weights
            duration_s=result.duration_s,
            cpu_s=result.cpu_s,
            images_per_cpu_s=result.images_per_cpu_s,
        )
        write_training_report(files.plan, files.network, images.dataset, result.epochs, trained)
        trained.write(files.folder.results)  # last: with it the training is finished
    return trained


def _scored(stem: str, epoch: int, files: NetworkFiles, images: TrainingImages) -> ScoredWeights:
    """Score stored weights, with the images of each class by predicted class."""
    recipe, device = files.plan.recipe, pick_device(files.plan.recipe)
    model = build(files.network)
    load_weights(model, files.folder.weights(stem))
    classes = files.network.classes
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    source = images.make_source(device, ProcessGroup())
    with fast_training(model, device, recipe.threads):
        score = score_batches(
            model.to(device).eval(), source.val_batches(), classes, recipe, device=device, confusion=confusion
        )
    counts = confusion.cpu()
    return ScoredWeights(
        epoch=epoch,
        accuracy=score.accuracy,
        val_loss=score.loss,
        confusion=tuple((row, column, int(counts[row, column])) for row, column in counts.nonzero().tolist()),
    )
