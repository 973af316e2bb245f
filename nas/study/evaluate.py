"""From a network to its proxy's accuracy: reduce, build, train, keep the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch

from nas.arch.spec import ArchSpec
from nas.model.build import build
from nas.model.export import save_weights
from nas.model.init import zero_init_residual
from nas.proxy.data import ImageData
from nas.proxy.reduce import Proxy, reduce_arch
from nas.proxy.results import EpochResult
from nas.proxy.settings import ProxySettings
from nas.proxy.train import train

_REPEAT_STRIDE: Final = 1_000_003  # far from the seeds that people give, so that repeats are never another study's


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What training a candidate's proxy gave. ``accuracy``: top-1 on the validation split, in [0, 1]."""

    accuracy: float
    cpu_s: float
    duration_s: float


class Evaluator(Protocol):
    """Anything that can score a network; raises to say that it cannot. ``on_epoch`` may raise to stop it."""

    def evaluate(
        self, arch: ArchSpec, *, repeat: int, on_epoch: Callable[[EpochResult], None] | None
    ) -> Evaluation: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEvaluator:
    """Trains proxies on ``data``. The seed of a training depends on ``seed``, network and repeat, not on its turn.

    ``base_resolution_px``: the largest resolution of a space that compares resolutions, which proxies then keep apart.
    ``weights_dir`` receives ``<arch_id>.safetensors`` of the trained proxy (None: weights are not kept).
    """

    data: ImageData
    settings: ProxySettings
    largest_kernel: int
    seed: int
    base_resolution_px: int | None = None
    weights_dir: Path | None = None

    def proxy(self, arch: ArchSpec) -> Proxy:
        """The network that stands for ``arch`` in training."""
        return reduce_arch(
            arch,
            self.settings,
            classes=self.data.classes,
            in_channels=self.data.channels,
            largest_kernel=self.largest_kernel,
            base_resolution_px=self.base_resolution_px,
        )

    def evaluate(
        self, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        """Train the proxy of ``arch``, each ``repeat`` with weights and draws of its own.

        ``on_epoch`` may raise to stop the training. Raises: TrainingError where the loss leaves the numbers.
        """
        seed = (int(arch.arch_id[:8], 16) + self.seed + _REPEAT_STRIDE * repeat) % 2**31
        torch.manual_seed(seed)
        proxy = self.proxy(arch).spec
        model = build(proxy)
        zero_init_residual(model)
        result = train(model, self.data.resized(proxy.resolution_px), self.settings, seed=seed, on_epoch=on_epoch)
        if self.weights_dir is not None:
            self.weights_dir.mkdir(parents=True, exist_ok=True)
            save_weights(model, self.weights_dir / f"{arch.arch_id}.safetensors")
        return Evaluation(accuracy=result.accuracy, cpu_s=result.cpu_s, duration_s=result.duration_s)
