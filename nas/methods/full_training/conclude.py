"""The end of a full training: its weights scored once more, results, report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from torch import nn

from nas.arch.complexity import complexity
from nas.core.console import announced
from nas.exporters.standalone import load_weights
from nas.methods.full_training.dense_report import write_dense_training_report
from nas.methods.full_training.images import TrainingImages
from nas.methods.full_training.network_files import NetworkFiles
from nas.methods.full_training.pictures import PredictionPicture, picture_rows, prediction_pictures
from nas.methods.full_training.report import write_training_report
from nas.methods.full_training.results import (
    ConfusionCounts,
    DenseScore,
    ScoredWeights,
    TrainedDenseNetwork,
    TrainedNetwork,
    best_epoch,
)
from nas.methods.full_training.run_folder import BEST, LAST
from nas.model.build import build
from nas.training.distributed import ProcessGroup
from nas.training.evaluation import score_batches
from nas.training.results import TrainResult
from nas.training.runtime import fast_training, pick_device
from nas.training.tasks import Detection, Segmentation
from nas.training.tasks.dense_source import DenseSource


def conclude(
    files: NetworkFiles, images: TrainingImages, result: TrainResult, console: Console
) -> TrainedNetwork | TrainedDenseNetwork:
    """Write results and report of a training after its last epoch.

    Raises: NasError.
    """
    with announced(console, "report"):
        epochs, best = len(result.epochs), best_epoch(result.epochs)
        trained: TrainedNetwork | TrainedDenseNetwork
        if images.make_task is None:
            last = _scored(LAST, epochs, files, images)
            # of an equal epoch, the same weights
            chosen = last if best == epochs else _scored(BEST, best, files, images)
            trained = TrainedNetwork(last=last, best=chosen, **_figures(files, images, result))
            write_training_report(files.plan, files.network, images.dataset, result.epochs, trained)
        else:
            trained, pictures = _dense_result(files, images, result, best)
            write_dense_training_report(files.plan, files.network, images.dataset, result.epochs, trained, pictures)
        trained.write(files.folder.results)  # last: with it the training is finished
    return trained


def _figures(files: NetworkFiles, images: TrainingImages, result: TrainResult) -> dict[str, Any]:
    """What the results of all trainings have."""
    cost = complexity(files.network)
    return {
        "name": files.plan.name,
        "arch_name": files.network.name,
        "arch_id": files.network.arch_id,
        "params": cost.params,
        "macs": cost.macs,
        "resolution_px": files.network.resolution_px,
        "class_names": images.summary.class_names,
        "train_images": images.summary.train,
        "epochs": len(result.epochs),
        "duration_s": result.duration_s,
        "cpu_s": result.cpu_s,
        "images_per_cpu_s": result.images_per_cpu_s,
    }


def _scored(stem: str, epoch: int, files: NetworkFiles, images: TrainingImages) -> ScoredWeights:
    """Score stored weights, with the images of each class by predicted class."""
    recipe, device = files.plan.recipe, pick_device(files.plan.recipe)
    model = _stored_model(stem, files)
    classes = files.network.classes
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    source = images.make_source(device, ProcessGroup())
    with fast_training(model, device, recipe.threads):
        score = score_batches(
            model.to(device).eval(), source.val_batches(), classes, recipe, device=device, confusion=confusion
        )
    return ScoredWeights(
        epoch=epoch, accuracy=score.accuracy, val_loss=score.loss, confusion=_counts(confusion.cpu().numpy())
    )


def _dense_result(
    files: NetworkFiles, images: TrainingImages, result: TrainResult, best: int
) -> tuple[TrainedDenseNetwork, list[PredictionPicture]]:
    """Score stored weights of a detector or segmenter, and draw predictions.

    Pictures are those of the weights after the last epoch.
    """
    device = pick_device(files.plan.recipe)
    source = images.make_source(device, ProcessGroup())
    if images.make_task is None or images.data is None or not isinstance(source, DenseSource):
        raise TypeError("images of a classifier have neither boxes nor masks.")
    task = images.make_task(files.network, source, device)
    rows = picture_rows(source.val_images, files.plan.run.seed)

    def scored(stem: str, epoch: int, picture_of: Sequence[int]) -> tuple[DenseScore, list[Any]]:
        model = _stored_model(stem, files)
        with fast_training(model, device, files.plan.recipe.threads), torch.inference_mode():
            model.to(device).eval()
            score = _dense_score(task, model, source, epoch)
            if not picture_of:
                return score, []
            return score, list(task.predictions(picture_of, model(source.val_inputs(picture_of))))

    last, found = scored(LAST, len(result.epochs), rows)
    trained = TrainedDenseNetwork(
        task=files.plan.task,
        last=last,
        best=last if best == last.epoch else scored(BEST, best, ())[0],
        constant=task.constant_score(),
        val_images=source.val_images,
        **_figures(files, images, result),
    )
    return trained, prediction_pictures(images.data, rows, found)


def _dense_score(
    task: Detection | Segmentation, model: nn.Module, source: DenseSource[Any, Any], epoch: int
) -> DenseScore:
    confusion: ConfusionCounts = ()
    if isinstance(task, Segmentation):
        counts, loss = task.confusion(model, source.val_batches())
        score, confusion = task.score_of(counts, loss), _counts(counts.sum(0))
    else:
        score = task.score(model, source.val_batches())
    return DenseScore(
        epoch=epoch,
        accuracy=score.accuracy,
        val_loss=score.loss,
        standard_error=score.standard_error,
        metrics=dict(score.metrics),
        class_scores=score.class_scores,
        class_errors=score.class_errors,
        confusion=confusion,
    )


def _stored_model(stem: str, files: NetworkFiles) -> nn.Module:
    model = build(files.network)
    load_weights(model, files.folder.weights(stem))
    return model


def _counts(confusion: Any) -> ConfusionCounts:
    """The numbers above 0 of a matrix (K, K), as (class, predicted class, number)."""
    return tuple(
        (int(row), int(column), int(confusion[row, column])) for row, column in zip(*confusion.nonzero(), strict=True)
    )
