"""Small images with masks: two classes, of a dark and a bright part, and void."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas.data.dense import VOID, DenseDataSettings, SegmentationData, load_segmentation_data


def write_masked_images(
    folder: Path, *, train: int = 12, val: int = 7, size: tuple[int, int] = (24, 20), void: bool = True, seed: int = 0
) -> Path:
    """Write npz files of images whose left part is dark and right part is bright, with masks of the two classes.

    ``size``: width and height in px. ``void``: the first row of pixels is void.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, (width, height) = np.random.default_rng(seed), size
    for split, count in (("train", train), ("val", val)):
        borders = rng.integers(width // 4, 3 * width // 4, count)
        masks = (np.arange(width)[None, None] >= borders[:, None, None]).repeat(height, axis=1).astype(np.uint8)
        images = (150 * masks[..., None] + rng.integers(0, 60, (count, height, width, 3))).astype(np.uint8)
        if void:
            masks[:, 0] = VOID
        np.savez(folder / f"tiny_{split}.npz", images=images, masks=masks, class_names=np.array(["dark", "bright"]))
    return folder


def masked_images(folder: Path, *, settings: dict[str, Any] | None = None, **content: Any) -> SegmentationData:
    """Load images that ``write_masked_images`` wrote."""
    write_masked_images(folder, **content)
    return load_segmentation_data(DenseDataSettings(name="segmentation", root=str(folder), **(settings or {})))
