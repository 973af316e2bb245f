"""Scaling of a spec in width, depth and resolution, and compound scaling.

Pure functions of a spec, and the published coefficients of EfficientNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from nas.arch.blocks import BlockSpec
from nas.arch.heads.parts import LRASPPHead, SSDLiteHead
from nas.arch.limits import MAX_CHANNELS, MAX_FACTOR, MAX_RESOLUTION_PX
from nas.arch.parts import HeadSpec
from nas.arch.rounding import (
    DEPTH_RULES,
    ROUND_LIMIT,
    WIDTH_RULES,
    DepthRule,
    WidthRule,
    scale_channels,
    scale_repeats,
)
from nas.arch.spec import ArchSpec, StageSpec
from nas.core.errors import NasError, quoted, unknown_choice
from nas.core.validation import check_number

Head = HeadSpec | SSDLiteHead | LRASPPHead
EndRule = Literal["scale", "fixed", "grow"]
END_RULES: Final = ("scale", "fixed", "grow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Multipliers of a network and the rules that round their results.

    ``width`` and ``depth`` multiply channels and repeats; ``resolution_px`` is the new input side (None keeps it).
    ``width_rule``, ``divisor``, ``round_limit``, ``depth_rule``: as in ``scale_channels`` and ``scale_repeats``.
    ``stem`` and ``head``: ``scale`` with the width, keep ``fixed``, or ``grow`` (scale above 1 only; MobileNetV2's
    head). ``fixed_ends``: first and last stage keep their repeats (EfficientNet-Lite). ``dropout``, ``drop_path``: None
    keeps the network's.

    Raises: NasError for values out of range and unknown rules.
    """

    width: float = 1.0
    depth: float = 1.0
    resolution_px: int | None = None
    dropout: float | None = None
    drop_path: float | None = None
    width_rule: WidthRule = "divisor"
    divisor: int = 8
    round_limit: float = ROUND_LIMIT
    depth_rule: DepthRule = "ceil"
    stem: EndRule = "scale"
    head: EndRule = "scale"
    fixed_ends: bool = False

    def __post_init__(self) -> None:
        for field in ("width", "depth"):
            value = getattr(self, field)
            if not 0 < value <= MAX_FACTOR:
                raise NasError(
                    f"{field} {quoted(value)}: a multiplier must be a positive number, at most {MAX_FACTOR:g}."
                )
        if self.resolution_px is not None and not 1 <= self.resolution_px <= MAX_RESOLUTION_PX:
            most = f"at most {MAX_RESOLUTION_PX}"
            raise NasError(f"resolution_px {quoted(self.resolution_px)}: must be a positive number of pixels, {most}.")
        if not 1 <= self.divisor <= MAX_CHANNELS:
            raise NasError(f"divisor {quoted(self.divisor)}: must be at least 1 and at most {MAX_CHANNELS}.")
        check_number("round_limit", self.round_limit, low=0, high=1)
        rules = (("width_rule", WIDTH_RULES), ("depth_rule", DEPTH_RULES), ("stem", END_RULES), ("head", END_RULES))
        for field, allowed in rules:
            if getattr(self, field) not in allowed:
                raise unknown_choice(field, getattr(self, field), allowed)

    def channels(self, channels: int) -> int:
        """Scale ``channels`` by the width multiplier and its rounding rule."""
        return scale_channels(
            channels, self.width, rule=self.width_rule, divisor=self.divisor, round_limit=self.round_limit
        )

    def end_channels(self, channels: int, rule: EndRule) -> int:
        """Scale the ``channels`` of stem or head under ``rule``."""
        if rule == "fixed" or channels == 0:
            return channels
        scaled = self.channels(channels)
        return max(channels, scaled) if rule == "grow" else scaled


def scale(spec: ArchSpec, scaling: Scaling, *, name: str | None = None) -> ArchSpec:
    """Apply ``scaling`` to ``spec``.

    Channels are rounded at width 1 too, as timm does. The own channels of the head of a detector or segmenter scale
    with those of the stages, whatever the rule of the 1x1 convolution after the last stage (as ``depth_multiplier``
    does in TensorFlow's object detection), and its dropout stays. ``name``: None keeps the spec's.

    Raises: SpecError for a block that gets room for a shortcut and of which it is not known whether it has one.
    """
    last = len(spec.stages) - 1
    stages = tuple(
        _scale_stage(stage, scaling, depth=1.0 if scaling.fixed_ends and index in (0, last) else scaling.depth)
        for index, stage in enumerate(spec.stages)
    )
    return replace(
        spec,
        name=name or spec.name,
        stem=replace(spec.stem, channels=scaling.end_channels(spec.stem.channels, scaling.stem)),
        stages=stages,
        head=_scale_head(spec.head, scaling),
        resolution_px=scaling.resolution_px or spec.resolution_px,
        dropout=spec.dropout if scaling.dropout is None or spec.task != "classification" else scaling.dropout,
        drop_path=spec.drop_path if scaling.drop_path is None else scaling.drop_path,
    )


def _scale_head(head: Head, scaling: Scaling) -> Head:
    channels = scaling.end_channels(head.channels, scaling.head)
    if isinstance(head, SSDLiteHead):
        extra = tuple([scaling.channels(one) for one in head.extra_channels])
        return replace(head, channels=channels, extra_channels=extra)
    if isinstance(head, LRASPPHead):
        return replace(head, channels=channels, filters=scaling.channels(head.filters))
    return replace(head, channels=channels)


def head_channels(head: Head) -> tuple[int, ...]:
    """Channels of a head that scale: of the 1x1 convolution before it, and its own."""
    if isinstance(head, SSDLiteHead):
        return (head.channels, *head.extra_channels)
    return (head.channels, head.filters) if isinstance(head, LRASPPHead) else (head.channels,)


def _scale_stage(stage: StageSpec, scaling: Scaling, *, depth: float) -> StageSpec:
    repeats = scale_repeats([block.repeats for block in stage.blocks], depth, scaling.depth_rule)
    blocks: Sequence[BlockSpec] = [
        replace(
            block,
            repeats=count,
            channels=scaling.channels(block.channels),
            base_channels=block.base_channels and scaling.channels(block.base_channels),
        )
        for block, count in zip(stage.blocks, repeats, strict=True)
    ]
    return StageSpec(tuple(blocks))


class Factors(NamedTuple):
    """Multipliers of depth, width and input side."""

    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0

    def times(self, other: Factors) -> Factors:
        """The product of two sets of multipliers."""
        return Factors(self.depth * other.depth, self.width * other.width, self.resolution * other.resolution)


UNSCALED: Final = Factors()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compound:
    """EfficientNet's compound scaling coefficients (equation 3).

    Depth alpha^phi, width beta^phi, resolution gamma^phi.

    Raises: NasError for a coefficient below 1.
    """

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self) -> None:
        for field in ("alpha", "beta", "gamma"):
            value = getattr(self, field)
            if not value >= 1:
                raise NasError(f"{field} {quoted(value)}: must be at least 1 (EfficientNet, equation 3).")
            if value > MAX_FACTOR:
                raise NasError(f"{field} {quoted(value)}: must be at most {MAX_FACTOR:g}.")

    @property
    def macs_growth(self) -> float:
        """Growth of MACs per unit of phi before rounding: alpha * beta^2 * gamma^2.

        1.920 for the published coefficients.
        """
        return self.alpha * self.beta**2 * self.gamma**2

    def factors(self, phi: float) -> Factors:
        """Multipliers at ``phi``, before rounding."""
        return Factors(self.alpha**phi, self.beta**phi, self.gamma**phi)

    def __str__(self) -> str:
        return f"{self.alpha:g}/{self.beta:g}/{self.gamma:g}"


def coefficients_of(value: object) -> Compound:
    """Parse ``coefficients=``: ``published`` or ``[alpha, beta, gamma]``.

    Raises: NasError for anything else.
    """
    if value == "published":
        return Compound()
    if not isinstance(value, list) or len(value) != 3 or not all(type(factor) in (int, float) for factor in value):
        raise NasError(f"coefficients {quoted(value)}: must be [alpha,beta,gamma] of at least 1 each, or published.")
    alpha, beta, gamma = map(float, value)
    return Compound(alpha=alpha, beta=beta, gamma=gamma)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Hand-rounded coefficients of one published EfficientNet.

    ``width``, ``depth``: multipliers. ``resolution_px``: input side. ``dropout``: rate before the classifier.
    """

    width: float
    depth: float
    resolution_px: int
    dropout: float


def _published(width: float, depth: float, resolution_px: int, dropout: float) -> Coefficients:
    return Coefficients(width=width, depth=depth, resolution_px=resolution_px, dropout=dropout)


# tensorflow/tpu, models/official/efficientnet/efficientnet_builder.py. No single phi gives those of B1 and above.
PUBLISHED_EFFICIENTNET: Final = {
    "b0": _published(1.0, 1.0, 224, 0.2),
    "b1": _published(1.0, 1.1, 240, 0.2),
    "b2": _published(1.1, 1.2, 260, 0.3),
    "b3": _published(1.2, 1.4, 300, 0.3),
    "b4": _published(1.4, 1.8, 380, 0.4),
    "b5": _published(1.6, 2.2, 456, 0.4),
    "b6": _published(1.8, 2.6, 528, 0.5),
    "b7": _published(2.0, 3.1, 600, 0.5),
    "b8": _published(2.2, 3.6, 672, 0.5),
    "l2": _published(4.3, 5.3, 800, 0.5),
}
# The same repository, lite/efficientnet_lite_builder.py.
PUBLISHED_EFFICIENTNET_LITE: Final = {
    "lite0": _published(1.0, 1.0, 224, 0.2),
    "lite1": _published(1.0, 1.1, 240, 0.2),
    "lite2": _published(1.1, 1.2, 260, 0.3),
    "lite3": _published(1.2, 1.4, 280, 0.3),
    "lite4": _published(1.4, 1.8, 300, 0.3),
}
# google/automl, efficientnetv2/effnetv2_configs.py, sides of the training. S, M, L and XL are no scaled networks.
PUBLISHED_EFFICIENTNET_V2: Final = {
    "b0": _published(1.0, 1.0, 192, 0.2),
    "b1": _published(1.0, 1.1, 192, 0.2),
    "b2": _published(1.1, 1.2, 208, 0.3),
    "b3": _published(1.2, 1.4, 240, 0.3),
}


def published_coefficients(table: dict[str, Coefficients], member: str, **rules: EndRule | bool) -> Scaling:
    """``Scaling`` by the published coefficients of ``member``, with further ``rules``.

    Raises: NasError for a member that is not in ``table``.
    """
    if member not in table:
        raise unknown_choice("family member", member, table)
    coefficients = table[member]
    return Scaling(
        width=coefficients.width,
        depth=coefficients.depth,
        resolution_px=coefficients.resolution_px,
        dropout=coefficients.dropout,
        **rules,  # type: ignore[arg-type]
    )
