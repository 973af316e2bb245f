"""Rounding rules of channels, repeats and resolutions, and channel partitions.

Each rule has a name and a source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Literal

from nas.core.errors import unknown_choice

WidthRule = Literal["divisor", "truncate"]
DepthRule = Literal["ceil", "round", "per_string"]
DEPTH_RULES: Final = ("ceil", "round", "per_string")
WIDTH_RULES: Final = ("divisor", "truncate")
ResolutionRule = Literal["exact", "multiple_of_4", "multiple_of_8"]
RESOLUTION_RULES: Final[dict[str, int]] = {"exact": 1, "multiple_of_4": 4, "multiple_of_8": 8}
ROUND_LIMIT: Final = 0.9  # least share of the exact value that rounding down leaves


@lru_cache(maxsize=4096)
def make_divisible(value: float, divisor: int = 8, minimum: int | None = None, round_limit: float = ROUND_LIMIT) -> int:
    """Round ``value`` to the nearest multiple of ``divisor`` (half up).

    The result is at least ``minimum`` (default: the divisor). If rounding loses more than 10% (``round_limit`` 0.9),
    the next multiple is taken. Source: MobileNet code of tensorflow/models; identical to timm's.
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


def scale_channels(
    channels: int, width: float, *, rule: WidthRule = "divisor", divisor: int = 8, round_limit: float = ROUND_LIMIT
) -> int:
    """Scale ``channels`` by the width multiplier.

    ``divisor``: to a multiple of ``divisor`` by ``make_divisible`` with ``round_limit``; applies at width 1 too (36
    becomes 40), as in timm. At ``round_limit`` 0 the nearest multiple is taken: EfficientNetV2.
    ``truncate``: max(int(channels * width), 8), the published MobileNetV1 rule.

    Raises: NasError for an unknown rule.
    """
    if rule == "truncate":
        return max(int(channels * width), 8)
    if rule == "divisor":
        return make_divisible(channels * width, divisor, round_limit=round_limit)
    raise unknown_choice("width rule", rule, WIDTH_RULES)


def scale_repeats(repeats: Sequence[int], depth: float, rule: DepthRule = "ceil") -> tuple[int, ...]:
    """Scale the repeats of a stage's block strings by the depth multiplier.

    ``ceil`` (EfficientNet) and ``round`` (MixNet; half to even) scale the stage's total and distribute it over the
    strings from last to first in proportion, so that the first string grows last, as timm. ``per_string`` takes the
    ceiling of each string alone: TensorFlow's EfficientNet code. No string falls below 1.

    Raises: NasError for an unknown rule.
    """
    if rule == "per_string":
        return tuple(math.ceil(count * depth) for count in repeats)
    rounding: dict[str, Callable[[float], int]] = {"ceil": math.ceil, "round": lambda total: max(1, round(total))}
    if rule not in rounding:
        raise unknown_choice("depth rule", rule, DEPTH_RULES)
    remaining, remaining_scaled = sum(repeats), rounding[rule](sum(repeats) * depth)
    scaled: list[int] = []
    for count in reversed(repeats):
        share = max(1, round(count / remaining * remaining_scaled))
        scaled.append(share)
        remaining -= count
        remaining_scaled -= share
    return tuple(reversed(scaled))


def scale_resolution(resolution_px: int, factor: float, rule: ResolutionRule = "multiple_of_4") -> int:
    """Scale the input side in px by ``factor`` and round it to a multiple (half up).

    ``rule`` names the multiple; ``exact`` rounds to whole px. All published sides of EfficientNet are multiples of 4,
    and pycls (``core/net.py``) rounds to them. A side is never rounded to 0, and does not change at factor 1.

    Raises: NasError for an unknown rule.
    """
    if rule not in RESOLUTION_RULES:
        raise unknown_choice("resolution_rule", rule, RESOLUTION_RULES)
    multiple = RESOLUTION_RULES[rule]
    return resolution_px if factor == 1 else max(1, int(resolution_px * factor / multiple + 0.5)) * multiple


@lru_cache(maxsize=4096)
def split_channels(channels: int, groups: int, partition: str = "equal") -> tuple[int, ...]:
    """Channels of each MixConv group.

    ``equal``: floor(channels / groups) each, the remainder to group 0 (timm and the published code). ``exponential``:
    floor(channels / 2^i) for i = 1, 2, ..., the last group takes the rest; 32 in 4 groups is 16, 8, 4, 4 (MixConv
    paper, section 3.2).
    """
    if partition == "exponential":
        sizes = [channels >> power for power in range(1, groups)]
        return (*sizes, channels - sum(sizes))
    size = channels // groups
    return (channels - size * (groups - 1), *([size] * (groups - 1)))
