"""Once-for-all MobileNetV3 sub-networks as specs, with published GPU latencies.

Widths, strides, activations and squeeze-excite are those of mit-han-lab/once-for-all,
``ofa/imagenet_classification/elastic_nn/networks/ofa_mbv3.py``; the width multiplier 1.2 is that of the supernet by
which HayeonLee/HELP, the source of the latencies, validates its results (``validate_imagenet.py``). Not documented
there, but likely: latencies were measured in eager PyTorch, with norms as separate kernels. One difference from the
original: its last 1x1 convolution has no bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from nas.arch.blocks import BlockSpec
from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, StemSpec
from nas.arch.rounding import make_divisible
from nas.arch.spec import ArchSpec, StageSpec
from tests.paths import SHARED_DATA

FILE = SHARED_DATA / "ofa_latency" / "ofa_latency.npz"
TARGETS = tuple(f"{device}_{batch}" for device in ("2080ti", "titan_xp") for batch in (1, 32, 64))
LAYERS = 4  # at most, per stage
WIDTH = 1.2
_CHANNELS = (24, 40, 80, 112, 160)
_STRIDES = (2, 2, 2, 1, 2)
_ACTIVATIONS = ("relu", "relu", "hard_swish", "hard_swish", "hard_swish")
_SE_RATIOS = (0.0, 0.25, 0.0, 0.25, 0.25)


@cache
def data() -> Mapping[str, np.ndarray[Any, Any]]:
    """Arrays of the file, one row per sub-network; skips the test where it is missing.

    ``ks`` and ``e``: kernel sizes and expansion ratios, shape (networks, 20); ``d``: depths of stages, shape (networks,
    5); ``r``: resolutions in px, shape (networks,); ``lat_*``: latencies in ms of each of ``TARGETS``, shape
    (networks,).
    """
    if not FILE.is_file():
        pytest.skip(f"{FILE.name}: not here")
    with np.load(FILE, allow_pickle=False) as arrays:
        return dict(arrays)


def spec(index: int) -> ArchSpec:
    """Sub-network in row ``index`` of the arrays."""
    arrays = data()
    kernels, expansions = (arrays[name][index].tolist() for name in ("ks", "e"))
    depths, px = arrays["d"][index].tolist(), int(arrays["r"][index])
    stages = [StageSpec((BlockSpec(type="ds", channels=_width(16), activation="relu"),))]
    for stage, depth in enumerate(depths):
        first = stage * LAYERS
        stages.append(
            StageSpec(tuple(_block(stage, i, kernels[first + i], expansions[first + i]) for i in range(depth)))
        )
    stages.append(StageSpec((BlockSpec(type="cn", channels=_width(960), kernels=(1,), skip=False),)))
    return ArchSpec(
        name=f"ofa{index}",
        stem=StemSpec(channels=_width(16)),
        stages=tuple(stages),
        head=HeadSpec(kind="pool_conv", channels=_width(1280)),
        activation="hard_swish",
        squeeze_excite=MOBILENET_V3_SE,
        resolution_px=px,
    )


def _block(stage: int, layer: int, kernel: int, expansion: int) -> BlockSpec:
    return BlockSpec(
        type="ir",
        channels=_width(_CHANNELS[stage]),
        kernels=(kernel,),
        stride=_STRIDES[stage] if layer == 0 else 1,
        expansion=expansion,
        se_ratio=_SE_RATIOS[stage],
        activation=_ACTIVATIONS[stage],
    )


def _width(channels: int) -> int:
    return make_divisible(channels * WIDTH)
