"""Validation scores, and images, device, layout and dtype as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import torch
from timm.data import Mixup
from torch import Tensor, nn
from torch.nn import functional

from nas.data.images import ImageData
from nas.training.augmentation import normalise, take_shifted
from nas.training.distributed import ProcessGroup
from nas.training.results import Score
from nas.training.runtime import fast_training, pick_device
from nas.training.settings import TrainSettings

_SCORE_BATCH: Final = 256


class ValBatch(NamedTuple):
    """Validation images without augmentation, normalised, and their labels.

    float32 (B, C, H, W) and int64 (B,); of other tasks ``labels`` are what their score compares with, such as masks or
    boxes at the images' own size.
    """

    images: Tensor
    labels: Any


def evaluate(model: nn.Module, data: ImageData, settings: TrainSettings) -> Score:
    """Score ``model`` on the validation images.

    The model is moved to the device of ``settings``; its train/eval mode is restored.
    """
    device = pick_device(settings)
    was_training = model.training
    with fast_training(model, device, settings.threads):
        score = score_model(model.to(device), data.to(device), settings)
    model.train(was_training)
    return score


def score_model(model: nn.Module, data: ImageData, settings: TrainSettings) -> Score:
    """Score ``model`` on the validation images and leave it in evaluation mode.

    ``model`` must be on the device of ``data`` and map float32 (B, C, H, W) to logits (B, classes).
    """
    return score_logits(model.eval(), data, settings)


def score_logits(logits_of: Callable[[Tensor], Tensor], data: ImageData, settings: TrainSettings) -> Score:
    """Score a function on the validation images.

    ``logits_of`` maps normalised images, float32 (B, C, H, W) on the device of ``data``, to logits (B, classes).
    """
    return score_batches(logits_of, val_batches(data), data.classes, settings, device=data.val_images.device)


def val_batches(data: ImageData, processes: ProcessGroup | None = None) -> Iterator[ValBatch]:
    """Yield the validation images in order, on their device.

    Of n processes each gets every n-th batch.
    """
    mean, std = normalization_statistics(data)
    rank, size = (processes.rank, processes.size) if processes is not None else (0, 1)
    for start in range(_SCORE_BATCH * rank, len(data.val_labels), _SCORE_BATCH * size):
        part = slice(start, start + _SCORE_BATCH)
        yield ValBatch(normalise(data.val_images[part], mean, std), data.val_labels[part])


@torch.inference_mode()
def score_batches(
    logits_of: Callable[[Tensor], Tensor],
    batches: Iterable[ValBatch],
    classes: int,
    settings: TrainSettings,
    *,
    device: torch.device,
    processes: ProcessGroup | None = None,
    confusion: Tensor | None = None,
) -> Score:
    """Score a function on ``batches``, and on those of the other ``processes``.

    ``logits_of`` maps images, float32 (B, C, H, W) on ``device``, to logits (B, classes). ``confusion``: int64
    (classes, classes) on ``device``, to which the images of this process are added, by label and predicted label.
    """
    correct = torch.zeros(classes, dtype=torch.int64, device=device)
    count, loss = torch.zeros((), dtype=torch.int64, device=device), torch.zeros((), device=device)
    for batch in batches:
        images, labels = batch.images.to(device), batch.labels.to(device)
        with autocast(settings, device):
            logits = logits_of(images.contiguous(memory_format=memory_layout(settings))).float()
        predicted = logits.argmax(1)
        correct += torch.bincount(labels[predicted == labels], minlength=classes)
        if confusion is not None:
            confusion += torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
        loss += functional.cross_entropy(logits, labels, reduction="sum")
        count += len(labels)
    if processes is not None:
        correct, loss, count = processes.sum(correct), processes.sum(loss), processes.sum(count)
    images_scored = int(count)
    return Score(
        accuracy=float(correct.sum()) / images_scored,
        loss=float(loss) / images_scored,
        class_correct=tuple(correct.tolist()),
    )


@torch.inference_mode()
def correct_images(model: nn.Module, data: ImageData, settings: TrainSettings) -> Tensor:
    """Return which validation images ``model`` classifies correctly.

    The result is bool (N,) on the CPU, in the order of the images of ``data``. The model is moved to the device of
    ``settings`` and left in evaluation mode.
    """
    found, device = [], pick_device(settings)
    with fast_training(model, device, settings.threads):
        model.to(device).eval()
        for batch in val_batches(data.to(device)):
            with autocast(settings, device):
                logits = model(batch.images.contiguous(memory_format=memory_layout(settings)))
            found.append(logits.argmax(1) == batch.labels)
    return torch.cat(found).cpu()


def augmented_images(data: ImageData, rows: Tensor, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """Return train images of ``rows``, int64 (B,), shifted, flipped and normalised.

    float32 (B, C, H, W) in the memory layout of the settings; ``generator`` is on the images' device.
    """
    shift_px = round(settings.shift * data.resolution_px)
    picked = take_shifted(data.train_images, rows, shift_px=shift_px, flips=data.flips, generator=generator)
    return normalise(picked, *normalization_statistics(data)).contiguous(memory_format=memory_layout(settings))


def augmented_batch(
    data: ImageData, rows: Tensor, settings: TrainSettings, mixup: Mixup | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return augmented images and targets of ``rows``, int64 (B,).

    Images are float32 (B, C, H, W); targets int64 (B,), or with ``mixup`` soft float32 (B, classes) for an even B.
    """
    if mixup is not None:
        rows = rows[: len(rows) // 2 * 2]  # timm mixes pairs
    images = augmented_images(data, rows, settings, generator)
    targets = data.train_labels[rows]
    return (images, targets) if mixup is None else mixup(images, targets)


def make_grad_scaler(settings: TrainSettings, device: torch.device) -> torch.amp.GradScaler:
    """Create the gradient scaler of the settings, which only float16 needs."""
    return torch.amp.GradScaler(device.type, enabled=amp_dtype(settings, device) == torch.float16)


def normalization_statistics(data: ImageData) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the train images, float32 (1, C, 1, 1).

    Both are on the images' device, for pixels scaled to [0, 1].
    """
    device = data.train_images.device
    mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (data.mean, data.std))
    return mean, std


def memory_layout(settings: TrainSettings) -> torch.memory_format:
    """Return the memory layout of ``settings.channels_last``."""
    return torch.channels_last if settings.channels_last else torch.contiguous_format


def amp_dtype(settings: TrainSettings, device: torch.device) -> torch.dtype:
    """Return the dtype of the forward pass on ``device``; float32 means no autocast."""
    names = {"none": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return names.get(settings.amp, torch.bfloat16 if device.type == "cuda" else torch.float32)


def autocast(settings: TrainSettings, device: torch.device) -> torch.autocast:
    """Return the autocast context of the settings, disabled for float32."""
    dtype = amp_dtype(settings, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
