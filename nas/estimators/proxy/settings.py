"""Proxy settings, validated without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nas.arch.limits import MAX_CHANNELS, MAX_FACTOR, MAX_RESOLUTION_PX
from nas.training.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings(TrainSettings):
    """Settings for reducing a candidate to its proxy and for training the proxy.

    ``width_multiplier`` and ``depth_multiplier`` scale the network, channels to multiples of ``divisor`` (finer than
    the usual 8, which would round away small differences of width). ``resolution_px`` is the side of the training
    images. ``min_map_px`` is the minimum side of the last feature map: strides are set to 1, first of the stem and
    then of the earliest stages, until it is reached; ``auto`` is half of the largest kernel of the space, rounded up.
    ``dropout`` and ``drop_path`` replace those of the candidate, which are for long trainings.
    """

    width_multiplier: float = 0.25
    depth_multiplier: float = 1.0
    resolution_px: int = 16
    divisor: int = 2
    min_map_px: int | Literal["auto"] = 2
    dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        TrainSettings.__post_init__(self)  # super() does not work in a slotted dataclass
        self._check("width_multiplier", low=0, high=MAX_FACTOR, open_low=True)
        self._check("depth_multiplier", low=0, high=MAX_FACTOR, open_low=True)
        self._check("resolution_px", low=4, high=MAX_RESOLUTION_PX, whole=True)
        self._check("divisor", low=1, high=MAX_CHANNELS, whole=True)
        if self.min_map_px != "auto":
            self._check("min_map_px", low=1, high=MAX_RESOLUTION_PX, whole=True)
        self._check("dropout", low=0, high=1, open_high=True)
        self._check("drop_path", low=0, high=1, open_high=True)
