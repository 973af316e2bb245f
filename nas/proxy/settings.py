"""The choices of proxy training, checked without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nas.arch.errors import NasError, unknown

OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "nadamw", "lamb", "lion", "rmsproptf")
SCHEDULES = ("cosine", "poly", "tanh", "constant")
DEVICES = ("auto", "cpu", "cuda")
AMP = ("auto", "none", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a network is trained. Names of optimizers and schedules are timm's; `sgd` is Nesterov with momentum 0.9.

    `lr` holds for `batch_size` as it is, nothing rescales it. `warmup_epochs` may be a fraction. `shift` is the
    largest random shift as a share of the image side. `mixup` and `cutmix` are the alphas of their beta distributions,
    0 is off. `ema` is the decay of averaged weights, None is off. `amp` auto is bfloat16 on CUDA and none on CPU,
    where training in bfloat16 is slower. `threads` is for CPU. Raises `NasError` naming the field.
    """

    epochs: int = 2
    batch_size: int = 16
    optimizer: str = "adamw"
    lr: float = 0.01
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup_epochs: float = 0.5
    label_smoothing: float = 0.1
    shift: float = 0.125
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float | None = None
    clip_grad: float | None = None
    channels_last: bool = True
    amp: Literal["auto", "none", "bfloat16", "float16"] = "auto"
    threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        for field, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("amp", AMP), ("device", DEVICES)):
            if getattr(self, field) not in allowed:
                raise unknown(f"proxy.{field}", getattr(self, field), allowed)
        for field in ("epochs", "threads"):
            check_number(field, getattr(self, field), low=1, whole=True)
        check_number("batch_size", self.batch_size, low=2, whole=True)
        check_number("lr", self.lr, low=0, open_low=True)
        for field in ("weight_decay", "mixup", "cutmix"):
            check_number(field, getattr(self, field), low=0)
        check_number("warmup_epochs", self.warmup_epochs, low=0, high=self.epochs)
        check_number("label_smoothing", self.label_smoothing, low=0, high=1, open_high=True)
        check_number("shift", self.shift, low=0, high=0.5)
        if self.ema is not None:
            check_number("ema", self.ema, low=0, high=1, open_low=True, open_high=True)
        if self.clip_grad is not None:
            check_number("clip_grad", self.clip_grad, low=0, open_low=True)


def check_number(
    field: str,
    value: object,
    *,
    low: float,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    whole: bool = False,
) -> None:
    """Raise `NasError` unless `proxy.field` is a finite number in the interval, whole if asked."""
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value):  # type: ignore[arg-type]
        above = value > low if open_low else value >= low  # type: ignore[operator]
        below = value < high if open_high else value <= high  # type: ignore[operator]
        if above and below:
            return
    kind = "a whole number" if whole else "a number"
    lower = f"above {low:g}" if open_low else f"of at least {low:g}"
    upper = "" if math.isinf(high) else f" and below {high:g}" if open_high else f" and at most {high:g}"
    raise NasError(f"proxy.{field}: {value!r} must be {kind} {lower}{upper}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings(TrainSettings):
    """How a candidate is made smaller, and how that smaller network, its proxy, is trained.

    `width_multiplier` and `depth_multiplier` shrink the network, channels to multiples of `divisor` (finer than the
    usual 8, which would swallow small differences of width). `resolution_px` is the side of the training images.
    `min_map_px` bounds the last feature map from below: strides are taken out, first of the stem and then of the
    earliest stages, until it holds; `auto` is half of the largest kernel of the space, rounded up.
    `dropout` and `drop_path` replace those of the candidate, which are meant for long trainings.
    """

    width_multiplier: float = 0.25
    depth_multiplier: float = 1.0
    resolution_px: int = 12
    divisor: int = 2
    min_map_px: int | Literal["auto"] = "auto"
    dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        TrainSettings.__post_init__(self)  # super() does not work in a slotted dataclass
        for field in ("width_multiplier", "depth_multiplier"):
            check_number(field, getattr(self, field), low=0, open_low=True)
        check_number("resolution_px", self.resolution_px, low=4, whole=True)
        check_number("divisor", self.divisor, low=1, whole=True)
        if self.min_map_px != "auto":
            check_number("min_map_px", self.min_map_px, low=1, whole=True)
        for field in ("dropout", "drop_path"):
            check_number(field, getattr(self, field), low=0, high=1, open_high=True)
