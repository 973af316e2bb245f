"""Depthwise kernels as sums of small ones: exact, and few enough taps each."""

from __future__ import annotations

import numpy as np
import pytest

from nas.exporters.litert.depthwise import MOST_TAPS, kernel_pieces, piece_pads


def correlation(
    image: np.ndarray, kernel: np.ndarray, steps: tuple[int, int], pads: list[int], stride: int
) -> np.ndarray:
    """Convolution of one channel, written out. ``pads``: [top, left, bottom, right]; ``steps``: px between taps."""
    top, left, bottom, right = pads
    padded = np.pad(image, ((top, bottom), (left, right)))
    high, wide = (step * (side - 1) + 1 for step, side in zip(steps, kernel.shape, strict=True))
    rows, columns = (range(0, padded.shape[axis] - reach + 1, stride) for axis, reach in enumerate((high, wide)))
    windows = [[padded[y : y + high : steps[0], x : x + wide : steps[1]] for x in columns] for y in rows]
    return np.array([[np.sum(window * kernel) for window in row] for row in windows])


@pytest.mark.parametrize("kernel", [3, 5, 7, 9, 11, 13])
@pytest.mark.parametrize(
    ("px", "stride", "dilation", "same"), [(14, 1, 1, True), (15, 2, 1, False), (14, 2, 1, True), (9, 1, 2, False)]
)
def test_the_pieces_of_a_kernel_add_up_to_it(kernel: int, px: int, stride: int, dilation: int, same: bool) -> None:
    rng = np.random.default_rng(kernel)
    image, weight = rng.standard_normal((px, px)), rng.standard_normal((kernel, kernel))
    reach, out_px = dilation * (kernel - 1), -(-px // stride)
    total = max(0, (out_px - 1) * stride + reach + 1 - px) if same else reach
    before, after = total // 2, total - total // 2
    expected = correlation(image, weight, (dilation, dilation), [before, before, after, after], stride)
    outputs = []
    for rows, columns in kernel_pieces(kernel, dilation, before, after):
        assert rows.length * columns.length <= MOST_TAPS
        part = weight[np.ix_(rows.indices, columns.indices)]
        part[: rows.new], part[:, : columns.new] = 0, 0
        (top, bottom), (left, right) = (piece_pads(taps, kernel, dilation, before, after) for taps in (rows, columns))
        steps = (rows.step * dilation, columns.step * dilation)
        outputs.append(correlation(image, part, steps, [top, left, bottom, right], stride))
    np.testing.assert_allclose(sum(outputs), expected, atol=1e-12)


def test_what_cannot_be_divided_stays_whole() -> None:
    (piece,) = kernel_pieces(101, 1, 50, 50)
    assert [taps.indices for taps in piece] == [list(range(101))] * 2
    (piece,) = kernel_pieces(7, 1, 0, 0)  # without padding every smaller kernel would need some cropped
    assert [taps.length for taps in piece] == [7, 7]


def test_as_few_pieces_as_rectangles_around_the_middle_allow() -> None:
    # 49 taps need at least two of 25, but rectangles around the middle three; 81 need four, 121 five or more.
    assert [len(kernel_pieces(kernel, 1, kernel // 2, kernel // 2)) for kernel in (1, 3, 5, 7, 9, 11)] == [
        1,
        1,
        1,
        3,
        4,
        6,
    ]
