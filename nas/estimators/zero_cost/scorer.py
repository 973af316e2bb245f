"""Zero-cost scoring of a candidate: reduce, build, score on a fixed batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.arch.heads import backbone
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.core.progress import ProgressCallback
from nas.data import resize_images
from nas.data.images import ImageData
from nas.estimators.base import ignore, network_seed
from nas.estimators.proxy.evaluator import TaskData
from nas.estimators.proxy.reduce import proxy_factory
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.zero_cost.scores import zero_cost_scores
from nas.estimators.zero_cost.settings import ZeroCostSettings
from nas.model.build import build
from nas.training.augmentation import normalise
from nas.training.evaluation import memory_layout, normalization_statistics
from nas.training.oom import named_out_of_memory
from nas.training.runtime import fast_training, pick_device, seeded


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroCostScorer:
    """Zero-cost scores of the proxies of candidates, at their initial weights.

    The proxy of a candidate is that of ``ProxyEvaluator`` with the same ``settings``, ``largest_kernel`` (px) and
    ``base_resolution_px``. All candidates get the same batch of train images, drawn with ``seed``, different from each
    other: ``batch_size``, or as many as there are. Initial weights are a function of ``seed`` and network, so that
    scores do not depend on the order of scoring. ``names``: of ``SCORE_NAMES``.

    Detectors and segmenters are scored without their heads.

    Raises: NasError for invalid names or batch size.
    """

    data: TaskData
    settings: ProxySettings
    largest_kernel: int
    seed: int
    base_resolution_px: int | None = None
    names: tuple[str, ...] = ZeroCostSettings().names
    batch_size: int = ZeroCostSettings().batch_size

    def __post_init__(self) -> None:
        ZeroCostSettings(names=self.names, batch_size=self.batch_size)

    def prepare(self, progress: ProgressCallback | None = None, say: Callable[[str], object] = ignore) -> None:
        """Nothing: networks are scored at their initial weights."""

    def scores(self, arch: ArchSpec) -> Mapping[str, float]:
        """Score ``arch``, by name in the order of ``names``; larger predicts better.

        Raises: TrainingError for a score that is not finite; OutOfMemoryError, after releasing the memory; NasError if
        all train images are equal.
        """
        with named_out_of_memory(
            f"estimator.zero_cost_batch_size {self.batch_size}",
            "lower it, proxy.resolution_px or proxy.width_multiplier, or score fewer networks at a time",
        ):
            return self._scores(arch)

    def _scores(self, arch: ArchSpec) -> Mapping[str, float]:
        proxy = proxy_factory(self.data, self.settings, self.largest_kernel, self.base_resolution_px)(arch).spec
        seed = network_seed(arch, self.seed)
        device, layout = pick_device(self.settings), memory_layout(self.settings)
        images, labels = self._batch(proxy.resolution_px)
        proxy = backbone(proxy)  # heads are the same for all candidates, and most scores need the maps before pooling
        with seeded(seed, device):
            model = build(proxy).to(device, memory_format=layout)  # type: ignore[call-overload]
            with fast_training(model, device, self.settings.threads):
                return zero_cost_scores(
                    model,
                    images.to(device, memory_format=layout),
                    labels.to(device),
                    self.names,
                    seed=seed,
                    network=f"{arch.name} ({arch.arch_id})",
                )

    def _batch(self, side_px: int) -> tuple[Tensor, Tensor]:
        """Return the batch of all candidates: images of different content.

        Images float32 (B, C, side_px, side_px), normalised, and labels int64 (B,); of images with boxes or masks 0.
        """
        data = self.data
        if isinstance(data, ImageData):
            rows = self._rows(len(data.train_images), lambda row: data.train_images[row])
            images, labels = resize_images(data.train_images[rows], side_px), data.train_labels[rows]
            return normalise(images, *normalization_statistics(data)), labels
        squares = {}

        def square(row: int) -> Tensor:
            squares[row] = _square(data.train.image(row), side_px)
            return squares[row]

        rows = self._rows(len(data.train), square)
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (data.mean, data.std))
        images = torch.stack([squares[row] for row in rows.tolist()])
        return normalise(images, mean, std), torch.zeros_like(rows)

    def _rows(self, count: int, image: Callable[[int], Tensor]) -> Tensor:
        """Draw rows of different train images, int64 (B,): equal ones have equal codes.

        ``image``: that of a row of ``count``, uint8.
        """
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed)).tolist()
        rows: dict[bytes, int] = {}
        for row in order:
            rows.setdefault(image(row).numpy().tobytes(), row)
            if len(rows) == self.batch_size:
                break
        if len(rows) < 2:
            raise NasError("data: all train images are equal, so that no network can tell them apart; add others.")
        return torch.tensor(list(rows.values()))


def _square(image: NDArray[np.uint8], side_px: int) -> Tensor:
    """Stretch an image (H, W, C) to uint8 (C, side_px, side_px)."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(pixels, (side_px, side_px), mode="bilinear", antialias=True)
    return resized[0].round_().clamp_(0, 255).to(torch.uint8)
