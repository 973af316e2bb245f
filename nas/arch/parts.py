"""Stem, head, squeeze-excite and normalisation of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from nas.arch.blocks import BlockSpec
from nas.arch.limits import MAX_CHANNELS, MAX_KERNEL
from nas.arch.rounding import make_divisible
from nas.core.errors import SpecError, quoted
from nas.core.formatting import alternatives

HeadKind = Literal["conv_pool", "pool_conv", "pool_conv_norm", "pool_conv_plain"]
HEAD_KINDS: Final = ("conv_pool", "pool_conv", "pool_conv_norm", "pool_conv_plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class StemSpec:
    """The first convolution of a network, with norm and activation.

    ``channels``: filters. ``kernel``: odd side in px. ``stride``: 1 or 2.

    Raises: SpecError for values out of range.
    """

    channels: int
    kernel: int = 3
    stride: int = 2

    def __post_init__(self) -> None:
        if self.channels < 1 or self.kernel < 1 or self.kernel % 2 == 0 or self.stride not in (1, 2):
            raise SpecError(f"stem {self}: needs positive channels, an odd kernel and stride 1 or 2.")
        if self.channels > MAX_CHANNELS or self.kernel > MAX_KERNEL:
            raise SpecError(
                f"stem {quoted(self)}: at most {MAX_CHANNELS} channels, and a kernel of at most {MAX_KERNEL} px."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """The layers between the last stage and the classifier.

    ``conv_pool``: 1x1 convolution with norm and activation, then global pooling (MobileNetV2, EfficientNet);
    ``channels`` 0 omits the convolution (MobileNetV1). ``pool_conv``: pooling first, then a 1x1 convolution with bias
    and activation (the efficient last stage of MobileNetV3, section 5.1); ``pool_conv_norm`` has a norm in place of the
    bias (MobileNetV4), ``pool_conv_plain`` neither (FBNetV3).

    Raises: SpecError for an unknown kind, and for channels out of range.
    """

    channels: int
    kind: HeadKind = "conv_pool"

    def __post_init__(self) -> None:
        if self.kind not in HEAD_KINDS:
            raise SpecError(f"head kind {self.kind!r}: must be {alternatives(HEAD_KINDS)}.")
        if self.channels < int(self.pools_first):
            raise SpecError(f"head channels {self.channels!r}: must be positive (0, no convolution, with conv_pool).")
        if self.channels > MAX_CHANNELS:
            raise SpecError(f"head channels {quoted(self.channels)}: must be at most {MAX_CHANNELS}.")

    @property
    def pools_first(self) -> bool:
        """Whether the head's convolution acts on the pooled map."""
        return self.kind != "conv_pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqueezeExcite:
    """Conventions of squeeze-excite: its channel rule and its functions.

    ``relative_to``: whether ``se_ratio`` is relative to ``input`` (EfficientNet, MixNet, MnasNet) or ``expanded``
    (MobileNetV3) channels. ``divisor``: 1 rounds to whole channels, 8 as MobileNetV3; ``round_limit``: the least share
    of the channels that rounding to 8 may leave (0.95 in FBNetV3). ``activation``: of the first 1x1 convolution; None
    is the block's. ``gate``: of the second.

    Raises: SpecError for values that are not allowed.
    """

    relative_to: Literal["input", "expanded"] = "input"
    divisor: int = 1
    round_limit: float = 0.9
    activation: Literal["relu"] | None = None
    gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid"

    def __post_init__(self) -> None:
        if self.relative_to not in ("input", "expanded") or self.gate not in ("sigmoid", "hard_sigmoid"):
            raise SpecError(f"{self}: relative_to is input or expanded, gate is sigmoid or hard_sigmoid.")
        if self.divisor not in (1, 8) or self.activation not in (None, "relu"):
            raise SpecError(f"{self}: divisor is 1 or 8, activation is relu or none (the block's).")
        if not 0 <= self.round_limit <= 1:
            raise SpecError(f"{self}: round_limit must lie between 0 and 1.")

    def squeeze_channels(self, block: BlockSpec, hidden: int) -> int:
        """Channels between the two 1x1 convolutions of ``block``'s squeeze-excite.

        ``hidden``: channels of the block where squeeze-excite acts.
        """
        ratio = block.se_ratio
        if self.relative_to == "input" and block.has_expansion:
            ratio /= block.expansion
        if self.divisor == 8:
            return make_divisible(hidden * ratio, round_limit=self.round_limit)
        return max(1, round(hidden * ratio))


MOBILENET_V3_SE: Final = SqueezeExcite(relative_to="expanded", divisor=8, activation="relu", gate="hard_sigmoid")


@dataclass(frozen=True, slots=True, kw_only=True)
class NormSpec:
    """Batch normalisation: ``eps``, and ``momentum`` in torch's convention.

    Torch's momentum is the weight of the new batch.

    Raises: SpecError for values out of range.
    """

    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.eps <= 1 and 0 < self.momentum <= 1):
            raise SpecError(f"{self}: eps must be positive and at most 1, momentum in (0, 1].")
