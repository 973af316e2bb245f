"""Training settings, validated without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

from nas.core.errors import unknown_choice
from nas.core.validation import MAX_THREADS, check_number

OPTIMIZERS: Final = ("sgd", "momentum", "adam", "adamw", "nadamw", "lamb", "lion", "rmsproptf")
SCHEDULES: Final = ("cosine", "poly", "tanh", "constant")
DEVICES: Final = ("auto", "cpu", "cuda")
AMP: Final = ("auto", "none", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Hyperparameters and runtime settings of a training.

    Names of optimizers and schedules are timm's; ``sgd`` is Nesterov with momentum 0.9. ``lr`` is not rescaled with
    ``batch_size``. ``warmup_epochs`` may be a fraction. ``shift`` is the largest random shift as a share of the image
    side. ``mixup`` and ``cutmix`` are the alphas of their beta distributions, 0 disables them. ``ema`` is the decay of
    the exponential moving average of weights, None disables it. ``clip_grad`` is the largest gradient norm, None
    disables clipping. ``amp``: auto is bfloat16 on CUDA and none on CPU, where training in bfloat16 is slower.
    ``threads`` applies to CPU. ``checkpoint_s``: seconds of training between checkpoints, written at the end of an
    epoch, from which an interrupted training resumes; None disables them.

    Raises: NasError naming the field.
    """

    group: ClassVar[str] = "proxy"  # of the configuration, which messages name
    schedules: ClassVar[tuple[str, ...]] = SCHEDULES

    epochs: int = 4
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 0.02
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
    checkpoint_s: float | None = 30.0

    def __post_init__(self) -> None:
        for field, allowed in (
            ("optimizer", OPTIMIZERS),
            ("schedule", self.schedules),
            ("amp", AMP),
            ("device", DEVICES),
        ):
            if getattr(self, field) not in allowed:
                raise unknown_choice(f"{self.group}.{field}", getattr(self, field), allowed)
        self._check("epochs", low=1, high=1_000_000, whole=True)
        self._check("threads", low=1, high=MAX_THREADS, whole=True)
        self._check("batch_size", low=2, high=1_000_000, whole=True)
        self._check("lr", low=0, high=1000, open_low=True)
        for field in ("weight_decay", "mixup", "cutmix"):
            self._check(field, low=0, high=1000)
        self._check("warmup_epochs", low=0, high=self.epochs)
        self._check("label_smoothing", low=0, high=1, open_high=True)
        self._check("shift", low=0, high=0.5)
        self._check("ema", low=0, high=1, open_low=True, open_high=True, optional=True)
        self._check("clip_grad", low=0, open_low=True, optional=True)
        self._check("checkpoint_s", low=0, optional=True)

    def identity(self) -> dict[str, Any]:
        """Return the settings that affect training results, by name."""
        fields = asdict(self)
        del fields["checkpoint_s"]
        return fields

    def optimizer_arguments(self) -> dict[str, Any]:
        """Return the arguments of timm's ``create_optimizer_v2``."""
        return {"opt": self.optimizer, "lr": self.lr, "weight_decay": self.weight_decay}

    def schedule_arguments(self) -> dict[str, Any]:
        """Return the arguments of timm's ``create_scheduler_v2``, in epochs."""
        return {
            "sched": self.schedule,
            "num_epochs": self.epochs,
            "warmup_epochs": self.warmup_epochs,
            "warmup_lr": self.lr / 100,
        }

    def body_lr_share(self) -> float:
        """Return the learning rate of all but the classifier as a share of its."""
        return 1.0

    def loss_weights(self, class_images: Sequence[int], unit: str = "image") -> tuple[float, ...] | None:
        """Return the weight of each class in the loss; None if all are alike.

        ``class_images``: number of train images, or of another ``unit``, of each class.
        """
        return None

    def _check(self, field: str, *, low: float, **rule: Any) -> None:
        check_number(f"{self.group}.{field}", getattr(self, field), low=low, **rule)
