"""Settings of the full training of a network, validated without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

from nas.arch.limits import MAX_RESOLUTION_PX
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, quoted
from nas.core.validation import check_number
from nas.training.augmentation_settings import AugmentationSettings
from nas.training.settings import SCHEDULES, TrainSettings

_HAVE_MOMENTUM: Final = ("sgd", "momentum", "rmsproptf")
_HAVE_EPS: Final = ("adam", "adamw", "nadamw", "lamb", "rmsproptf")

_FINE_TUNING: Final[Mapping[str, Any]] = {
    "lr": 0.005,
    "body_lr": 0.5,
    "weight_decay": 0.01,
    "dropout": 0.0,
    "drop_path": 0.0,
}
_SHARED: Final = ("epochs", "batch_size", "channels_last", "amp", "threads", "device", "checkpoint_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSettings(AugmentationSettings):
    """Hyperparameters of the full training of a network.

    Those of ``AugmentationSettings``, and: ``lr`` is for batches of ``lr_batch_size`` images and is scaled in
    proportion to ``batch_size`` (None: is not scaled). ``momentum`` is of sgd, momentum and rmsproptf; ``rms_alpha`` is
    the decay of RMSProp's squared gradients; ``optimizer_eps`` None is the optimizer's own. ``schedule=step``
    multiplies the rate by ``decay_rate`` every ``decay_epochs`` epochs, which may be a fraction. Warm-up begins at the
    share ``warmup_lr`` of the rate. ``body_lr``: learning rate of all but the classifier, as a share of its.

    ``dropout``, ``drop_path`` and ``resolution_px`` replace those of the network (None: its own). ``bn_momentum`` is
    the share of a new batch in the running statistics of batch norm while it is trained (None: the network's own;
    TensorFlow's decay of 0.99 is 0.01). ``class_weights`` weigh the loss of each class, in label order: ``balanced`` by
    the inverse of its number of train images, with a mean of 1 over the images; None all alike.

    Raises: NasError naming the field.
    """

    schedules: ClassVar[tuple[str, ...]] = (*SCHEDULES, "step")

    lr_batch_size: int | None = None
    momentum: float = 0.9
    rms_alpha: float = 0.9
    optimizer_eps: float | None = None
    decay_epochs: float = 2.4
    decay_rate: float = 0.97
    warmup_lr: float = 0.01
    body_lr: float = 1.0
    dropout: float | None = None
    drop_path: float | None = None
    resolution_px: int | None = None
    bn_momentum: float | None = None
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        AugmentationSettings.__post_init__(self)  # super() does not work in a slotted dataclass
        self._check("lr_batch_size", low=1, high=1_000_000, whole=True, optional=True)
        for field in ("momentum", "rms_alpha"):
            self._check(field, low=0, high=1, open_high=True)
        self._check("optimizer_eps", low=0, high=1, open_low=True, optional=True)
        if self.optimizer_eps is not None and self.optimizer not in _HAVE_EPS:
            raise NasError(
                f"recipe.optimizer_eps {self.optimizer_eps}: recipe.optimizer {self.optimizer} has none; leave it out."
            )
        self._check("decay_epochs", low=0, high=1_000_000, open_low=True)
        self._check("decay_rate", low=0, high=1, open_low=True)
        self._check("warmup_lr", low=0, high=1)
        self._check("body_lr", low=0, high=1)
        for field in ("dropout", "drop_path"):
            self._check(field, low=0, high=1, open_high=True, optional=True)
        self._check("resolution_px", low=4, high=MAX_RESOLUTION_PX, whole=True, optional=True)
        self._check("bn_momentum", low=0, high=1, open_low=True, optional=True)
        self._check_class_weights()

    @property
    def scaled_lr(self) -> float:
        """Learning rate for batches of ``batch_size`` images."""
        return self.lr if self.lr_batch_size is None else self.lr * self.batch_size / self.lr_batch_size

    def network(self, arch: ArchSpec) -> ArchSpec:
        """Return ``arch`` with the rates and the resolution of the recipe."""
        return replace(
            arch,
            dropout=arch.dropout if self.dropout is None else self.dropout,
            drop_path=arch.drop_path if self.drop_path is None else self.drop_path,
            resolution_px=self.resolution_px or arch.resolution_px,
        )

    def optimizer_arguments(self) -> dict[str, Any]:
        """Return the arguments of timm's ``create_optimizer_v2``."""
        arguments = {"opt": self.optimizer, "lr": self.scaled_lr, "weight_decay": self.weight_decay}
        if self.optimizer in _HAVE_MOMENTUM:
            arguments["momentum"] = self.momentum
        if self.optimizer == "rmsproptf":
            arguments["alpha"] = self.rms_alpha
        if self.optimizer_eps is not None:
            arguments["eps"] = self.optimizer_eps
        return arguments

    def schedule_arguments(self) -> dict[str, Any]:
        """Return the arguments of timm's ``create_scheduler_v2``, in epochs."""
        decay = {"decay_epochs": self.decay_epochs, "decay_rate": self.decay_rate} if self.schedule == "step" else {}
        return {**TrainSettings.schedule_arguments(self), **decay, "warmup_lr": self.warmup_lr * self.scaled_lr}

    def body_lr_share(self) -> float:
        """Return the learning rate of all but the classifier as a share of its."""
        return self.body_lr

    def loss_weights(self, class_images: Sequence[int], unit: str = "image") -> tuple[float, ...] | None:
        """Return the weight of each class in the loss; None if all are alike.

        ``class_images``: number of train images, or of another ``unit``, of each class. Raises: NasError if they do not
        fit the settings.
        """
        if self.class_weights is None:
            return None
        if self.class_weights == "balanced":
            if 0 in class_images:
                raise NasError(
                    f"recipe.class_weights balanced: class {class_images.index(0)} of {len(class_images)} has no train "
                    f"{unit}; give weights as a list, or add images of it."
                )
            mean = sum(class_images) / len(class_images)
            return tuple(mean / count for count in class_images)
        if len(self.class_weights) != len(class_images):
            raise NasError(
                f"recipe.class_weights: has {len(self.class_weights)} numbers, the images have {len(class_images)} "
                "classes; give one per class in label order, or balanced."
            )
        return self.class_weights

    @classmethod
    def fine_tuning(cls, settings: TrainSettings, **changes: Any) -> RecipeSettings:
        """Return the recipe ``conf/recipe/finetune.yaml``: few epochs, trained weights.

        Epochs, batch size and what concerns the machine are those of ``settings``. ``changes``: other fields.
        """
        shared = {name: getattr(settings, name) for name in _SHARED}
        return cls(**{**_FINE_TUNING, **shared, **changes})

    def _check_class_weights(self) -> None:
        weights = self.class_weights
        if weights is None or weights == "balanced":
            return
        if isinstance(weights, str) or not isinstance(weights, Sequence):
            raise NasError(
                f"recipe.class_weights {quoted(weights)}: must be balanced, a list of one number per class, or null."
            )
        for weight in weights:
            check_number("recipe.class_weights", weight, low=0, open_low=True)  # a batch may be of one class
        if not weights:
            raise NasError("recipe.class_weights: must have a number per class.")
        object.__setattr__(self, "class_weights", tuple(map(float, weights)))  # a list, of a configuration
