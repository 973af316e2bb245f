"""A tiny set of images with masks in an npz file, for searches of segmenters."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_masks(folder: Path, *, train: int = 12, val: int = 6, side_px: int = 32) -> Path:
    """Write images of noise whose left part is dark and right part is bright, with masks of the two classes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        borders = rng.integers(side_px // 4, 3 * side_px // 4, count)
        masks = (np.arange(side_px)[None, None] >= borders[:, None, None]).repeat(side_px, axis=1).astype(np.uint8)
        noise = rng.integers(0, 60, (count, side_px, side_px, 3))
        images = (150 * masks[..., None] + noise).astype(np.uint8)
        np.savez(folder / f"tiny_{split}.npz", images=images, masks=masks, class_names=np.array(["dark", "bright"]))
    return folder
