"""Published families: the names of their networks, and how these are rounded.

Plain data, with the published networks that each family's rules give.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from nas.arch.spec import ArchSpec

FamilyOrigin = Literal["name", "layers", "request"]


class PublishedFamily(NamedTuple):
    """Rounding rules of one family.

    ``names``: beginnings of its networks' names, without ``tf_`` and ``gc_``. ``evidence``: the published networks that
    ``rules`` give from their base, or that there are none. ``rules``: what differs from ``RoundingRules()``, the rules
    of EfficientNet.
    """

    names: tuple[str, ...]
    evidence: str
    rules: Mapping[str, Any] = MappingProxyType({})


_BUILDER: Final = "no scaled network is published; this is what timm's builder does"

# Sources: the published code of each family, as cited in its module of the zoo, and timm's builders (1.0.31):
# timm/models/efficientnet.py, mobilenetv3.py and hardcorenas.py.
FAMILIES: Final[Mapping[str, PublishedFamily]] = MappingProxyType(
    {
        "efficientnet": PublishedFamily(("efficientnet",), "gives efficientnet_b1 to b8 and l2"),
        "efficientnet_edge": PublishedFamily(
            ("efficientnet_es", "efficientnet_em", "efficientnet_el"), "gives efficientnet_em and el"
        ),
        "efficientnet_lite": PublishedFamily(
            ("efficientnet_lite",),
            "gives efficientnet_lite1 to lite4",
            {"stem": "fixed", "head": "fixed", "fixed_ends": True},
        ),
        "efficientnet_v2": PublishedFamily(("efficientnetv2",), "gives efficientnetv2_b1 to b3", {"round_limit": 0.0}),
        "efficientnet_v2_s": PublishedFamily(
            ("efficientnetv2_s", "efficientnetv2_rw"), "gives efficientnetv2_rw_t and rw_m"
        ),
        "efficientnet_v2_m": PublishedFamily(
            ("efficientnetv2_m", "efficientnetv2_l", "efficientnetv2_xl"), _BUILDER, {"head": "fixed"}
        ),
        "fbnet_c": PublishedFamily(("fbnetc",), _BUILDER, {"head": "fixed"}),
        "fbnet_v3": PublishedFamily(("fbnetv3",), _BUILDER, {"head": "fixed", "round_limit": 0.95}),
        "hardcorenas": PublishedFamily(
            ("hardcorenas",), "no scaled network is published, and timm's builder scales none: EfficientNet's rules"
        ),
        "lcnet": PublishedFamily(("lcnet",), "gives lcnet_035 to 150", {"head": "fixed"}),
        "mixnet": PublishedFamily(
            ("mixnet",), "gives mixnet_l, and timm's xl and xxl", {"depth_rule": "round", "head": "fixed"}
        ),
        "mnasnet": PublishedFamily(
            ("mnasnet", "semnasnet"), "gives mnasnet_050 to 140, semnasnet_050 to 140", {"head": "fixed"}
        ),
        "mobilenet_edgetpu": PublishedFamily(("mobilenet_edgetpu",), _BUILDER, {"head": "fixed"}),
        "mobilenet_v1": PublishedFamily(
            ("mobilenetv1",), "gives mobilenetv1_025 to 125", {"width_rule": "truncate", "head": "grow"}
        ),
        "mobilenet_v2": PublishedFamily(
            ("mobilenetv2",),
            "gives mobilenetv2_035 to 140; timm's deeper 110d and 120d are rounding.family=mobilenet_v2d",
            {"head": "grow"},
        ),
        "mobilenet_v2d": PublishedFamily(
            ("mobilenetv2_110d", "mobilenetv2_120d"),
            "gives timm's mobilenetv2_110d and 120d",
            {"stem": "fixed", "head": "fixed", "fixed_ends": True},
        ),
        "mobilenet_v3": PublishedFamily(
            ("mobilenetv3",),
            "gives mobilenetv3_large_075 and 150d, mobilenetv3_small_050 and 075",
            {"head": "fixed", "fixed_stem_below": 0.75},
        ),
        "mobilenet_v3_rw": PublishedFamily(("mobilenetv3_rw",), _BUILDER, {"head": "fixed"}),
        "mobilenet_v4": PublishedFamily(
            ("mobilenetv4",),
            "gives mobilenetv4_conv_small_035 and 050, hybrid_medium_075, hybrid_large_075",
            {"head": "fixed", "fixed_stem_below": 1.0},
        ),
        "spnasnet": PublishedFamily(("spnasnet",), _BUILDER, {"head": "fixed"}),
        "test_efficientnet": PublishedFamily(("test_efficientnet",), _BUILDER, {"round_limit": 0.0}),
        "tinynet": PublishedFamily(
            ("tinynet",),
            "gives tinynet_a to e, of efficientnet_b0",
            {"depth_rule": "round", "stem": "fixed", "head": "grow"},
        ),
    }
)
# Longer beginnings first: mobilenetv2_110d is also a mobilenetv2.
_BEGINNINGS: Final = sorted(
    ((beginning, name) for name, family in FAMILIES.items() for beginning in family.names),
    key=lambda pair: -len(pair[0]),
)


def family_of(baseline: ArchSpec) -> str:
    """Family whose rounding rules fit ``baseline``, by its name or its layers."""
    return find_family(baseline)[0]


def find_family(baseline: ArchSpec) -> tuple[str, FamilyOrigin]:
    """Family of ``baseline``, and whether its name or its layers say so.

    A name that is not a published one is decided by the layers: universal inverted bottlenecks are MobileNetV4's, a
    head that pools first MobileNetV3's (of a detector or segmenter, whose head does not pool: a 1x1 convolution as the
    last stage), dense convolutions before fused blocks EfficientNetV2's, a depthwise
    convolution of several kernels MixNet's; anything else is scaled as EfficientNet.
    """
    name = re.sub(r"^(tf|gc)_", "", baseline.name)
    for beginning, family in _BEGINNINGS:
        if re.match(rf"{beginning}(?![a-z])", name):
            return family, "name"
    return _family_by_layers(baseline), "layers"


def _family_by_layers(baseline: ArchSpec) -> str:
    blocks = [block for stage in baseline.stages for block in stage.blocks]
    types = {block.type for block in blocks}
    if "uir" in types:
        return "mobilenet_v4"
    if baseline.head.pools_first or _ends_with_expansion(baseline):
        return "mobilenet_v3"
    if blocks[0].type == "cn" and blocks[0].kernels != (1,) and "er" in types:
        return "efficientnet_v2"
    return "mixnet" if any(len(block.kernels) > 1 for block in blocks) else "efficientnet"


def _ends_with_expansion(baseline: ArchSpec) -> bool:
    """Whether a detector or segmenter has a 1x1 convolution as its last stage."""
    last = baseline.stages[-1].blocks[-1]
    return baseline.task != "classification" and last.type == "cn" and last.kernels == (1,)
