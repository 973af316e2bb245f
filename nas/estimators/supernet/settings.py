"""Settings of a supernet and its training, validated without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from nas.core.errors import NasError, unknown_choice
from nas.core.validation import check_number
from nas.estimators.proxy.settings import ProxySettings
from nas.training.settings import OPTIMIZERS

_MAX_EPOCHS = 1_000_000
_FINE_TUNE_LR_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetSettings:
    """Hyperparameters of a supernet's training and of scoring with it.

    Width, resolution and strides of its networks, augmentation, device and threads are those of the group ``proxy``.
    Each step trains ``networks`` networks on one batch, in which choices are balanced. With ``sandwich`` it trains the
    largest and the smallest too, and the others learn from the outputs of the largest in place of the labels (BigNAS,
    arXiv:2003.11142, section 3.1). ``epochs``: passes over the train images; all networks of a step see its images.
    ``members``: supernets that are trained, with different seeds; each gives a score of its own, for two trainings of a
    supernet order networks differently. ``statistics_images``: train images on which batch norm statistics of a network
    are estimated before it is scored. ``kernel_transform``: a smaller kernel is the centre of the next larger one times
    a learned matrix, of each layer and side (Once for All, arXiv:1908.09791, section 3.3). ``fine_tune_epochs``: of the
    winners' proxies from inherited weights, after the search; 0 for none. ``fine_tune_lr``: their learning rate; None
    is 0.3 times that of the proxy.

    Raises: NasError naming the field.
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 0.02
    weight_decay: float = 0.05
    warmup_epochs: float = 0.5
    networks: int = 3
    sandwich: bool = False
    members: int = 1
    statistics_images: int = 512
    kernel_transform: bool = False
    fine_tune_epochs: int = 2
    fine_tune_lr: float | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown_choice("estimator.supernet.optimizer", self.optimizer, OPTIMIZERS)
        self._check("epochs", low=1, high=_MAX_EPOCHS, whole=True)
        self._check("batch_size", low=2, high=1_000_000, whole=True)
        self._check("lr", low=0, high=1000, open_low=True)
        self._check("weight_decay", low=0, high=1000)
        self._check("warmup_epochs", low=0, high=self.epochs)
        self._check("networks", low=1, high=1000, whole=True)
        self._check("members", low=1, high=100, whole=True)
        self._check("statistics_images", low=2, high=10_000_000, whole=True)
        self._check("fine_tune_epochs", low=0, high=_MAX_EPOCHS, whole=True)
        self._check("fine_tune_lr", low=0, high=1000, open_low=True, optional=True)
        for field in ("sandwich", "kernel_transform"):
            if not isinstance(getattr(self, field), bool):
                raise NasError(f"estimator.supernet.{field} {getattr(self, field)!r}: must be true or false.")

    def training(self, proxy: ProxySettings) -> ProxySettings:
        """Return the settings of the training: these, and the others of ``proxy``."""
        own = {key: value for key, value in asdict(self).items() if key in _OF_TRAINING}
        return replace(proxy, **own, schedule="cosine", ema=None)

    def fine_tuning(self, proxy: ProxySettings) -> ProxySettings | None:
        """Return the settings by which winners are fine-tuned; None where they are not.

        They are those of ``proxy`` but for epochs and learning rate.
        """
        if not self.fine_tune_epochs:
            return None
        return replace(
            proxy,
            epochs=self.fine_tune_epochs,
            lr=_FINE_TUNE_LR_SHARE * proxy.lr if self.fine_tune_lr is None else self.fine_tune_lr,
            warmup_epochs=min(proxy.warmup_epochs, self.fine_tune_epochs),
        )

    def identity(self, proxy: ProxySettings) -> Mapping[str, Any]:
        """Return the settings that affect the weights, by name."""
        own = {"networks": self.networks, "sandwich": self.sandwich, "kernel_transform": self.kernel_transform}
        return without_defaults({**self.training(proxy).identity(), **own}, ADDED_SETTINGS)

    def _check(self, field: str, *, low: float, **rule: Any) -> None:
        check_number(f"estimator.supernet.{field}", getattr(self, field), low=low, **rule)


def without_defaults(settings: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` without those that older studies lack, where they are as in these.

    ``added``: settings of later versions, with what was done before.
    """
    return {name: value for name, value in settings.items() if name not in added or value != added[name]}


FINE_TUNING_FIELDS: Final = ("fine_tune_epochs", "fine_tune_lr")  # change no trial, and may change within a study
ADDED_SETTINGS: Final = {"kernel_transform": False}
_OF_TRAINING = frozenset({"epochs", "batch_size", "optimizer", "lr", "weight_decay", "warmup_epochs"})
