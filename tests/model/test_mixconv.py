"""MixConv against zero-padded depthwise kernels and against timm's MixedConv2d."""

from __future__ import annotations

import pytest
import torch
from timm.layers import MixedConv2d
from torch import nn
from torch.nn import functional as F

from nas.arch.notation import parse_block
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.model.build import build
from nas.model.mixconv import MixConv2d, custom_depthwise_plan, depthwise_conv


def as_one_kernel(conv: nn.Module, widest: int) -> torch.Tensor:
    """Embed the weights of a MixConv in depthwise kernels (C, 1, widest, widest).

    Dilated kernels are expanded with zeros.
    """
    kernel = torch.zeros(conv.out_channels, 1, widest, widest)
    start = 0
    for group in conv.values():
        width, rate, side = group.out_channels, group.dilation[0], group.kernel_size[0]
        margin = (widest - (side - 1) * rate - 1) // 2
        taps = [margin + rate * tap for tap in range(side)]
        for row, y in enumerate(taps):
            for column, x in enumerate(taps):
                kernel[start : start + width, 0, y, x] = group.weight[:, 0, row, column]
        start += width
    return kernel


@pytest.mark.parametrize(
    ("channels", "kernels", "dilations", "stride"),
    [
        ((8, 4, 2, 1, 1), (3, 5, 7, 9, 11), (1,) * 5, 2),  # exponential, every kernel size
        ((6, 5, 5), (3, 3, 3), (1, 2, 3), 1),  # dilated 3, 5, 7
        ((8, 8), (3, 3), (1, 5), 1),  # dilated 3, 11
        ((4, 4), (9, 3), (1, 1), 1),
    ],
)
@pytest.mark.parametrize("side_px", [13, 14])
def test_mixconv_is_one_depthwise_convolution(
    channels: tuple[int, ...], kernels: tuple[int, ...], dilations: tuple[int, ...], stride: int, side_px: int
) -> None:
    torch.manual_seed(0)
    conv = depthwise_conv(channels, kernels, dilations, stride, "")
    images = torch.randn(2, sum(channels), side_px, side_px)
    expected = F.conv2d(images, as_one_kernel(conv, 11), stride=stride, padding=5, groups=sum(channels))
    torch.testing.assert_close(conv(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["", "same"])
@pytest.mark.parametrize("stride", [1, 2])
def test_equal_groups_match_timm(padding: str, stride: int) -> None:
    ours = MixConv2d((6, 5, 5), (3, 5, 7), (1, 1, 1), stride, padding)
    reference = MixedConv2d(16, 16, [3, 5, 7], stride=stride, padding=padding, depthwise=True)
    ours.load_state_dict(reference.state_dict())
    images = torch.randn(2, 16, 11, 11)
    assert torch.equal(ours(images), reference(images))


@pytest.mark.parametrize(
    ("text", "stride", "expected"),
    [
        ("ds_r1_k3.5.7_s1_c32", 1, None),  # equal: timm's
        ("ds_r1_k5_s1_c32_exponential", 1, None),  # one group is no partition
        ("ds_r1_k3_s1_c32_dilated", 1, None),  # (3 - 1) / 2 = 1 is no dilation
        ("ds_r1_k3.7_s2_c32_dilated", 2, None),  # strided blocks are never dilated
        ("cn_r1_k3_s1_c32", 1, None),
        ("ds_r1_k3.5.7.9_s1_c32_exponential", 1, ((16, 8, 4, 4), (3, 5, 7, 9), (1, 1, 1, 1), 1)),
        ("ds_r1_k3.5.7_s1_c32_dilated", 1, ((12, 10, 10), (3, 3, 3), (1, 2, 3), 1)),
        ("ds_r1_k9_s1_c32_dilated", 1, ((32,), (3,), (4,), 1)),
        ("ds_r1_k3.9_s2_c32_exponential_dilated", 2, ((16, 16), (3, 9), (1, 1), 2)),
        ("ds_r1_k3.9_s2_c32_exponential_dilated", 1, ((16, 16), (3, 3), (1, 4), 1)),
    ],
)
def test_only_what_timm_lacks_is_replaced(text: str, stride: int, expected: object) -> None:
    assert custom_depthwise_plan(parse_block(text), stride, 32) == expected


def test_block_keeps_timms_state_dict_keys() -> None:
    stage = [["ir_r2_k3.5.7_a1.1_p1.1_s2_e4_c16_se0.5"]]
    parts = {"stem": StemSpec(channels=8), "head": HeadSpec(channels=16), "classes": 2}
    equal = build(ArchSpec.from_strings("equal", stage, **parts))
    other = build(ArchSpec.from_strings("other", [[stage[0][0] + "_exponential_dilated"]], **parts))
    assert list(other.state_dict()) == list(equal.state_dict())
    assert [conv.weight.shape[0] for conv in other.blocks[0][1].conv_dw.values()] == [32, 16, 16]
    assert [conv.dilation[0] for conv in other.blocks[0][1].conv_dw.values()] == [1, 2, 3]
    # Initialised as timm does, normal with a deviation of sqrt(2 / (k * k)); 288 draws lie within 20% of it.
    assert other.blocks[0][1].conv_dw["0"].weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.2)
