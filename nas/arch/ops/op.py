"""One primitive operation of a network: shapes, parameters and multiply-adds."""

from __future__ import annotations

from typing import Literal, NamedTuple

OpKind = Literal["conv", "depthwise", "linear", "matmul", "norm", "pool", "scale", "add", "concat", "split", "resize"]


class Op(NamedTuple):
    """One fused kernel at batch size 1.

    It is a convolution or linear layer with folded norm and activation, a matrix product, or a data movement. Its input
    is ``(1, in_channels, in_px, in_px)``, its output ``(1, out_channels, out_px, out_px)``: maps are square, and
    ``in_px``, ``out_px`` are sides.

    ``path`` is timm's module path where there is a module, and names the output tensor; ``inputs`` are the paths of the
    operations it reads ("" is the block's or network's input; ``x:2`` is part 2 of split ``x``; the head of a detector
    or segmenter also reads tensors of blocks, by their path in the network). ``norm`` is the path
    of the batch norm that follows ("" for none), of which a MixConv group takes its slice; a ``norm`` op is a batch
    norm on its own. ``scale`` is the path of factors per channel (a layer scale) folded in last. ``activation`` is
    applied to the output; on a squeeze-excite's second convolution it is the gate.

    A ``resize`` is bilinear between the centres of pixels, with the edges repeated (torch's ``interpolate`` without
    ``align_corners``).

    ``groups`` of a ``conv`` divide its input and output channels. A ``matmul`` is a grouped 1x1 convolution whose
    weights are its second input: its groups are heads, and an attention's logits have heads times positions channels.
    """

    kind: OpKind
    path: str
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    in_px: int
    out_px: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    bias: bool = False
    norm: str = ""
    activation: str | None = None
    parts: tuple[int, ...] = ()
    groups: int = 1
    scale: str = ""

    @property
    def weights(self) -> int:
        """Number of elements of the weight tensor."""
        if self.kind == "depthwise":
            return self.kernel * self.kernel * self.out_channels
        if self.kind in ("conv", "linear"):
            return self.kernel * self.kernel * self.in_channels * self.out_channels // self.groups
        return 0

    @property
    def params(self) -> int:
        """Number of parameters.

        Weights, biases, two values per normalised channel (running statistics are no parameters), and layer scales.
        """
        return self.weights + self.out_channels * (int(self.bias) + 2 * bool(self.norm) + bool(self.scale))

    @property
    def macs(self) -> int:
        """Multiply-adds of a convolution, linear layer or matrix product.

        Bias, norm, activation and pooling count nothing.
        """
        products = self.in_channels * self.out_channels // self.groups if self.kind == "matmul" else self.weights
        return products * self.out_px * self.out_px

    @property
    def activations(self) -> int:
        """Output elements of a convolution or linear layer, otherwise 0.

        The measure of Dollar et al., arXiv:2103.06877.
        """
        return self.out_elements if self.weights else 0

    @property
    def in_elements(self) -> int:
        """Elements of the input tensor.

        Of the first input of a convolution or matrix product, of all inputs together for ``add`` and ``concat``.
        """
        return self.in_channels * self.in_px * self.in_px

    @property
    def out_elements(self) -> int:
        """Elements of the output tensor."""
        return self.out_channels * self.out_px * self.out_px


def out_side(in_px: int, stride: int) -> int:
    """Output side in px of an odd kernel with symmetric or ``same`` padding.

    ceil(in_px / stride), whatever the dilation.
    """
    return -(-in_px // stride)
