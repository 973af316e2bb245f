"""From a network to its proxy's accuracy: reduce, build, train, keep the weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch

from nas.arch.spec import ArchSpec
from nas.data.images import ImageData
from nas.estimators.proxy.reduce import Proxy, reduce_arch
from nas.estimators.proxy.settings import ProxySettings
from nas.export.standalone import save_weights
from nas.model.build import build
from nas.model.initialization import zero_init_residual
from nas.training.oom import is_out_of_memory, release_memory
from nas.training.results import EpochResult, OutOfMemoryError
from nas.training.trainer import train

_REPEAT_STRIDE: Final = 1_000_003  # far from the seeds that people give, so that repeats are never another study's


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What training a candidate's proxy gave. ``accuracy``: top-1 on the validation split, in [0, 1]."""

    accuracy: float
    cpu_s: float
    duration_s: float


class Evaluator(Protocol):
    """Anything that can score a network; raises to say that it cannot. ``on_epoch`` may raise to stop it.

    ``forget``: the training was told, good or bad, and what was kept to go on with it may go.
    """

    def evaluate(
        self, arch: ArchSpec, *, repeat: int, on_epoch: Callable[[EpochResult], None] | None
    ) -> Evaluation: ...
    def forget(self, arch: ArchSpec, *, repeat: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEvaluator:
    """Trains proxies on ``data``. The seed of a training depends on ``seed``, network and repeat, not on its turn.

    ``base_resolution_px``: the largest resolution of a space that compares resolutions, which proxies then keep apart.
    ``weights_dir`` receives ``<arch_id>.safetensors`` of the trained proxy (None: weights are not kept).
    ``checkpoints_dir`` holds trainings under way, ``<arch_id>.pt`` or ``<arch_id>-<repeat>.pt``: one that was killed
    goes on from there (None: from its beginning).
    """

    data: ImageData
    settings: ProxySettings
    largest_kernel: int
    seed: int
    base_resolution_px: int | None = None
    weights_dir: Path | None = None
    checkpoints_dir: Path | None = None

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

        ``on_epoch`` may raise to stop the training; after a kill it is told what follows the checkpoint alone.
        Raises: TrainingError where the loss leaves the numbers, OutOfMemoryError, which leaves no memory taken.
        """
        try:
            return self._train(arch, repeat, on_epoch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release_memory(error)
            raise OutOfMemoryError(
                f"out of memory at proxy.batch_size {self.settings.batch_size}: lower it, proxy.resolution_px or "
                "proxy.width_multiplier, or run fewer trainings at a time."
            ) from None

    def forget(self, arch: ArchSpec, *, repeat: int = 0) -> None:
        """Remove the checkpoint of a training that was told."""
        checkpoint = self._checkpoint(arch, repeat)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)

    def forget_all(self) -> None:
        """Remove all checkpoints: the study is complete, those of trainings that were given up are left."""
        if self.checkpoints_dir is not None:
            shutil.rmtree(self.checkpoints_dir, ignore_errors=True)

    def _train(self, arch: ArchSpec, repeat: int, on_epoch: Callable[[EpochResult], None] | None) -> Evaluation:
        seed = (int(arch.arch_id[:8], 16) + self.seed + _REPEAT_STRIDE * repeat) % 2**31
        torch.manual_seed(seed)
        proxy = self.proxy(arch).spec
        model = build(proxy)
        zero_init_residual(model)
        data = self.data.resized(proxy.resolution_px)
        checkpoint = self._checkpoint(arch, repeat)
        result = train(model, data, self.settings, seed=seed, on_epoch=on_epoch, checkpoint=checkpoint)
        if self.weights_dir is not None:
            save_weights(model, self.weights_dir / f"{arch.arch_id}.safetensors")
        return Evaluation(accuracy=result.accuracy, cpu_s=result.cpu_s, duration_s=result.duration_s)

    def _checkpoint(self, arch: ArchSpec, repeat: int) -> Path | None:
        name = f"{arch.arch_id}-{repeat}.pt" if repeat else f"{arch.arch_id}.pt"
        return None if self.checkpoints_dir is None else self.checkpoints_dir / name
