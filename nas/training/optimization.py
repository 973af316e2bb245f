"""Optimizer, learning rate schedule and loss of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from torch import nn

from nas.training.runtime import fused_update
from nas.training.settings import TrainSettings

# What is not the trunk: of timm's EfficientNet and MobileNetV3 classes, of SSDLite, of LR-ASPP.
_HEADS: Final = frozenset(
    {"classifier", "extra", "class_heads", "box_heads", "aspp_conv", "aspp_bn", "aspp_gate"}
    | {"high_classifier", "low_classifier"}
)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of batches per epoch, which have nearly equal sizes.

    A small last batch would have poor batch statistics and too much weight per image.
    """
    return max(1, min(math.ceil(images / batch_size), images // 2))


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Create timm's optimizer of the settings; scales and biases do not decay."""
    arguments = settings.optimizer_arguments() | fused_update(settings.optimizer, next(model.parameters()).device)
    share = settings.body_lr_share()
    parameters: Any = model if share == 1 else _parameter_groups(model, share, settings.weight_decay)
    optimizer: torch.optim.Optimizer = create_optimizer_v2(parameters, **arguments)
    return optimizer


def _parameter_groups(model: nn.Module, body_share: float, weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters by weight decay as timm does, and by learning rate.

    ``body_share``: learning rate of all but the classifier, or the head of a detector or segmenter, as a share of its;
    timm's schedules multiply by it.
    """
    groups = param_groups_weight_decay(model, weight_decay)
    head = {id(weight) for name, weight in model.named_parameters() if name.partition(".")[0] in _HEADS}
    split = []
    for group in groups:
        for scale, is_head in ((1.0, True), (body_share, False)):
            weights = [weight for weight in group["params"] if (id(weight) in head) == is_head]
            split += [{**group, "params": weights, "lr_scale": scale}] if weights else []
    return split


def make_scheduler(optimizer: torch.optim.Optimizer, settings: TrainSettings, steps: int) -> Any:
    """Create timm's schedule of the learning rate; None if constant.

    ``steps``: updates per epoch.
    """
    if settings.schedule == "constant":
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        return None
    scheduler, _ = create_scheduler_v2(
        optimizer, **settings.schedule_arguments(), step_on_epochs=False, updates_per_epoch=steps
    )
    return scheduler


def epoch_learning_rates(settings: TrainSettings, steps: int) -> list[float]:
    """Return the classifier's learning rate at the last step of each epoch."""
    optimizer = create_optimizer_v2(nn.Linear(1, 1), **settings.optimizer_arguments())
    scheduler = make_scheduler(optimizer, settings, steps)
    rates = []
    for epoch in range(1, settings.epochs + 1):
        if scheduler is not None:
            scheduler.step_update(epoch * steps - 1)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def make_loss(
    settings: TrainSettings, *, has_soft_targets: bool, class_images: Sequence[int], device: torch.device
) -> nn.Module:
    """Create the loss of logits (B, classes).

    Targets are labels (B,), or soft targets (B, classes) to which label smoothing is applied already. ``class_images``:
    number of train images of each class. With class weights the loss of labels is their weighted mean.
    """
    weights = settings.loss_weights(class_images)
    if weights is not None:
        smoothing = 0.0 if has_soft_targets else settings.label_smoothing
        loss: nn.Module = nn.CrossEntropyLoss(torch.tensor(weights, device=device), label_smoothing=smoothing)
    elif has_soft_targets:
        loss = SoftTargetCrossEntropy()
    else:
        loss = LabelSmoothingCrossEntropy(settings.label_smoothing)
    return loss
