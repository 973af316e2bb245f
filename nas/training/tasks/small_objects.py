"""Objects that are too small for the maps of a detector's head."""

from __future__ import annotations

from typing import Any

import numpy as np

from nas.arch.heads import SSDLiteHead
from nas.core.formatting import first_names, percent
from nas.data.dense import DetectionData


def small_object_note(data: Any, head: Any) -> str:
    """Say which objects a detector would hardly find, and what finds them.

    They are classes of ``data`` whose median train box, by the root of its share of what the network sees, is smaller
    than half of the smallest default box. Empty without any, for a ``head`` that has the finer map C3, and for tasks
    other than detection. Measured on blood cells (``nas/arch/heads/README.md``).
    """
    if not isinstance(data, DetectionData) or not isinstance(head, SSDLiteHead) or head.c3_scale is not None:
        return ""
    sides = _median_sides(data)
    small = {name: side for name, side in sides.items() if side < head.min_scale / 2}
    if not small:
        return ""
    least, most = min(small.values()), percent(max(small.values()), digits=1)
    return (
        f"half of the boxes of {first_names(list(small))} have a side below {most} of the image's, which the maps of "
        f"this head hardly find; a head with head.c3_scale={least:.2g} has a finer one"
    )


def _median_sides(data: DetectionData) -> dict[str, float]:
    """Median side of the train boxes of each class, as a share of the network's input."""
    split = data.train
    sizes = np.array([split.size(row) for row in range(len(split))], dtype=np.float64)
    seen = np.square(sizes.max(1)) if data.settings.fit == "pad" else sizes.prod(1)
    areas = (split.all_boxes[:, 2:] - split.all_boxes[:, :2]).prod(1)
    shares = np.sqrt(areas / np.repeat(seen, np.diff(split.offsets)))
    is_object = ~split.all_ignored
    return {
        name: float(np.median(shares[chosen]))
        for label, name in enumerate(data.class_names)
        if (chosen := is_object & (split.all_labels == label)).any()
    }
