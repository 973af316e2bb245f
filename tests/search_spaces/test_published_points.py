"""Published networks are points of their family's space."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from nas.arch import zoo
from nas.arch.scaling.transform import PUBLISHED_EFFICIENTNET, scale
from nas.arch.spec import ArchSpec, StageSpec
from nas.arch.zoo.mobilenet_v1 import mobilenet_v1
from nas.core.errors import NasError
from search_spaces.space import SearchSpace
from tests.paths import CONF

Load = Callable[..., SearchSpace]
SPACES = sorted(path.stem for path in (CONF / "space").glob("*.yaml"))
MEMBERS = {
    "mixnet": ("mixnet_s", "mixnet_m", "mixnet_l"),
    "mnasnet": ("mnasnet_100", "semnasnet_100"),
    "efficientnet": ("efficientnet_b0",),
    "mobilenet_v1": ("mobilenetv1_025", "mobilenetv1_050", "mobilenetv1_075", "mobilenetv1_100"),
    "mobilenet_v3": ("mobilenetv3_large_100", "mobilenetv3_large_075"),
    "mobilenet_v3_small": ("mobilenetv3_small_100", "mobilenetv3_small_075", "mobilenetv3_small_050"),
}


def check_point(space: SearchSpace, spec: ArchSpec) -> None:
    decoded = space.decode(space.encode(spec))
    assert decoded.canonical() == spec.canonical()
    assert decoded.arch_id == spec.arch_id


def test_every_space_has_members() -> None:
    assert sorted(MEMBERS) == SPACES


@pytest.mark.parametrize(("space", "member"), [(s, m) for s, members in MEMBERS.items() for m in members])
def test_published_network_is_a_point(load: Load, space: str, member: str) -> None:
    check_point(load(space), zoo.get(member))


@pytest.mark.parametrize(("space", "member"), [(s, m) for s, members in MEMBERS.items() for m in members[:1]])
def test_published_point_has_the_published_drop_rates(load: Load, space: str, member: str) -> None:
    spec = zoo.get(member)
    decoded = load(space).decode(load(space).encode(spec))
    assert (decoded.dropout, decoded.drop_path) == (spec.dropout, spec.drop_path)


def test_the_size_in_the_yaml_comment(load: Load) -> None:
    for name in SPACES:
        text = (CONF / "space" / f"{name}.yaml").read_text(encoding="utf-8")
        written = text.split("Points: ")[1].split()[0]
        size = load(name).size
        assert written == (str(size) if size < 100 else f"{size:.1e}".replace("+0", "").replace("+", "")), name


def test_mobilenet_v1_is_the_sixteen_published_networks(load: Load) -> None:
    space = load("mobilenet_v1")
    published = {
        mobilenet_v1(width, side).arch_id
        for width, side in itertools.product((0.25, 0.5, 0.75, 1.0), (128, 160, 192, 224))
    }
    points = itertools.product(*space.parameters.values())
    decoded = {space.decode(dict(zip(space.parameters, point, strict=True))).arch_id for point in points}
    assert decoded == published
    assert space.size == len(published) == 16


def test_mobilenet_v1_truncates_or_rounds(load: Load) -> None:
    widths = {"width": [0.3, 0.6], "resolution_px": 224}
    truncated = load("mobilenet_v1", **widths).decode({"width": 0.3})
    rounded = load("mobilenet_v1", **widths, scaling={"width_rule": "divisor"}).decode({"width": 0.3})
    # Base channels 32 (stem), 64, 128, 256, 512, 1024 times 0.3: 9.6, 19.2, 38.4, 76.8, 153.6, 307.2.
    for spec, channels in ((truncated, (9, 19, 38, 76, 153, 307)), (rounded, (16, 24, 40, 80, 152, 304))):
        assert (spec.stem.channels, *(stage.blocks[0].channels for stage in spec.stages)) == channels


@pytest.mark.parametrize("member", PUBLISHED_EFFICIENTNET)
def test_efficientnets_are_points_at_their_coefficients(load: Load, member: str) -> None:
    own = PUBLISHED_EFFICIENTNET[member]
    space = load("efficientnet", width=own.width, depth=own.depth, resolution_px=own.resolution_px)
    check_point(space, zoo.get(f"efficientnet_{member}"))
    base, scaling = space.decode_base(space.encode(zoo.get(f"efficientnet_{member}")))
    assert (scaling.width, scaling.depth, scaling.resolution_px) == (own.width, own.depth, own.resolution_px)
    assert replace(base, resolution_px=224).arch_id == zoo.get("efficientnet_b0").arch_id


@pytest.mark.parametrize("name", [*SPACES, "tiny"])
def test_random_points_round_trip(load: Load, name: str) -> None:
    space, rng = load(name), random.Random(name)
    for _ in range(60):
        genotype = space.sample(rng)
        spec = space.decode(genotype, classes=10, in_channels=1)
        assert (spec.classes, spec.in_channels, spec.name) == (10, 1, space.name)
        assert scale(*space.decode_base(genotype, classes=10, in_channels=1)) == spec
        again = space.decode(space.encode(spec), classes=10, in_channels=1)
        assert again.arch_id == spec.arch_id, genotype


def test_encode_names_the_first_difference(load: Load) -> None:
    with pytest.raises(NasError, match=r"s2\.b0 needs kernels \(3, 5, 7\), the space offers 1, 2 for s2\.b0\.groups"):
        load("mixnet", choices={"groups": [1, 2]}).encode(zoo.get("mixnet_s"))


def test_group_sizes_are_not_in_any_space(load: Load) -> None:
    spec = zoo.get("efficientnet_b0")
    block = replace(spec.stages[3].blocks[0], group_size=8)
    grouped = replace(spec, stages=(*spec.stages[:3], StageSpec((block,)), *spec.stages[4:]))
    with pytest.raises(NasError, match=r"s3\.b0 needs group_size 8, which no block of the space has"):
        load("efficientnet").encode(grouped)


def test_a_space_may_have_gelu(load: Load) -> None:
    own = load("mixnet", activation="gelu")
    genotype = own.sample(random.Random(0))
    spec = own.decode(genotype)
    assert own.decode(own.encode(spec)).arch_id == spec.arch_id


@pytest.mark.parametrize(
    ("space", "member", "message"),
    [
        ("efficientnet", "efficientnet_b1", "resolution_px is 240, the space has 224"),
        ("efficientnet", "efficientnet_lite0", "activation is relu6, the space has swish"),
        ("mobilenet_v1", "mobilenetv1_shallow_100", "stage 3 has depth 1, the space offers 6"),
        ("mobilenet_v1", "mobilenetv1_full_conv_100", "s0.b0 needs type cn, the space has dsa"),
        ("mobilenet_v3", "mobilenetv3_small_100", "it has 6 stages, the space has 7"),
        ("mobilenet_v3", "tf_mobilenetv3_large_100", "norm is NormSpec"),
    ],
)
def test_networks_outside_the_space_are_refused(load: Load, space: str, member: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        load(space).encode(zoo.get(member))
