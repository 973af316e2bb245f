"""Random networks to calibrate on: shallow, so that many fit in a minute, and spread over all that a space can ask."""

from __future__ import annotations

import math
import random
from typing import Final

from nas.arch.blocks import ACTIVATIONS, DEPTHWISE_TYPES, BlockSpec, BlockType
from nas.arch.complexity import complexity
from nas.arch.errors import SpecError
from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, SqueezeExcite, StemSpec
from nas.arch.spec import ArchSpec, StageSpec

# A network of this many multiply-adds takes between about one and fifteen ms on one core of a laptop or server.
MACS_RANGE: Final = (4e6, 250e6)
_RESOLUTIONS_PX: Final = (64, 80, 96, 112, 128, 160, 192, 224)
_KERNELS: Final = (3, 5, 7, 9, 11)
_TYPES: Final[tuple[BlockType, ...]] = ("ir", "ds", "dsa", "er", "cn")
_TYPE_WEIGHTS: Final = (12, 3, 1, 1, 1)
_ACTIVATION_WEIGHTS: Final = (3, 2, 3, 3, 1)  # in the order of ACTIVATIONS; mish is rare
_ATTEMPTS: Final = 1000


def random_specs(count: int, seed: int) -> list[ArchSpec]:
    """``count`` valid networks with ``MACS_RANGE`` multiply-adds each; the same for the same seed."""
    rng = random.Random(seed)
    return [_feasible(rng, f"random{index}") for index in range(count)]


def _feasible(rng: random.Random, name: str) -> ArchSpec:
    for _ in range(_ATTEMPTS):
        try:
            spec = _spec(rng, name)
        except SpecError:  # too few channels for so many groups
            continue
        if MACS_RANGE[0] <= complexity(spec).macs <= MACS_RANGE[1]:
            return spec
    raise RuntimeError(f"{_ATTEMPTS} draws gave no network of {MACS_RANGE} multiply-adds.")


def _spec(rng: random.Random, name: str) -> ArchSpec:
    resolution_px = rng.choice(_RESOLUTIONS_PX)
    stem = StemSpec(channels=rng.choice((8, 16, 16, 24, 32, 32)), kernel=rng.choice((3, 3, 3, 5)))
    px, channels, stages = resolution_px / 2, stem.channels, list[StageSpec]()
    mixed, activation = rng.random() < 0.6, rng.choices(ACTIVATIONS, _ACTIVATION_WEIGHTS)[0]
    width = math.exp(rng.uniform(math.log(0.5), math.log(1.6)))
    for index in range(rng.randint(2, 6)):
        stride = 2 if px > 5 and (index or rng.random() < 0.5) else 1
        px /= stride
        # 16 channels at 112 px, 320 at 7: about what published networks have, times a factor of this network's.
        channels = max(8, round(width * 16 * (112 / px) ** 1.08 * rng.uniform(0.7, 1.4) / 8) * 8)
        stages.append(StageSpec((_block(rng, min(channels, 400), stride, mixed),)))
    head = HeadSpec(
        channels=rng.choice((128, 320, 640, 960, 1280, 1536)), kind=rng.choice(("conv_pool", "conv_pool", "pool_conv"))
    )
    return ArchSpec(
        name=name,
        stem=stem,
        stages=tuple(stages),
        head=head if rng.random() < 0.8 else HeadSpec(channels=0),
        resolution_px=resolution_px,
        classes=rng.choice((10, 100, 1000)),
        activation=activation,
        squeeze_excite=rng.choice((SqueezeExcite(), MOBILENET_V3_SE)),
    )


def _block(rng: random.Random, channels: int, stride: int, mixed: bool) -> BlockSpec:
    kind = rng.choices(_TYPES, _TYPE_WEIGHTS)[0]
    depthwise = kind in DEPTHWISE_TYPES
    groups = rng.choice((1, 2, 3, 4, 5)) if mixed and depthwise else 1
    kernels = tuple(sorted(rng.sample(_KERNELS, groups))) if depthwise else (rng.choice((1, 3, 3, 5)),)
    if not mixed and depthwise:
        kernels = (rng.choice((3, 3, 5, 5, 7, 9, 11)),)
    expansion = {"ir": rng.choice((1, 2, 3, 4, 6, 6)), "er": rng.choice((2, 4))}.get(kind, 1)
    return BlockSpec(
        type=kind,
        channels=channels,
        repeats=rng.choice((1, 1, 2, 3)),
        kernels=kernels,
        stride=stride,
        expansion=expansion,
        se_ratio=rng.choice((0, 0, 0.25, 0.5)) if kind != "cn" else 0,
        expand_kernels=(1, 1) if mixed and kind == "ir" and rng.random() < 0.3 else (1,),
        project_kernels=(1, 1) if mixed and kind != "cn" and rng.random() < 0.3 else (1,),
        activation=rng.choices(ACTIVATIONS, _ACTIVATION_WEIGHTS)[0] if rng.random() < 0.3 else None,
        skip=kind != "cn",
        partition="exponential" if groups > 1 and rng.random() < 0.25 else "equal",
        dilated=depthwise and rng.random() < 0.1,
    )
