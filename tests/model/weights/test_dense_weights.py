"""Tests of the weights that a detector or segmenter begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import save_file

from nas.arch import zoo
from nas.arch.files import save_spec
from nas.arch.heads import SSDLiteHead, backbone, detector, segmenter
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.exporters.standalone import save_weights
from nas.model.build import build
from nas.model.weights.initial import InitialWeights, initial_state, random_state_dict
from nas.model.weights.table import print_initial_weights

SMALL: Final = "mobilenetv3_small_050"
# Ends with a 1x1 convolution before pooling, and has grouped 1x1 and MixConv.
TRUNK: Final = ArchSpec.from_strings(
    "trunk",
    [
        ["ds_r1_k3_s1_e1_c8"],
        ["ir_r2_k3_s2_e3_c16"],
        ["ir_r1_k3.5_a1.1_p1.1_s2_e3_c24"],
        ["ir_r2_k3.5_s2_e3_c32_se0.25"],
        ["ir_r2_k5_s2_e3_c48"],
    ],
    stem=StemSpec(channels=8),
    head=HeadSpec(channels=64),
    resolution_px=64,
    classes=4,
)
CELLS: Final = ("red", "white", "platelet")


def begin(
    arch: ArchSpec, weights: str | Path, names: tuple[str, ...] = (), folder: Path = Path("none")
) -> InitialWeights:
    return initial_state(arch, weights, seed=7, folder=folder, class_names=names)


def saved(arch: ArchSpec, folder: Path, names: tuple[str, ...] = ()) -> Path:
    """Weights of ``arch`` drawn with another seed, with its spec beside them."""
    save_file(random_state_dict(arch, 1), folder / "seen.safetensors")
    save_spec(arch, folder / "seen.yaml", {"class_names": list(names)} if names else {})
    return folder / "seen.yaml"


def module(arch: ArchSpec, state: Any) -> Any:
    model = build(arch)
    model.load_state_dict(state)
    return model.eval()


def images(px: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))


def in_head(name: str) -> bool:
    return name.startswith(("extra.", "class_heads.", "box_heads.", "aspp_", "high_", "low_"))


@pytest.mark.parametrize("attach", [detector, segmenter])
def test_a_classifiers_weights_are_carried_to_the_trunk(attach: Any, tmp_path: Path) -> None:
    """Dilations of an output stride crop no kernel."""
    target = attach(TRUNK, 3)
    found = begin(target, saved(TRUNK, tmp_path), CELLS)
    source, drawn = random_state_dict(TRUNK, 1), random_state_dict(target, 7)
    for name, tensor in found.state.items():
        assert torch.equal(tensor, (drawn if in_head(name) else source)[name]), name
    assert found.state.keys() == drawn.keys()
    assert "conv_head.weight" in found.state or attach is segmenter
    assert found.remarks[0] == "head: new, drawn; the weights are those of a network for classification"
    assert found.carried is not None
    changes = {part.path: part.change for part in found.carried.parts}
    assert {change for path, change in changes.items() if path.startswith("blocks.")} == {"carried"}


def test_maps_of_the_carried_trunk_are_the_classifiers(tmp_path: Path) -> None:
    target = detector(TRUNK, 3)
    found = module(target, begin(target, saved(TRUNK, tmp_path)).state)
    classifier = module(TRUNK, random_state_dict(TRUNK, 1))
    seen: dict[str, torch.Tensor] = {}
    classifier.bn2.register_forward_hook(lambda _module, _inputs, output: seen.update(c5=output))
    classifier.blocks[4][0].bn1.register_forward_hook(lambda _module, _inputs, output: seen.update(c4=output))
    with torch.inference_mode():
        classifier(images())
        maps = found.maps(images())
    for one, other in zip(maps, (seen["c4"], seen["c5"]), strict=True):
        torch.testing.assert_close(one, other)


def test_pretrained_weights_are_those_of_the_trunk(tmp_path: Path) -> None:
    theirs = timm.create_model(SMALL)
    save_weights(theirs, tmp_path / f"{SMALL}.safetensors")
    target = detector(zoo.get(SMALL), 3)
    assert target.name == f"{SMALL}_ssdlite"
    found = begin(target, "pretrained", folder=tmp_path)
    expected = theirs.state_dict()
    trunk = [name for name in found.state if not in_head(name)]
    assert [name for name in trunk if not torch.equal(found.state[name], expected[name])] == []
    assert any(remark.startswith(f"left out of {SMALL}: conv_head") for remark in found.remarks)


def test_classes_of_a_detector_follow_their_names(tmp_path: Path) -> None:
    source, target = detector(TRUNK, 3), detector(TRUNK, 2)
    path = saved(source, tmp_path, CELLS)
    found = begin(target, path, ("platelet", "red"))
    before, after = module(source, random_state_dict(source, 1)), module(target, found.state)
    with torch.inference_mode():
        expected, maps = before(images()), after(images())
    anchors = SSDLiteHead().level_anchors
    for level, (one, other) in enumerate(zip(maps, expected, strict=True)):
        if level < len(anchors):
            boxes = anchors[level]
            other = other.unflatten(1, (boxes, 4))[:, :, [0, 3, 1]].flatten(1, 2)  # background, platelet, red
        torch.testing.assert_close(one, other)
    assert found.remarks[0] == "classes: carried, its classes put into the order of the images by name"


@pytest.mark.parametrize("names", [("red", "white", "other"), ("red", "white"), ("a", "b", "c", "d")])
def test_new_classes_of_a_detector_are_drawn(names: tuple[str, ...], tmp_path: Path) -> None:
    source, target = detector(TRUNK, 3), detector(TRUNK, len(names))
    path = saved(source, tmp_path, CELLS)
    found = begin(target, path, names)
    expected, drawn = random_state_dict(source, 1), random_state_dict(target, 7)
    known = set(names) <= set(CELLS)
    for name, tensor in found.state.items():
        is_prediction = name.startswith("class_heads.") and ".conv." in name
        if not is_prediction:
            assert torch.equal(tensor, expected[name]), name
        elif not known:
            assert torch.equal(tensor, drawn[name]), name
        else:
            assert tensor.shape == drawn[name].shape
    assert found.remarks[0].startswith("classes: carried" if known else "classes: new, drawn; among the 3 classes")


def test_classes_of_a_segmenter_follow_their_names(tmp_path: Path) -> None:
    source, target = segmenter(TRUNK, 3), segmenter(TRUNK, 2)
    found = begin(target, saved(source, tmp_path, CELLS), ("platelet", "red"))
    before, after = module(source, random_state_dict(source, 1)), module(target, found.state)
    with torch.inference_mode():
        torch.testing.assert_close(after(images()), before(images())[:, [2, 0]])


def test_box_predictions_need_the_same_default_boxes(tmp_path: Path) -> None:
    """Six boxes of three outputs have as many channels as three of six."""
    path = saved(detector(TRUNK, 2, lowest_anchors=6), tmp_path)
    target = detector(TRUNK, 5, lowest_anchors=3)
    found, drawn = begin(target, path), random_state_dict(target, 7)
    for name in ("class_heads.0.conv.weight", "box_heads.0.conv.weight", "box_heads.1.conv.weight"):
        assert torch.equal(found.state[name], drawn[name]), name


@pytest.mark.parametrize("scales", [(None, 0.1), (0.1, None)])
def test_the_map_for_small_objects_may_be_added_or_left_out(scales: tuple[Any, Any], tmp_path: Path) -> None:
    source, target = (detector(TRUNK, 3, c3_scale=scale) for scale in scales)
    found = begin(target, saved(source, tmp_path)).state
    expected, drawn = random_state_dict(source, 1), random_state_dict(target, 7)
    own = {name for name in found if name.startswith(("class_heads.6.", "box_heads.6."))}
    assert bool(own) == (scales[0] is None)
    for name, tensor in found.items():
        assert torch.equal(tensor, (drawn if name in own else expected)[name]), name


def test_its_predictions_are_not_those_of_another_map(tmp_path: Path) -> None:
    source = detector(TRUNK, 3, extra_channels=(32, 32, 32, 32, 32))
    target = detector(TRUNK, 3, extra_channels=(32, 32, 32, 32), c3_scale=0.1)
    found, drawn = begin(target, saved(source, tmp_path)).state, random_state_dict(target, 7)
    for name in ("class_heads.6.conv.weight", "box_heads.6.conv.weight"):
        assert torch.equal(found[name], drawn[name]), name


def test_a_file_without_a_spec_says_how_many_classes_it_has(tmp_path: Path) -> None:
    source = detector(TRUNK, 5)
    save_file(random_state_dict(source, 1), tmp_path / "x.safetensors")
    found = begin(detector(TRUNK, 2), tmp_path / "x.safetensors")
    assert found.remarks[0] == "classes: new, drawn; the weights have 5 classes, the images 2"


@pytest.mark.parametrize("attach", [detector, segmenter])
def test_halved_channels_are_the_most_important_ones(attach: Any, tmp_path: Path) -> None:
    """Those that remain are the source's, in their order; nothing is averaged."""
    target = attach(TRUNK, 3, halve=True)
    found = begin(target, saved(TRUNK, tmp_path))
    assert found.carried is not None
    rows = {layer.path: layer for layer in found.carried.layers}
    first, last = rows["blocks.4.0.conv_pwl"], rows["blocks.4.1.conv_pwl"]
    assert first.source_channels is not None and first.source_channels[1] == 2 * first.channels[1]
    assert first.outputs == last.outputs and list(first.outputs) == sorted(set(first.outputs))
    source = random_state_dict(TRUNK, 1)["blocks.4.0.conv_pwl.weight"]
    expected = source[list(first.outputs)][:, list(first.inputs)]
    assert torch.equal(found.state["blocks.4.0.conv_pwl.weight"], expected)


def test_a_detectors_trunk_returns_to_a_classifier(tmp_path: Path) -> None:
    source = detector(TRUNK, 3)
    target = replace(backbone(source), classes=4)
    found, expected = begin(target, saved(source, tmp_path)), random_state_dict(source, 1)
    for name, tensor in found.state.items():
        if name.startswith("classifier."):
            assert not tensor.any()
        else:
            assert torch.equal(tensor, expected[name]), name
    assert found.remarks[0] == "head: new, beginning at zero; the weights are those of a network for detection"


def test_the_table_has_a_row_for_each_part_of_a_head(tmp_path: Path) -> None:
    found = begin(detector(TRUNK, 3), saved(TRUNK, tmp_path))
    console = Console(record=True, width=120)
    print_initial_weights(found, console)
    text = console.export_text()
    assert [text.count(part) for part in ("class_heads", "box_heads", "extra ")] == [1, 1, 1]
    assert "parameters carried" in text
