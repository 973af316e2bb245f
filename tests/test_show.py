"""Tests of nas.show: exact figures, layer table, bad settings."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import timm
from PIL import Image

from nas import show
from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.files import dump_spec, save_spec
from nas.arch.heads import backbone, detector
from nas.arch.ops.network import network_ops
from nas.core.errors import NasError
from nas.latency.predictors.kernel_sum import KernelPredictor
from nas.latency.predictors.kernel_times import ANY_CLASS, KernelTimes
from nas.latency.store import save_predictor
from nas.show import command
from tests.json_output import MS_PER_GMAC, json_answer
from tests.latency.synthetic_device import KERNEL_DEVICE, LANE


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return json_answer(command, capsys, (*arguments, "latency=macs"))


def table(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert command([*arguments, "latency=macs"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder and leave it so."""
    monkeypatch.chdir(tmp_path)


def test_json_has_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    data = shown(capsys, "arch=mixnet_s")
    assert data["params"] == 4_134_606
    assert data["macs"] == 239_173_360
    assert data["activations"] == 6_252_094
    assert data["latency_ms"] == pytest.approx(data["macs"] * 1e-9 * MS_PER_GMAC, rel=1e-9)
    assert data["latency_low_ms"] < data["latency_ms"] < data["latency_high_ms"]
    assert (data["name"], data["resolution_px"]) == ("mixnet_s", 224)
    assert shown(capsys, "mixnet_s") == data
    assert list(Path.cwd().iterdir()) == []


def test_another_resolution_scales_what_depends_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    full, half = shown(capsys, "arch=mobilenetv1_100"), shown(capsys, "arch=mobilenetv1_100", "resolution_px=112")
    assert half["params"] == full["params"]
    classifier = 1024 * 1000
    # Every map of MobileNetV1 halves exactly from 224 to 112 px, down to 7 and 4 (not 3.5) in the last stage.
    last_stage = (
        9 * 512 * (16 - 49 / 4) + 512 * 1024 * (16 - 49 / 4) + 9 * 1024 * (16 - 49 / 4) + 1024**2 * (16 - 49 / 4)
    )
    assert half["macs"] - classifier == (full["macs"] - classifier) / 4 + last_stage
    assert half["arch_id"] != full["arch_id"]


def test_the_table_has_every_layer_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(capsys, "arch=mixnet_s", "rows=ops")
    paths = [op.path for op in network_ops(zoo.get("mixnet_s"))]
    firsts = [line.split()[0] for line in lines if line.strip()]
    start = firsts.index(paths[0])
    assert firsts[start : start + len(paths)] == paths
    assert any(
        "4,134,606 parameters" in line and "239,173,360 MACs" in line and "6,252,094 activations" in line
        for line in lines
    )
    assert any(line.startswith("latency 7.18 ms") for line in lines)


@pytest.mark.parametrize("name", ["mixnet_s", "mobilenetv3_large_100", "mobilenetv1_100"])
def test_rows_of_every_level_add_up_to_the_network(capsys: pytest.CaptureFixture[str], name: str) -> None:
    arch = zoo.get(name)
    counts = {"stages": len(arch.stages) + 2, "blocks": arch.depth + 2, "ops": len(list(network_ops(arch)))}
    for level, count in counts.items():
        data = shown(capsys, name, f"rows={level}")
        rows = data["rows"]
        assert len(rows) == count
        for key in ("params", "macs", "activations", "latency_ms"):
            assert sum(row[key] for row in rows) == pytest.approx(data[key], rel=1e-9), (level, key)
        assert rows[0]["in_shape"] == [3, 224] and rows[-1]["out_shape"] == [1000, 1]
        if level != "ops":  # a layer may read a part of what the one before it gives
            assert all(one["out_shape"] == following["in_shape"] for one, following in pairwise(rows))


def test_rows_of_mobilenet_v1_have_the_cost_of_its_published_layers(capsys: pytest.CaptureFixture[str]) -> None:
    """Table 1 of arXiv:1704.04861: output channels and side of each depthwise separable block, 32@112 before them."""
    outputs = [(64, 112), (128, 56), (128, 56), (256, 28), (256, 28), *6 * [(512, 14)], (1024, 7), (1024, 7)]
    channels = [32, *(count for count, _ in outputs)]
    macs = [side**2 * before * (9 + after) for before, (after, side) in zip(channels, outputs, strict=False)]
    assert [row["macs"] for row in shown(capsys, "mobilenetv1_100", "rows=blocks")["rows"][1:-1]] == macs
    left = iter(macs)
    stages = [sum(islice(left, stage.depth)) for stage in zoo.get("mobilenetv1_100").stages]
    assert [row["macs"] for row in shown(capsys, "mobilenetv1_100")["rows"][1:-1]] == stages


def test_a_row_per_stage_is_the_default_and_more_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(capsys, "arch=mixnet_s")
    firsts = [line.split()[0] for line in lines if line.strip()]
    assert firsts[0] == "stage" and firsts[2:10] == ["stem", *(f"blocks.{index}" for index in range(6)), "head"]
    assert any(line.startswith("blocks.2  4 ir, kernels 3 5 7") for line in lines)
    assert lines[-1] == "add rows=blocks or rows=ops for more rows, draw=network.svg to draw it"
    assert len(lines) < 16
    blocks = table(capsys, "arch=mixnet_s", "rows=blocks")
    assert any(line.startswith("blocks.2.0  ir k3.5.7/2 e6 se0.5") for line in blocks)
    assert "rows=" not in table(capsys, "arch=mixnet_s", "rows=ops")[-1]


def test_a_spec_file_is_shown_as_the_network_it_holds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arch = replace(zoo.get("mobilenetv3_small_100"), name="mine", classes=10)
    path = tmp_path / "mine.yaml"
    path.write_text(dump_spec(arch), encoding="utf-8")
    data = shown(capsys, f"arch={path}")
    assert (data["name"], data["arch_id"]) == ("mine", arch.arch_id)
    assert data["params"] == 2_542_856 - 990 * 1025


def test_networks_of_timm_are_shown_at_the_side_they_are_made_for(capsys: pytest.CaptureFixture[str]) -> None:
    data = shown(capsys, "arch=timm/tinynet_e")
    params = sum(parameter.numel() for parameter in timm.create_model("tinynet_e").parameters())
    assert (data["name"], data["resolution_px"], data["params"]) == ("tinynet_e", 106, params)


def test_a_disturbed_calibration_is_reported_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    disturbed = KernelPredictor(
        device=KERNEL_DEVICE,
        times=KernelTimes(lane=LANE, laws={ANY_CLASS: (1.0, 1.0, 1.0, 1.0)}, trees={}),
        factors={"pool": 1.0},
        checks=(),
        spent_s=1.0,
        others=0.9,
    )
    save_predictor(disturbed, Path("elsewhere.json"))
    foreign = ("latency.calibration=elsewhere.json", "latency.allow_other_device=true")
    assert command(["arch=mixnet_s", "json=true", *foreign]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["latency_ms"] == disturbed.predict(zoo.get("mixnet_s")).latency_ms
    assert "Other programs used 0.9 cores" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"which network\? Add arch= with a published network such as mixnet_s, .* --help lists them"),
        (
            ["arch=mixnet_x"],
            r"arch 'mixnet_x': neither a published network"
            r" nor timm/NAME nor a \.yaml spec file nor block strings\. Did you mean",
        ),
        (["arch=timm/mixnet_x"], r"arch 'timm/mixnet_x': timm has no such network\. Did you mean 'mixnet_"),
        (["arch=timm/efficientnet_b0_gn"], r"efficientnet_b0_gn cannot be read exactly: it has group norms"),
        (["arch=none.yaml"], r"cannot read spec file 'none\.yaml'"),
        (["arch=mixnet_s", "resolution_px=0"], r"resolution_px 0: must be a whole number of at least 1"),
        (["arch=mixnet_s", "resolution_px=a"], r"resolution_px 'a'"),
        (["arch=mixnet_s", "resolution_px=99999"], r"resolution_px 99999: must be at most 16384"),
        (["arch=mixnet_s", "draw=out.gif"], r"draw 'out\.gif': must be the path of a file that ends in \.svg or \.png"),
        (["arch=mixnet_s", "draw=3"], r"draw 3: must be the path of a file"),
        (["arch=mixnet_s", "rows=layers"], r"unknown rows 'layers': choose from stages, blocks, ops\."),
        (["arch=mixnet_s", "json=yess"], r"json 'yess': must be true or false"),
        (["arch=mixnet_s", "latency=mac"], r"unknown latency 'mac': choose from .*macs.* Did you mean 'macs'"),
        (["arch=mixnet_s", "latency.backend=gpu"], r"unknown latency\.backend 'gpu'"),
        (["arch=mixnet_s", "resolution=3"], r"unknown key 'resolution': .* Did you mean 'resolution_px'"),
        (["arch=mixnet_s", "runs_dir=null", "latency=macs"], r"runs_dir null: must be the path of a folder"),
        (["mixnet_s", "task=poses"], r"unknown task 'poses'.*detection"),
        (["mixnet_s", "task=detection", "classes=0"], r"classes 0: must be"),
        (["mixnet_s", "task=segmentation", "resolution_px=1", "latency=table"], r"latency\.path"),
        (["mixnet_x"], r"arch 'mixnet_x': neither a published network"),
        (["mixnet_s", "mixnet_m"], r"'mixnet_s': settings have the form name=value"),
    ],
)
def test_user_errors_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        command(arguments)
    assert "\n" not in str(caught.value)
    assert list(Path.cwd().iterdir()) == []


def test_a_detector_is_shown_with_its_head_and_what_its_latency_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    arch = detector(replace(zoo.get("mobilenetv3_large_100"), resolution_px=320), 90)
    cost = complexity(arch)
    arguments = ("arch=mobilenetv3_large_100", "task=detection", "classes=90", "resolution_px=320")
    data = shown(capsys, *arguments)
    assert (data["arch_id"], data["params"], data["macs"]) == (arch.arch_id, cost.params, cost.macs)
    assert data["latency_ms"] == pytest.approx(cost.macs * 1e-9 * MS_PER_GMAC)
    assert data["rows"][-1]["kind"] == "SSDLite on 6 maps"
    (remark,) = data["remarks"]
    assert "non-maximum suppression" in remark and remark in "\n".join(table(capsys, *arguments))
    save_spec(arch, "detector.yaml")
    assert shown(capsys, "detector.yaml") == data
    assert shown(capsys, "detector.yaml", "task=classification")["params"] == complexity(backbone(arch)).params
    assert shown(capsys, "mobilenetv3_large_100")["remarks"] == []


@pytest.mark.parametrize("level", ["stages", "blocks", "ops"])
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_rows_of_a_dense_network_add_up(capsys: pytest.CaptureFixture[str], task: str, level: str) -> None:
    data = shown(capsys, "arch=mixnet_s", f"task={task}", f"rows={level}", "draw=drawn.svg")
    for name in ("params", "macs", "activations", "latency_ms"):
        assert sum(row[name] for row in data["rows"]) == pytest.approx(data[name])
    paths = [row["path"] for row in data["rows"]]
    assert len(set(paths)) == len(paths)
    if level == "blocks":
        assert {"box_heads.5", "extra.3"} <= set(paths) or {"low_classifier", "aspp_resize"} <= set(paths)
    assert "Head" in "".join(ET.parse("drawn.svg").getroot().itertext())


def test_help_and_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--help"]) == 0
    assert "arch=mixnet_s" in capsys.readouterr().out
    assert command(["arch=mixnet_s", "--cfg", "job"]) == 0
    assert "arch: mixnet_s" in capsys.readouterr().out


def test_a_drawing_has_every_block_and_the_total_latency(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["arch=mixnet_s", "latency=macs", "draw=drawings/mixnet_s.svg"]) == 0
    out = capsys.readouterr().out
    assert "drawn: drawings/mixnet_s.svg" in out and "latency 7.18 ms" in out
    svg = ET.parse("drawings/mixnet_s.svg").getroot()
    paths = [group.attrib["data-path"] for group in svg.iter("{http://www.w3.org/2000/svg}g")]
    assert [path for path in paths if path.startswith("blocks.")] == [
        placed.path for placed in zoo.get("mixnet_s").placed_blocks()
    ]
    assert "7.18 ms predicted" in "".join(svg.itertext())


def test_a_png_has_the_drawing_s_shape_and_is_no_blank_page(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("resvg_py")
    for name in ("small.svg", "small.png"):
        shown(capsys, "arch=mobilenetv3_small_100", f"draw={name}")
    svg = ET.parse("small.svg").getroot()
    with Image.open("small.png") as image:
        assert image.size == (2 * int(svg.attrib["width"]), 2 * int(svg.attrib["height"]))
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 20
        caption = image.convert("L").crop((0, 0, image.width, 50))
    darkest, lightest = caption.getextrema()
    assert darkest < 60 and lightest == 255  # dark letters on white


def test_a_png_without_its_package_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def priced(_: object) -> None:
        pytest.fail("the device would be calibrated for a drawing that cannot be made")

    monkeypatch.setitem(sys.modules, "resvg_py", None)
    monkeypatch.setattr(show, "resolve_predictor", priced)
    with pytest.raises(NasError, match=r"needs resvg-py: run pip install 'nas\[png\]'"):
        command(["arch=mixnet_s", "latency=macs", "draw=mixnet_s.png"])


def test_an_unwritable_folder_is_reported() -> None:
    Path("file").touch()
    with pytest.raises(NasError, match=r"cannot write 'file/out\.svg': Not a directory|File exists"):
        command(["arch=mixnet_s", "latency=macs", "draw=file/out.svg"])
