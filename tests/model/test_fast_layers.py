"""Fast forms of layers against the plain modules, in float64."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from timm.layers import MixedConv2d, create_conv2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from nas.model import fast_layers
from nas.model.mixconv import depthwise_conv
from tests.training.nets import make_net

# Float64 sums of at most 3 * 9 * 9 * 11 * 11 products of standard normals, in another order.
TOLERANCE = 1e-11


def gradients(layer: nn.Module, x: Tensor, grad: Tensor | None = None) -> tuple[Tensor, ...]:
    """Output of ``layer``, then the gradients of its product with ``grad`` by input and parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    grad = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y) if grad is None else grad
    return y, *torch.autograd.grad(y, [x, *layer.parameters()], grad)


def assert_fast_form_is_exact(layer: nn.Module, x: Tensor) -> None:
    """Compare outputs with and without gradients, and all gradients."""
    expected = gradients(layer, x)
    with fast_layers(layer):
        found = gradients(layer, x)
        with torch.inference_mode():
            scored = layer(x)
    for ours, plain in zip((*found, scored), (*expected, expected[0]), strict=True):
        assert ours.shape == plain.shape
        torch.testing.assert_close(ours, plain, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("padding", ["", "same", 0])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7, 9, 11])
def test_depthwise_convolutions_are_exact(kernel: int, padding: Any) -> None:
    torch.manual_seed(0)
    for stride, dilation, height in itertools.product((1, 2, 3), (1, 2), (1, 2, 3, 4, 8)):
        width = height + (stride == 1)
        if padding == 0 and height < (kernel - 1) * dilation + 1:
            continue
        layer = create_conv2d(
            3, 3, kernel, stride=stride, dilation=dilation, padding=padding, depthwise=True, bias=kernel == 5
        ).double()
        x = torch.randn(2, 3, height, width, dtype=torch.float64)
        if padding == "" and kernel % 2 == 0 and height < (kernel - 1) * dilation + 1:
            continue
        assert_fast_form_is_exact(layer, x)
        assert_fast_form_is_exact(layer, x.contiguous(memory_format=torch.channels_last))


def test_unusual_paddings_and_strides_are_exact() -> None:
    torch.manual_seed(0)
    for kernel, stride, padding in [
        ((5, 3), (1, 2), (4, 0)),
        ((3, 7), (2, 1), (0, 5)),
        ((9, 4), (4, 5), (1, 3)),
        ((1, 5), (1, 1), (2, 2)),
    ]:
        layer = nn.Conv2d(4, 4, kernel, stride, padding, groups=4, bias=False).double()
        for side in (1, 3, 9):
            if side + 2 * min(padding) >= max(kernel):
                assert_fast_form_is_exact(layer, torch.randn(2, 4, side, side, dtype=torch.float64))


@pytest.mark.parametrize("side", [1, 2, 4, 5])
@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_convolutions_are_exact(side: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, 1, bias=bias).double()
    x = torch.randn(3, 5, side, side, dtype=torch.float64)
    assert_fast_form_is_exact(layer, x)
    assert_fast_form_is_exact(layer, x.contiguous(memory_format=torch.channels_last))
    assert_fast_form_is_exact(nn.Conv2d(6, 6, 1, groups=3).double(), torch.randn(3, 6, side, side, dtype=torch.float64))


@pytest.mark.parametrize("padding", ["", "same"])
@pytest.mark.parametrize("stride", [1, 2])
def test_mixconv_is_exact(stride: int, padding: str) -> None:
    torch.manual_seed(0)
    for kernels, dilations in [
        ((3, 5, 7, 9, 11), (1,) * 5),
        ((7, 3, 3), (1, 1, 1)),
        ((1, 9), (1, 1)),
        ((3, 3, 5), (1, 3, 1)),
    ]:
        layer = depthwise_conv([3, 1, 2, 1, 1][: len(kernels)], kernels, dilations, stride, padding).double()
        for side in (1, 2, 3, 5, 12):
            x = torch.randn(2, layer.in_channels, side, side + side % 2, dtype=torch.float64)
            assert_fast_form_is_exact(layer, x.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("side", [1, 3, 5, 23])
def test_grouped_pointwise_convolutions_are_exact(side: int) -> None:
    torch.manual_seed(0)
    layer = MixedConv2d(7, 5, [1, 1]).double()
    x = torch.randn(2, 7, side, side, dtype=torch.float64)
    assert_fast_form_is_exact(layer, x)
    assert_fast_form_is_exact(layer, x.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("side", [4, 8, 300])
def test_squeeze_excite_is_exact(side: int) -> None:
    """The widest map has more pixels than are summed at a time."""
    torch.manual_seed(0)
    layer = SqueezeExcite(3, rd_channels=2, act_layer=nn.SiLU).double()
    x = torch.randn(3, 3, side, side, dtype=torch.float64) / side
    assert_fast_form_is_exact(layer, x)
    assert_fast_form_is_exact(layer, x.contiguous(memory_format=torch.channels_last))


def test_gradients_of_squeeze_excite_can_be_differentiated_again() -> None:
    torch.manual_seed(0)
    layer = SqueezeExcite(2, rd_channels=2, act_layer=nn.SiLU).double()
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    with fast_layers(layer):
        assert gradgradcheck(layer, (x,))


def test_gradients_can_be_differentiated_again() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, 5, padding=2, groups=2, bias=False).double()
    weight = layer.weight
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    with fast_layers(layer):

        def convolve(x: Tensor, weight: Tensor) -> Tensor:
            y: Tensor = torch.func.functional_call(layer, {"weight": weight}, (x,))
            return y

        assert gradcheck(convolve, (x, weight))
        assert gradgradcheck(convolve, (x, weight))


def test_float32_differs_by_rounding_only() -> None:
    """The oracle is the plain module in float64: oneDNN has other kernels for float32."""
    torch.manual_seed(0)
    for kernel, stride, side in itertools.product((3, 5, 9), (1, 2), (2, 5, 12)):
        layer = depthwise_conv([19], [kernel], [1], stride, "")
        x = torch.randn(8, 19, side, side).contiguous(memory_format=torch.channels_last)
        exact = gradients(copy.deepcopy(layer).double(), x.double())
        with fast_layers(layer):
            found = gradients(layer, x)
        for ours, oracle in zip(found, exact, strict=True):
            # Sums of at most 8 * 12 * 12 products: rounding errors of 2^-24 add up like a random walk of 34 steps.
            torch.testing.assert_close(ours.double(), oracle, rtol=1e-4, atol=1e-4)


def test_a_network_keeps_its_state_and_gets_its_own_forwards_back() -> None:
    net = make_net().double().eval()
    keys, x = list(net.state_dict()), torch.randn(4, 1, 16, 16, dtype=torch.float64)
    expected = gradients(net, x)
    with fast_layers(net):
        assert list(net.state_dict()) == keys
        found = gradients(net, x)
        replica = copy.deepcopy(net)  # as for averaged weights
        assert any("forward" in module.__dict__ for module in net.modules())
        with fast_layers(net):  # a second context inside leaves the first alone
            pass
        assert any("forward" in module.__dict__ for module in net.modules())
    assert not any("forward" in module.__dict__ for module in net.modules())
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=TOLERANCE)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    torch.testing.assert_close(replica(x), expected[0], rtol=1e-9, atol=TOLERANCE)  # it has weights of its own


def test_other_dtypes_and_layers_are_left_alone() -> None:
    torch.manual_seed(0)
    net = make_net().eval()
    x = torch.randn(2, 1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        expected = net(x)
        with fast_layers(net):
            found = net(x)
    assert torch.equal(found, expected)
    layer: Any = nn.Conv2d(2, 2, 3, padding=1, groups=2, padding_mode="reflect")
    layer.forward = lambda x: -x
    with fast_layers(layer):
        assert torch.equal(layer(x), -x)
    assert torch.equal(layer(x), -x)
