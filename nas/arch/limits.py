"""Ranges of the figures of a network, whatever file they come from.

A larger figure is a typing error, and would take time and memory without end.
"""

from __future__ import annotations

from typing import Final

MAX_RESOLUTION_PX: Final = 16384  # one map of 32 channels has 34 GB then
MAX_CHANNELS: Final = 1_000_000
MAX_CLASSES: Final = 10_000_000
MAX_BLOCKS: Final = 4096  # of a network, repeats included; EfficientNet-L2 has 139
MAX_KERNEL: Final = 255  # side in px
MAX_GROUPS: Final = 64  # kernels of a MixConv, or parts of a grouped convolution
MAX_HEADS: Final = 1024  # of attention
MAX_FACTOR: Final = 4096.0  # of each multiplier of width, depth and resolution
MAX_PHI: Final = 12  # units of compound scaling, up or down: 4096 times the baseline
MAX_EXPANSION: Final = 1000.0
MAX_LAYER_SCALE: Final = 1000.0
MAX_BLOCK_STRING: Final = 300  # characters
MAX_NAME: Final = 160  # characters: files are named after networks
