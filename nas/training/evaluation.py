"""Validation scores, and images, device, layout and dtype as in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from timm.data import Mixup
from torch import Tensor, nn
from torch.nn import functional

from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.training.augmentation import normalise, take_shifted
from nas.training.results import Score
from nas.training.runtime import fast_training
from nas.training.settings import TrainSettings

_SCORE_BATCH: Final = 256


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


def pick_device(settings: TrainSettings) -> torch.device:
    """Resolve ``settings.device`` on this machine; ``auto`` prefers CUDA.

    Raises: NasError if CUDA is requested and not available.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise NasError(
            "proxy.device: cuda is not available here; set proxy.device=cpu or install a CUDA build of torch."
        )
    if settings.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def score_model(model: nn.Module, data: ImageData, settings: TrainSettings) -> Score:
    """Score ``model`` on the validation images and leave it in evaluation mode.

    ``model`` must be on the device of ``data`` and map float32 (B, C, H, W) to logits (B, classes).
    """
    return score_logits(model.eval(), data, settings)


@torch.inference_mode()
def score_logits(logits_of: Callable[[Tensor], Tensor], data: ImageData, settings: TrainSettings) -> Score:
    """Score a function on the validation images.

    ``logits_of`` maps normalised images, float32 (B, C, H, W) on the device of ``data``, to logits (B, classes).
    """
    device = data.val_images.device
    mean, std = normalization_statistics(data)
    correct = torch.zeros(data.classes, dtype=torch.int64, device=device)
    loss = torch.zeros((), device=device)
    for start in range(0, len(data.val_labels), _SCORE_BATCH):
        images = normalise(data.val_images[start : start + _SCORE_BATCH], mean, std)
        labels = data.val_labels[start : start + _SCORE_BATCH]
        with autocast(settings, device):
            logits = logits_of(images.contiguous(memory_format=memory_layout(settings))).float()
        correct += torch.bincount(labels[logits.argmax(1) == labels], minlength=data.classes)
        loss += functional.cross_entropy(logits, labels, reduction="sum")
    count = len(data.val_labels)
    return Score(accuracy=float(correct.sum()) / count, loss=float(loss) / count, class_correct=tuple(correct.tolist()))


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
