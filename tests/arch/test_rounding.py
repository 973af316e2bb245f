"""Rounding rules against timm over many values, and examples of the papers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import make_divisible as timm_make_divisible
from timm.layers.mixed_conv2d import _split_channels as timm_split
from timm.models._efficientnet_builder import _scale_stage_depth as timm_scale_stage_depth

from nas.arch.rounding import make_divisible, scale_channels, scale_repeats, split_channels
from nas.core.errors import NasError
from tests.arch.published import reference

WIDTHS = (0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 2.0, 2.2, 4.3)
DEPTHS = (0.1, 0.5, 0.9, 1.0, 1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1, 3.6, 5.3)


@pytest.mark.parametrize("divisor", [1, 2, 4, 8, 16])
def test_make_divisible_as_timm(divisor: int) -> None:
    for width in WIDTHS:
        for channels in range(1, 400, 3):
            value = channels * width
            assert make_divisible(value, divisor) == timm_make_divisible(value, divisor)
            assert make_divisible(value, divisor, 16, 0.95) == timm_make_divisible(value, divisor, 16, 0.95)
            assert scale_channels(channels, width, divisor=divisor) == timm_make_divisible(value, divisor)
            nearest = timm_make_divisible(value, divisor, round_limit=0.0)  # EfficientNetV2: 16 x 1.2 is 16, not 24
            assert scale_channels(channels, width, divisor=divisor, round_limit=0.0) == nearest


@pytest.mark.parametrize(
    ("value", "expected"), [(36, 40), (31.2, 32), (11, 16), (3, 8), (52, 56), (44, 48), (22.4, 24)]
)
def test_make_divisible_examples(value: float, expected: int) -> None:
    """Half up; 11 would lose more than a tenth as 8, so it becomes 16."""
    assert make_divisible(value) == expected


def test_truncation_of_mobilenet_v1() -> None:
    assert [scale_channels(channels, 0.75, rule="truncate") for channels in (32, 33, 8, 1024)] == [24, 24, 8, 768]


@pytest.mark.parametrize("rule", ["ceil", "round"])
@given(repeats=st.lists(st.integers(1, 8), min_size=1, max_size=4), depth=st.sampled_from(DEPTHS))
def test_scale_repeats_as_timm(rule: str, repeats: list[int], depth: float) -> None:
    blocks = timm_scale_stage_depth([{"string": index} for index in range(len(repeats))], repeats, depth, rule)
    per_string = [sum(block["string"] == index for block in blocks) for index in range(len(repeats))]
    assert list(scale_repeats(repeats, depth, rule)) == per_string  # type: ignore[arg-type]


def test_scale_repeats_examples() -> None:
    assert scale_repeats([1, 3], 0.5) == (1, 2)  # more than ceil(2): no string falls below 1
    assert scale_repeats([1, 2], 1.4) == (2, 3)  # ceil(4.2) = 5, the first string grows last
    assert scale_repeats([1, 2], 1.2, "round") == (1, 3)
    assert scale_repeats([5], 0.5, "round") == (2,)  # half to even
    assert scale_repeats([1, 2, 4], 1.1, "per_string") == (2, 3, 5)  # the ceiling of each


@given(channels=st.integers(1, 2000), groups=st.integers(1, 6))
def test_equal_split_as_timm(channels: int, groups: int) -> None:
    assert list(split_channels(channels, groups)) == timm_split(channels, groups)


@given(channels=st.integers(64, 2000), groups=st.integers(1, 6))
def test_exponential_split_halves_and_sums_to_the_total(channels: int, groups: int) -> None:
    sizes = split_channels(channels, groups, "exponential")
    assert (sum(sizes), len(sizes)) == (channels, groups)
    # Group i gets floor(channels / 2^i); the floors of all before it leave the last less than one channel each.
    assert all(size == channels // 2**power for power, size in enumerate(sizes[:-1], start=1))
    assert channels / 2 ** (groups - 1) <= sizes[-1] < channels / 2 ** (groups - 1) + groups


def test_split_example_of_the_paper() -> None:
    published = reference("mixnet")["partition"]
    for partition in ("equal", "exponential"):
        sizes = split_channels(32, 4, partition)
        assert published[partition].endswith(",".join(map(str, sizes))), published[partition]
    assert split_channels(34, 4) == (10, 8, 8, 8)


def test_unknown_rules() -> None:
    with pytest.raises(NasError, match="unknown depth rule 'floor': choose from ceil, round, per_string"):
        scale_repeats([1], 2.0, "floor")  # type: ignore[arg-type]
    with pytest.raises(NasError, match="unknown width rule 'floor': choose from divisor, truncate"):
        scale_channels(8, 2.0, rule="floor")  # type: ignore[arg-type]
