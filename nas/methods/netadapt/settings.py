"""Settings of an adaptation, validated without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from nas.arch.limits import MAX_CHANNELS, MAX_RESOLUTION_PX
from nas.arch.scaling.shrinking import SHRINK_KINDS
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import MAX_FIGURE, check_number
from nas.estimators.proxy.settings import ProxySettings

CRITERIA: Final = ("ratio", "loss")
_MEASURES: Final = {  # setting: the measure that it limits
    "target_ms": "latency_ms",
    "target_macs_m": "macs_m",
    "target_params_m": "params_m",
    "target_memory_mb": "peak_memory_mb",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """The cost that an adaptation ends at.

    ``target``: share of the seed network's latency; or one of the others: latency in ms, multiply-adds and parameters
    in millions, peak memory of activations in MB.

    Raises: NasError unless exactly one is set.
    """

    target: float | None = None
    target_ms: float | None = None
    target_macs_m: float | None = None
    target_params_m: float | None = None
    target_memory_mb: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) != 1:
            found = f"{' and '.join(given)} are set" if given else "none is set"
            raise NasError(
                f"target: {found}; set one of target=0.7 (share of the network's latency), {', '.join(_MEASURES)}."
            )
        for name, value in given.items():
            is_share = name == "target"
            check_number(name, value, low=0, open_low=True, high=1 if is_share else MAX_FIGURE, open_high=is_share)

    @property
    def measure(self) -> str:
        """The measure that is to shrink, by the name of its limit."""
        return next(
            (_MEASURES[name] for name, value in asdict(self).items() if value and name in _MEASURES), "latency_ms"
        )

    def value(self, seed: float) -> float:
        """What the measure is to become, where the seed network has ``seed``."""
        given = next((value for name, value in asdict(self).items() if value is not None and name != "target"), None)
        return float(given if given is not None else seed * (self.target or 1.0))

    def __str__(self) -> str:
        name, value = next((name, value) for name, value in asdict(self).items() if value is not None)
        return f"{name}={value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptSettings:
    """Rules of an adaptation.

    NetAdapt, arXiv:1804.03230, section 3; MobileNetV3, arXiv:1905.02244, section 4.2.

    ``delta``: least reduction of a proposal, and ``step``: of a step, as shares of what the seed network has of the
    measure. A step keeps its best proposals together until it has cut ``step``; with ``step`` equal to ``delta`` it
    keeps the best alone, as the papers do. ``kinds``: what a proposal may shrink, of ``SHRINK_KINDS``. ``divisor``:
    widths become multiples of it. ``criterion``: what proposals are ordered by: ``ratio``, the increase of the loss per
    reduction (MobileNetV3, with the loss in the place of accuracy), or ``loss`` (NetAdapt).

    ``loss_images``: train images that the loss is computed on, with the carried weights, without training; fine-tuning
    leaves them out. ``fine_tuned``: networks that a step fine-tunes, of which the best is kept; each begins with
    another one of the best proposals. ``batches``: of a fine-tuning, and ``lr``: its learning rate, by momentum SGD.
    ``least_px``: smallest input side of a proposal; None is half of the seed network's.

    Raises: NasError naming the field.
    """

    delta: float = 0.01
    step: float = 0.1
    kinds: tuple[str, ...] = SHRINK_KINDS
    divisor: int = 8
    criterion: str = "ratio"
    loss_images: int = 512
    fine_tuned: int = 1
    batches: int = 50
    lr: float = 0.02
    least_px: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        for name in ("delta", "step"):
            check_number(f"netadapt.{name}", getattr(self, name), low=0, high=1, open_low=True, open_high=True)
        if self.step < self.delta:
            raise NasError(
                f"netadapt.step {self.step:g}: must be at least netadapt.delta, {self.delta:g} of one proposal."
            )
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise NasError(
                f"netadapt.kinds {quoted(list(self.kinds))}: list some of {', '.join(SHRINK_KINDS)}, each once."
            )
        for kind in self.kinds:
            if kind not in SHRINK_KINDS:
                raise unknown_choice("netadapt.kinds", kind, SHRINK_KINDS)
        if self.criterion not in CRITERIA:
            raise unknown_choice("netadapt.criterion", self.criterion, CRITERIA)
        check_number("netadapt.divisor", self.divisor, low=1, high=MAX_CHANNELS, whole=True)
        check_number("netadapt.loss_images", self.loss_images, low=2, high=1_000_000, whole=True)
        check_number("netadapt.fine_tuned", self.fine_tuned, low=1, high=1000, whole=True)
        check_number("netadapt.batches", self.batches, low=1, high=1_000_000, whole=True)
        check_number("netadapt.lr", self.lr, low=0, high=1000, open_low=True)
        check_number("netadapt.least_px", self.least_px, low=1, high=MAX_RESOLUTION_PX, whole=True, optional=True)

    def identity(self) -> Mapping[str, Any]:
        """Settings that must not change within a study."""
        return {**asdict(self), "kinds": list(self.kinds)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedTraining(ProxySettings):
    """Training of a seed network without weights, and runtime settings.

    The network itself is trained, at ``resolution_px``; ``batch_size``, ``shift``, ``weight_decay``, ``threads`` and
    ``device`` apply to the fine-tuning of proposals as well.
    """

    group: ClassVar[str] = "training"

    epochs: int = 30
    lr: float = 0.01
    width_multiplier: float = 1.0
    resolution_px: int = 32
    divisor: int = 8
    min_map_px: int = 1
