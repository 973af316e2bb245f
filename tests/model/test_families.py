"""Scaled families against timm's builders at the same coefficients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
from timm.models.efficientnet import _gen_efficientnet, _gen_mixnet_m

from nas.arch import zoo
from nas.arch.files import dump_scaled_spec
from nas.arch.scaling.compound import ScaledNetwork, scale_rounded
from nas.arch.scaling.family import family
from nas.arch.scaling.rounding_rules import RoundingRules
from nas.arch.scaling.transform import Compound, Factors
from tests.model.torch_counts import without_storage
from tests.paths import REFERENCE

REFERENCE = REFERENCE / "scaling.json"
TINYNET = json.loads(REFERENCE.read_text(encoding="utf-8"))["tinynet"]
TINYNET_RULES = RoundingRules(depth_rule="round", stem="fixed", head="grow", resolution_rule="exact")


def shapes(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]


def loaded(member: ScaledNetwork, folder: Path) -> Any:
    path = folder / f"{member.arch.name}.yaml"
    path.write_text(dump_scaled_spec(member.baseline, member.scaling), encoding="utf-8")
    return timm.create_model("nas_arch", spec=str(path))


@pytest.mark.parametrize(
    ("name", "builder"), [("efficientnet_b0", _gen_efficientnet), ("mixnet_m", _gen_mixnet_m)], ids=["b0", "mixnet_m"]
)
def test_formula_members_match_timm_at_their_coefficients(name: str, builder: Any, tmp_path: Path) -> None:
    member = family(zoo.get(name), Compound(), [2])[0]
    with without_storage():
        theirs = builder(name, channel_multiplier=1.1**2, depth_multiplier=1.2**2)
        ours = loaded(member, tmp_path)
    assert shapes(ours) == shapes(theirs)
    assert sum(parameter.numel() for parameter in ours.parameters()) == member.cost.params


def test_published_members_match_timm(tmp_path: Path) -> None:
    member = family(zoo.get("efficientnet_b0"), "published", [1])[0]
    with without_storage():
        assert shapes(loaded(member, tmp_path)) == shapes(timm.create_model("efficientnet_b1"))


@pytest.mark.parametrize("row", [TINYNET["models"][0], TINYNET["models"][4]], ids=lambda row: row["name"])
def test_tinynets_are_scaled_down_b0(row: dict[str, Any]) -> None:
    """Coefficients below 1 (TinyNet, arXiv:2010.14819), stem and head unscaled."""
    factors = Factors(row["depth"], row["width"], row["resolution"] / 224)
    member = scale_rounded(zoo.get("efficientnet_b0"), factors, TINYNET_RULES)
    with without_storage():
        theirs = timm.create_model(row["name"])
    assert member.cost.params == sum(parameter.numel() for parameter in theirs.parameters())
    assert member.arch.resolution_px == theirs.default_cfg["input_size"][-1] == row["resolution"]
