"""Random networks for calibration: typical ones, and shallow atypical ones.

Typical networks resemble published ones; atypical ones together cover every operation that a search space can request.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Final

from nas.arch.blocks import ACTIVATIONS, DEPTHWISE_TYPES, BlockSpec, BlockType
from nas.arch.complexity import complexity
from nas.arch.heads.attach import detector, segmenter
from nas.arch.ops.network import network_segments
from nas.arch.parts import MOBILENET_V3_SE, HeadSpec, SqueezeExcite, StemSpec
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import SpecError
from nas.exporters.rewriting.candidates import candidates
from nas.exporters.rewriting.forms import Forms

# A network of this many multiply-adds takes between 0.3 and fifteen ms on one core of a laptop or server.
MACS_RANGE: Final = (4e6, 600e6)
_RESOLUTIONS_PX: Final = (64, 96, 112, 128, 144, 160, 192, 208, 224, 224, 240, 256, 288, 320)
_KERNELS: Final = (3, 5, 7, 9, 11)
_TYPES: Final[tuple[BlockType, ...]] = ("ir", "ds", "dsa", "er", "cn", "uir")
_TYPE_WEIGHTS: Final = (12, 3, 1, 3, 1, 3)
_ACTIVATION_WEIGHTS: Final = (3, 2, 3, 3, 1)  # in the order of ACTIVATIONS; mish is rare
_LANES: Final = (4, 8, 16)
_ATTEMPTS: Final = 1000
# Share of typical networks. Errors on published networks had a standard deviation of 4.4% when fitted to atypical ones
# alone, and of 3.0% when fitted to both. Preferring networks whose kernels were predicted worst so far gained nothing
# over uniform sampling, in five splits.
_TYPICAL_SHARE: Final = 0.6
# Share of the networks of a calibration that get the head of a detector or segmenter: for kernels that no classifier
# has, on maps of a few px, dilated, and of many outputs.
_DENSE_SHARE: Final = 0.2
# Share of these that are small. Without them, networks below 1 ms were predicted up to 90% too slow.
_SMALL_SHARE: Final = 0.25
# Channels at width 1, stride and most repeats, as in EfficientNet-B0, MnasNet and MobileNetV3.
_TYPICAL_STAGES: Final = ((16, 1, 1), (24, 2, 3), (40, 2, 4), (80, 2, 4), (112, 1, 4), (192, 2, 4), (320, 1, 1))


def random_spec(
    seed: int, index: int, *, typical_share: float = _TYPICAL_SHARE, least_macs: float = MACS_RANGE[0]
) -> ArchSpec:
    """Random valid network number ``index`` of ``seed``, deterministic.

    Its multiply-adds lie within ``least_macs`` and the end of ``MACS_RANGE``. ``typical_share``: how probably it is a
    typical one.
    """
    rng = random.Random(f"{seed}/{index}")
    for _ in range(_ATTEMPTS):
        try:
            make = _typical_spec if rng.random() < typical_share else _atypical_spec
            spec = make(rng, f"random{index}")
        except SpecError:  # too few channels for so many groups
            continue
        if least_macs <= complexity(spec).macs <= MACS_RANGE[1]:
            return spec
    raise RuntimeError(f"{_ATTEMPTS} draws gave no network of {least_macs:g} to {MACS_RANGE[1]:g} multiply-adds.")


def random_specs(count: int, seed: int) -> list[ArchSpec]:
    """The first ``count`` random networks of ``seed``."""
    return [random_spec(seed, index) for index in range(count)]


def random_network(seed: int, index: int) -> ArchSpec:
    """Random network number ``index`` of a calibration.

    Some are detectors and segmenters: ``random_spec`` of that number with a head in place of its classifier, if it has
    the maps that the head reads; the others are ``random_spec``.
    """
    spec, rng = random_spec(seed, index), random.Random(f"dense/{seed}/{index}")
    return random_dense_spec(spec, rng) or spec if rng.random() < _DENSE_SHARE else spec


def random_dense_spec(spec: ArchSpec, rng: random.Random) -> ArchSpec | None:
    """Give ``spec`` the head of a detector or segmenter with random fields.

    None for a network without the maps that the head reads, and for one beyond ``MACS_RANGE``.
    """
    width = rng.choice((0.25, 0.5, 1.0, 1.0))
    try:
        if rng.random() < 0.5:
            dense = detector(
                spec,
                rng.choice((1, 3, 20, 80)),
                head_width=width,
                tap=rng.choice(("expansion", "output")),
                output_stride=rng.choice((16, 32, 32)),
                lowest_anchors=rng.choice((3, 6)),
                activation=rng.choice(("relu6", spec.activation)),
            )
        else:
            output_stride = rng.choice((8, 16, 16, 32))
            dense = segmenter(
                spec,
                rng.choice((2, 8, 19, 21, 32, 150)),
                head_width=width,
                output_stride=output_stride,
                low_stride=rng.choice((4, 8)),
                channels=rng.choice((0, 0, spec.head.channels)),
                activation=rng.choice(("relu", spec.activation)),
            )
    except SpecError:
        return None
    return dense if MACS_RANGE[0] <= complexity(dense).macs <= MACS_RANGE[1] else None


def random_forms(spec: ArchSpec, seed: int, index: int, lane: int | None = None) -> Forms | None:
    """Forms of the blocks of random network ``index`` of ``seed``.

    Every other network has plain ones, None. ``lane``: channels of one vector of the runtime's kernels, to which pieces
    are padded. None draws one width for each network, for runtimes whose width the calibration is to find out;
    squeeze-excite may be written as matrix products there.
    """
    if index % 2:
        return None
    rng = random.Random(f"forms/{seed}/{index}")
    width = lane or rng.choice(_LANES)
    blocks = network_segments(spec)[1:-1]
    return tuple(rng.choice(candidates(part, spec.padding, width, linear_gates=lane is None)).form for part in blocks)


def _typical_spec(rng: random.Random, name: str) -> ArchSpec:
    """Typical network in the style of MobileNetV2, MixNet and EfficientNet.

    Each stage repeats one kind of block.
    """
    is_small = rng.random() < _SMALL_SHARE
    width = rng.uniform(0.2, 0.6) if is_small else rng.uniform(0.35, 1.5)
    late = rng.choice(("relu", "relu6", "hard_swish", "hard_swish", "swish", "swish"))
    early = rng.choice((late, "relu"))
    has_se, mixed = rng.random() < 0.6, rng.random() < 0.4
    kind: BlockType = "er" if rng.random() < 0.15 else "ir"
    stages = []
    for index, (channels, stride, most) in enumerate(_TYPICAL_STAGES):
        channels = max(8, round(width * channels * rng.uniform(0.75, 1.3) / 8) * 8)
        block = BlockSpec(
            type="ds" if index == 0 else kind if index < 4 else "ir",
            channels=channels,
            repeats=rng.randint(1, most),
            stride=stride,
            expansion=1 if index == 0 else rng.choice((3, 4, 6)),
            se_ratio=rng.choice((0.0, 0.25)) if has_se else 0.0,
            activation=None if early == late or index > 2 else early,
        )
        if block.has_depthwise:
            groups = rng.choice((1, 2, 3)) if mixed else 1
            block = replace(block, kernels=tuple(sorted(rng.sample((3, 5, 7, 9), groups))))
            if not mixed:
                block = replace(block, kernels=(rng.choice((3, 3, 5)),))
        stages.append(StageSpec((block,)))
    return ArchSpec(
        name=name,
        stem=StemSpec(channels=rng.choice((16, 24, 32))),
        stages=tuple(stages),
        head=HeadSpec(
            channels=rng.choice((256, 640, 1024, 1280) if is_small else (960, 1280, 1536)),
            kind=rng.choice(("conv_pool", "conv_pool", "pool_conv")),
        ),
        resolution_px=rng.choice((64, 96, 96, 128, 160) if is_small else (160, 192, 224, 224, 224, 240, 256)),
        classes=rng.choice((10, 100, 1000, 1000)) if is_small else 1000,
        activation=late,
        squeeze_excite=MOBILENET_V3_SE if late == "hard_swish" else SqueezeExcite(),
    )


def _atypical_spec(rng: random.Random, name: str) -> ArchSpec:
    """Atypical network of few, dissimilar blocks."""
    resolution_px = rng.choice(_RESOLUTIONS_PX)
    stem = StemSpec(channels=rng.choice((8, 16, 16, 24, 32, 32)), kernel=rng.choice((3, 3, 3, 5)))
    px, channels, stages = resolution_px / 2, stem.channels, list[StageSpec]()
    mixed, activation = rng.random() < 0.5, rng.choices(ACTIVATIONS, _ACTIVATION_WEIGHTS)[0]
    width = math.exp(rng.uniform(math.log(0.4), math.log(2.0)))
    for index in range(rng.randint(2, 6)):
        stride = 2 if px > 5 and (index or rng.random() < 0.5) else 1
        px /= stride
        # 16 channels at 112 px, 320 at 7: about those of published networks, times a width factor of this network.
        channels = max(8, round(width * 16 * (112 / px) ** 1.08 * rng.uniform(0.7, 1.4) / 8) * 8)
        stages.append(StageSpec((_block(rng, min(channels, 480), stride, mixed),)))
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
    if kind == "uir":
        return _universal(rng, channels, stride)
    depthwise = kind in DEPTHWISE_TYPES
    groups = rng.choice((1, 2, 3, 4, 5)) if mixed and depthwise else 1
    kernels = tuple(sorted(rng.sample(_KERNELS, groups))) if depthwise else (rng.choice((1, 3, 3, 5)),)
    if not mixed and depthwise:
        kernels = (rng.choice((3, 3, 5, 5, 7, 9, 11)),)
    expansion = {"ir": rng.choice((1, 2, 3, 4, 6, 6)), "er": rng.choice((1, 2, 4, 4, 8))}.get(kind, 1)
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


def _universal(rng: random.Random, channels: int, stride: int) -> BlockSpec:
    start, middle = rng.choice(((0, 3), (0, 5), (3, 3), (5, 3), (3, 5), (5, 5), (3, 0), (5, 0), (0, 0)))
    return BlockSpec(
        type="uir",
        channels=channels,
        repeats=rng.choice((1, 1, 2, 3)),
        kernels=(middle,),
        start_kernel=start or (3 if stride > 1 and not middle else 0),
        stride=stride,
        expansion=rng.choice((2, 3, 4, 4, 6)),
    )
