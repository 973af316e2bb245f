"""Tests of nas.scale: published networks, spec files, families, bad settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.files import dump_spec, load_spec, load_spec_file
from nas.core.errors import NasError
from nas.scale import command
from tests.json_output import MS_PER_GMAC, json_answer


def scaled_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return json_answer(command, capsys, (*arguments, "latency=macs"))


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["rule=published", "phi=4"],
        ["coefficients=published", "phi=b4"],
        ["width=1.4", "depth=1.8", "resolution_px=380"],
    ],
)
def test_every_way_to_b4(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    data = scaled_json(capsys, "arch=efficientnet_b0", *arguments)
    assert (data["params"], data["macs"]) == (19_341_616, 4_393_771_024)
    assert data["arch_id"] == zoo.get("efficientnet_b4").arch_id
    assert data["growth"]["macs"] == 4_393_771_024 / 385_814_752
    assert data["rule"] == ("multipliers" if "width=1.4" in arguments else "published")
    assert data["path"] is None
    assert list(Path.cwd().iterdir()) == []


def test_target_ms_is_the_largest_phi_within_it(capsys: pytest.CaptureFixture[str]) -> None:
    data = scaled_json(capsys, "arch=mixnet_s", "target_ms=25")
    above = scaled_json(capsys, "arch=mixnet_s", f"phi={data['phi'] + 0.001}")
    assert data["latency_ms"] == pytest.approx(data["macs"] * 1e-9 * MS_PER_GMAC)
    assert data["latency_ms"] <= 25 < above["latency_ms"]
    assert scaled_json(capsys, "arch=mixnet_s", f"target_macs_m={25e3 / MS_PER_GMAC}")["arch_id"] == data["arch_id"]


def test_a_target_below_the_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    data = scaled_json(capsys, "mobilenetv2_100", "target_macs_m=180", "out=small.yaml")
    above = scaled_json(capsys, "mobilenetv2_100", f"phi={data['phi'] + 0.001}")
    assert data["phi"] < 0 < data["growth"]["macs"] < 1
    assert data["macs"] <= 180e6 < above["macs"]
    assert data["name"] == f"mobilenetv2_100_phi{data['phi']:g}"
    found = load_spec_file("small.yaml")
    assert (found.arch.arch_id, found.provenance["phi"]) == (data["arch_id"], data["phi"])


def test_rewrites_print_what_they_save(capsys: pytest.CaptureFixture[str]) -> None:
    """MobileNetV2 ends as figure 5 of the MobileNetV3 paper does: 34.3 of its 300.8 million multiply-adds go."""
    assert command(["mobilenetv2_100", "head=pool_conv", "hswish_from=0.5", "latency=macs", "out=small.yaml"]) == 0
    out = capsys.readouterr().out
    rows = {words[0]: words[1:] for line in out.splitlines() if len(words := line.split()) < 8 and words}
    assert rows["mobilenetv2_100"] == ["300.8M", "3.5M", "9.02"]
    assert rows["head=pool_conv"] == ["266.5M", "11.4%", "4.0M", "-14.3%", "7.99", "11.4%"]
    assert rows["hswish_from=0.5"] == ["266.5M", "0.0%", "4.0M", "0.0%", "7.99", "0.0%"]
    assert "head=pool_conv: the 1x1 convolution to 1280 channels acts on the pooled map; of the last block, " in out
    assert "hswish_from=0.5: h-swish in blocks 10 to 17 of 17 (from blocks.3.3, 64 channels), stem and head; " in out
    found = load_spec_file("small.yaml")
    assert (found.provenance["baseline"], found.arch.name) == ("mobilenetv2_100", "mobilenetv2_100_pool_conv_hs0.5")
    assert found.provenance["rewrites"] == ["head=pool_conv", "hswish_from=0.5"]
    assert found.arch.strings[-1] == ("cn_r1_k1_s1_c960",)
    assert {"phi", "rule", "rounding"}.isdisjoint(found.provenance)


def test_rewrites_before_scaling(capsys: pytest.CaptureFixture[str]) -> None:
    data = scaled_json(capsys, "mobilenetv2_100", "head=pool_conv", "phi=-1", "out=small.yaml")
    (step,) = data["rewrites"]
    assert (data["baseline"], step["after"]["name"]) == ("mobilenetv2_100", "mobilenetv2_100_pool_conv")
    assert step["saved"]["macs"] == 34_317_760 == step["before"]["macs"] - step["after"]["macs"]
    assert data["growth"]["macs"] == data["macs"] / step["after"]["macs"]
    assert load_spec("small.yaml").arch_id == data["arch_id"]
    assert command(["mobilenetv2_100", "head=pool_conv", "depth=1.2", "latency=macs"]) == 0
    assert "depth 1.2 repeats the last stage, cn_r1_k1_s1_c960, 2 times" in capsys.readouterr().out
    assert command(["mixnet_s", "hswish_from=0", "depth=2", "latency=macs"]) == 0
    assert "repeats the last stage" not in capsys.readouterr().out  # which is as it was, but for its activation
    members = scaled_json(capsys, "mobilenetv2_100", "head=pool_conv", "family=true", "phis=[-1]")["members"]
    assert [member["arch_id"] for member in members] == [data["arch_id"]]


def test_the_file_that_is_written_is_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    data = scaled_json(capsys, "arch=mixnet_s", "phi=1.5", "rule=dwr", "out=small/wide.yaml")
    found = load_spec_file("small/wide.yaml")
    assert (found.arch.name, found.arch.arch_id) == ("mixnet_s_dwr_phi1.5", data["arch_id"])
    assert complexity(found.arch).macs == data["macs"] == found.provenance["macs"]
    assert (found.arch.dropout, found.provenance["baseline"]) == (data["dropout"], "mixnet_s")
    again = scaled_json(capsys, "arch=small/wide.yaml", "width=1")
    assert again["arch_id"] == data["arch_id"]
    assert scaled_json(capsys, "arch=mixnet_s", "phi=1.5", "rule=dwr", "out=small/wide.yaml") == data


def test_the_table_shows_both_and_their_growth(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["arch=efficientnet_b0", "phi=1", "latency=macs"]) == 0
    out = capsys.readouterr().out
    rows = {line.split(",")[0].strip().split("  ")[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["depth"][-4:] == ["16", "23", f"{23 / 16:.3f}", "1.200"]
    assert rows["resolution"][-4:] == ["224", "256", f"{256 / 224:.3f}", "1.150"]
    assert rows["parameters"][-3:] == ["5.3M", "9.1M", f"{9109994 / 5288548:.3f}"]
    assert "never compared with measurements" in out


@pytest.mark.parametrize(
    ("arguments", "published"),
    [
        (["mobilenetv3_small_100", "width=0.5"], "mobilenetv3_small_050"),
        (["mobilenetv2_100", "width=1.1", "depth=1.2", "rounding.family=mobilenet_v2d"], "mobilenetv2_110d"),
        (["mobilenetv2_110d", "width=1"], "mobilenetv2_110d"),
    ],
)
def test_a_published_width_is_the_published_network(
    capsys: pytest.CaptureFixture[str], arguments: list[str], published: str
) -> None:
    assert scaled_json(capsys, *arguments)["arch_id"] == zoo.get(published).arch_id


def test_the_rounding_rules_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["mobilenetv3_small_100", "width=0.5", "latency=macs", "out=half.yaml"]) == 0
    out = capsys.readouterr().out
    assert "rounding: channels to multiples of 8, at least 90%" in out and "stem: scale, fixed below width 0.75" in out
    assert "rules of the family mobilenet_v3, by the network's name (gives mobilenetv3_large_075" in out
    data = scaled_json(capsys, "mobilenetv3_small_100", "width=0.5", "rounding.stem=scale", "rounding.head=grow")
    rounding = data["rounding"]
    assert (rounding["family"], rounding["found_by"]) == ("mobilenet_v3", "name")
    assert rounding["overridden"] == ["head", "fixed_stem_below"]  # the family's stem rule is "scale" too
    assert (rounding["stem"], rounding["head"], rounding["fixed_stem_below"]) == ("scale", "grow", 0)
    written = load_spec_file("half.yaml").provenance["rounding"]
    assert written == rounding | {"overridden": [], "head": "fixed", "fixed_stem_below": 0.75}
    assert command(["hardcorenas", "--help"]) == 0
    help_text = " ".join(capsys.readouterr().out.split())
    assert all(family in help_text for family in ("mobilenet_v2d", "efficientnet_v2", "tinynet"))
    Path("mine.yaml").write_text(dump_spec(replace(zoo.get("mnasnet_small"), name="hardcorenas_z")), encoding="utf-8")
    assert command(["mine.yaml", "family=true", "phis=[1]", "latency=macs"]) == 0
    out = capsys.readouterr().out
    assert "hardcorenas, by the network's name (no scaled network is published, and timm's builder scales none" in out


def test_a_target_that_rounding_does_not_reach_says_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    """Any depth above 1 adds seven blocks to B0 and 48% of its MACs.

    The depth rule is the ceiling; nothing lies between.
    """
    assert command(["arch=efficientnet_b0", "target_macs_m=500", "latency=macs"]) == 0
    assert "rounding left the baseline unchanged; rounding.depth_rule=round" in capsys.readouterr().out
    finer = scaled_json(capsys, "arch=efficientnet_b0", "target_macs_m=500", "rounding.depth_rule=round")
    assert 450e6 < finer["macs"] <= 500e6


def test_a_family_is_printed_and_written_whole(capsys: pytest.CaptureFixture[str]) -> None:
    data = scaled_json(capsys, "arch=efficientnet_b0", "family=true", "phis=[2,0,1]")
    members = data["members"]
    assert [(member["rule"], member["phi"]) for member in members] == [
        (rule, phi) for phi in (0, 1, 2) for rule in ("published", "compound")
    ]
    for member in members:
        found = load_spec(member["path"])
        assert (found.arch_id, found.name) == (member["arch_id"], member["name"])
        assert (found.dropout, found.drop_path) == (member["dropout"], 0.2)
    assert [member["params"] for member in members[::2]] == [5_288_548, 7_794_184, 9_109_994]
    assert Path(members[0]["path"]) == Path("runs/families/efficientnet_b0/published/efficientnet_b0.yaml")
    assert command(["arch=efficientnet_b0", "family=true", "phis=[2,0,1]", "latency=macs"]) == 0
    out = capsys.readouterr().out
    assert "written: 6 spec files in runs/families/efficientnet_b0" in out
    assert sum("published" in line for line in out.splitlines()) == 3


def test_a_family_of_phis_that_were_not_published_has_the_formula_s_alone(capsys: pytest.CaptureFixture[str]) -> None:
    data = scaled_json(capsys, "arch=mixnet_s", "family=true", "phis=[0.5,9]", "coefficients=[1.3,1.1,1.1]", "out=mine")
    assert [(member["rule"], member["coefficients"]) for member in data["members"]] == [
        ("compound", [1.3, 1.1, 1.1])
    ] * 2
    assert sorted(path.name for path in Path("mine/compound").iterdir()) == [
        "mixnet_s_phi0.5.yaml",
        "mixnet_s_phi9.yaml",
    ]


def test_a_name_like_a_path_stays_in_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(dump_spec(replace(zoo.get("mixnet_s"), name="../../x")), encoding="utf-8")
    data = scaled_json(capsys, "arch=mine.yaml", "family=true", "phis=[1]", "out=here")
    assert [member["path"] for member in data["members"]] == [
        "here/published/__.._x_b1.yaml",
        "here/compound/__.._x_phi1.yaml",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["phi=1"], r"which network\? Add arch="),
        (["arch=mixnet_s"], r"nothing to scale by: give phi"),
        (["arch=mixnet_s", "phi=-13"], r"phi -13: must be a number of at least -12 and at most 12"),
        (["arch=mixnet_s", "rule=published", "phi=-1"], r"phi -1: the published members are b0 to b8"),
        (["arch=mixnet_s", "head=conv_pool"], r"unknown head 'conv_pool': choose from pool_conv\."),
        (["arch=mobilenetv1_100", "head=pool_conv"], r"head 'pool_conv': 'mobilenetv1_100' has no convolution"),
        (["arch=mixnet_s", "hswish_from=50"], r"hswish_from 50: must be a number of at least 0 and at most 1, or null"),
        (["arch=mixnet_s", "rule=width1", "phi=1"], r"unknown rule 'width1': choose from .* Did you mean 'width'"),
        (["arch=mixnet_s", "coefficients=[1.2,1.1]", "phi=1"], r"coefficients \[1\.2, 1\.1\]: must be \[alpha"),
        (["arch=mixnet_s", "coefficients=[0.9,1,1]", "phi=1"], r"alpha 0\.9: must be at least 1"),
        (["arch=mixnet_s", "coefficients=published", "rule=dwr", "phi=1"], r"'published': do not apply to rule=dwr"),
        (
            ["arch=mixnet_s", "target_ms=2", "rule=depth"],
            r"target_ms 2: below the smallest network of rule=depth, .* 5\.193; give instead width=0\.4 \(1\.892\), or",
        ),
        (["arch=mixnet_s", "target_ms=20", "phi=1"], r"give one"),
        (
            ["arch=mixnet_s", "resolution_px=20"],
            r"resolution_px 20: too small for .* total stride is 32; use",
        ),
        (["arch=mixnet_s", "rounding.divisor=0", "phi=1"], r"rounding\.divisor 0: must be at least 1"),
        (["arch=mixnet_s", "rounding.stem=no", "phi=1"], r"rounding.*stem"),
        (["arch=mixnet_s", "phi=1", "family=true"], r"family=true scales to all phis"),
        (["arch=mixnet_s", "family=true", "phis=[1,1]"], r"phis \[1, 1\]: must be a list of different numbers"),
        (["arch=mixnet_s", "family=true", "phis=[-13]"], r"phis -13: must be a number of at least -12"),
        (["arch=mixnet_s", "family=true", "phis=[-1,0]", "rule=published"], r"phis -1: nothing is published below"),
        (["arch=mixnet_s", "family=2"], r"family 2: must be true or false"),
        (["arch=mixnet_s", "phi=1", "out=3"], r"out 3: must be the path of a file"),
        (["arch=mixnet_s", "phi=1", "out=spec.txt"], r"out 'spec\.txt': must end in \.yaml"),
        (["arch=mixnet_s", "target=3"], r"unknown key 'target'"),
        (["arch=mixnet_s", "resolution=260"], r"unknown key 'resolution': it is called resolution_px\."),
    ],
)
def test_user_errors_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        command([*arguments, "latency=macs"])
    assert "\n" not in str(caught.value)
    assert list(Path.cwd().iterdir()) == []


def test_no_other_file_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("notes: mine\n", encoding="utf-8")
    scaled_json(capsys, "arch=mixnet_s", "phi=1", "out=one.yaml")
    for path in ("mine.yaml", "one.yaml"):
        with pytest.raises(NasError, match=rf"out '{path}': exists and is not a spec of mixnet_s_phi2"):
            command(["arch=mixnet_s", "phi=2", f"out={path}", "latency=macs"])
    assert Path("mine.yaml").read_text(encoding="utf-8") == "notes: mine\n"


def test_help_and_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--help"]) == 0
    assert "target_macs_m=" in capsys.readouterr().out
    assert command(["arch=mixnet_s", "--cfg", "job"]) == 0
    assert "coefficients:" in capsys.readouterr().out
