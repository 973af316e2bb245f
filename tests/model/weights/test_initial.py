"""Tests of the weights that a training begins with: sources, classes, input channels, errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import timm
import torch
from safetensors.torch import save_file

from nas.arch.files import save_spec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.metadata import input_metadata
from nas.exporters.standalone import save_weights
from nas.model.build import build
from nas.model.timm_import.network import timm_arch
from nas.model.weights.initial import InitialWeights, initial_state, random_state_dict

FACTS: Final[dict[str, Any]] = {
    "class_names": ["ant", "bee", "cat"],
    "normalisation": {"mean": [0.1, 0.2, 0.6], "std": [0.2, 0.2, 0.5]},
}


def tiny(width: int = 16, **fields: Any) -> ArchSpec:
    return ArchSpec.from_strings(
        "tiny",
        [[f"ds_r1_k3_s1_e1_c{width}"], [f"ir_r2_k3.5_s2_e2_c{width}_se0.25"]],
        stem=StemSpec(channels=8),
        head=HeadSpec(channels=16),
        **{"classes": 3, **fields},
    )


ARCH: Final = tiny()
TRAINED: Final = random_state_dict(ARCH, 1)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Weights of ARCH, with its spec beside them."""
    save_file(TRAINED, tmp_path / "seen.safetensors")
    save_spec(ARCH, tmp_path / "seen.yaml", FACTS)
    return tmp_path / "seen.yaml"


def begin(
    arch: ArchSpec, weights: str | Path | None, class_names: tuple[str, ...] = (), folder: Path = Path("none")
) -> InitialWeights:
    return initial_state(arch, weights, seed=7, folder=folder, class_names=class_names)


def assert_same(one: Any, other: Any, *, without: str = "classifier") -> None:
    """Compare two state dicts, the tensors of ``without`` left out."""
    assert one.keys() == other.keys()
    assert [name for name in one if not (name.startswith(without) or torch.equal(one[name], other[name]))] == []


def test_random_weights_are_those_of_the_seed_and_leave_the_random_state() -> None:
    torch.manual_seed(7)
    expected = build(ARCH).state_dict()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = begin(ARCH, None)
    assert torch.equal(before, torch.get_rng_state())
    assert_same(found.state, expected, without="nothing")
    assert (found.carried, found.origin, found.mean) == (None, {}, ())


@pytest.mark.parametrize("form", ["seen.yaml", "seen.safetensors"])
def test_weights_of_the_same_network_are_loaded_as_they_are(form: str, saved: Path) -> None:
    found = begin(ARCH, saved.parent / form, ("ant", "bee", "cat"))
    assert_same(found.state, TRAINED, without="nothing")
    assert found.carried is not None and {layer.change for layer in found.carried.layers} == {"carried"}
    assert found.carried.carried_share == 1
    assert (found.mean, found.std) == ((0.1, 0.2, 0.6), (0.2, 0.2, 0.5))
    assert found.origin["file"] == str(saved.with_suffix(".safetensors"))
    assert found.remarks == ("classifier: carried",)


def test_facts_are_read_from_the_weights_where_no_spec_is_beside_them(tmp_path: Path) -> None:
    save_weights(build(ARCH), tmp_path / "x.safetensors", input_metadata(ARCH, FACTS))
    found = begin(ARCH, tmp_path / "x.safetensors", ("ant", "bee", "cat"))
    assert (found.mean, found.remarks) == ((0.1, 0.2, 0.6), ("classifier: carried",))
    save_spec(ARCH, tmp_path / "x.yaml")  # a spec without them hides nothing
    assert begin(ARCH, tmp_path / "x.yaml", ("ant", "bee", "cat")).mean == (0.1, 0.2, 0.6)


@pytest.mark.parametrize("names", [("cat", "ant", "bee"), ("cat", "bee")])
def test_the_classifier_follows_the_names_of_the_classes(names: tuple[str, ...], saved: Path) -> None:
    found = begin(tiny(classes=len(names)), saved, names)
    images = torch.randn(2, 3, 32, 32)
    before, after = build(ARCH).eval(), build(tiny(classes=len(names))).eval()
    before.load_state_dict(TRAINED)
    after.load_state_dict(found.state)
    with torch.no_grad():
        torch.testing.assert_close(after(images), before(images)[:, [FACTS["class_names"].index(n) for n in names]])
    assert found.remarks == ("classifier: carried, its classes put into the order of the images by name",)


@pytest.mark.parametrize(
    ("classes", "names", "remark"),
    [
        (
            3,
            ("ant", "bee", "dog"),
            "classifier: new, beginning at zero; among the 3 classes of the weights is no 'dog'",
        ),
        (4, (), "classifier: new, beginning at zero; the weights have 3 classes, the images 4"),
    ],
)
def test_another_classifier_begins_at_zero(classes: int, names: tuple[str, ...], remark: str, saved: Path) -> None:
    arch = tiny(classes=classes)
    found = begin(arch, saved, names)
    for name in ("classifier.weight", "classifier.bias"):
        assert not found.state[name].any() and len(found.state[name]) == classes
    assert_same(found.state, {**TRAINED, "classifier.weight": 0, "classifier.bias": 0})
    assert found.carried is not None
    assert [layer.path for layer in found.carried.layers if layer.change == "drawn anew"] == ["classifier"]
    assert found.remarks == (remark,)


def test_without_class_names_an_equal_number_of_classes_is_taken_for_the_same_and_said(tmp_path: Path) -> None:
    torch.save(TRAINED, tmp_path / "x.pth")
    found = begin(ARCH, tmp_path / "x.pth", ("ant", "bee", "cat"))
    assert_same(found.state, TRAINED, without="nothing")
    assert "no class names to compare" in found.remarks[0]
    assert found.remarks[1] == "mean and deviation of the images that the weights were trained on are unknown"


def test_weights_of_another_network_are_carried_over(saved: Path) -> None:
    arch = tiny(width=8, activation="relu6")
    found = begin(arch, saved, ("ant", "bee", "cat"))
    assert found.state["blocks.0.0.conv_pw.weight"].shape[0] == 8
    assert found.carried is not None
    assert {layer.path: layer.change for layer in found.carried.layers}["blocks.0.0.conv_pw"] == "cropped"
    assert found.remarks[1] == (
        "activation: relu in the network of the weights, relu6 in this one, which changes what they compute"
    )
    build(arch).load_state_dict(found.state)


@pytest.mark.parametrize(("channels", "mean"), [(1, (0.3,)), (2, ())])
def test_stem_and_statistics_follow_the_input_channels(channels: int, mean: tuple[float, ...], saved: Path) -> None:
    found = begin(tiny(in_channels=channels), saved)
    # timm/models/_manipulate.py, adapt_input_conv: one channel gets the sum, several repeat and keep the scale.
    stem = TRAINED["conv_stem.weight"]
    expected = stem.sum(1, keepdim=True) if channels == 1 else stem[:, :2] * 3 / 2
    torch.testing.assert_close(found.state["conv_stem.weight"], expected)
    assert found.mean == pytest.approx(mean)


@pytest.mark.parametrize("weights", ["pretrained", "timm/test_efficientnet"])
def test_pretrained_weights_are_adapted_as_timm_does(weights: str, tmp_path: Path) -> None:
    file = tmp_path / "test_efficientnet.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), file)
    arch = replace(timm_arch("test_efficientnet"), in_channels=1, classes=10)
    found = begin(arch, weights, tuple("0123456789"), tmp_path)
    theirs = timm.create_model(
        "test_efficientnet", pretrained=True, pretrained_cfg_overlay={"file": str(file)}, in_chans=1, num_classes=10
    )
    assert_same(found.state, theirs.state_dict())
    assert found.mean == pytest.approx((sum(theirs.default_cfg["mean"]) / 3,))
    assert (found.crop_pct, found.interpolation) == (theirs.default_cfg["crop_pct"], "bicubic")
    assert found.origin["network"] == "test_efficientnet.r160_in1k"
    assert "among the 1000 classes of the weights is no '0' and 9 more" in found.remarks[0]


def test_pretrained_classes_are_known_by_their_wordnet_ids(tmp_path: Path) -> None:
    model = timm.create_model("test_efficientnet")
    save_file(model.state_dict(), tmp_path / "test_efficientnet.safetensors")
    arch = replace(timm_arch("test_efficientnet"), classes=2)
    found = begin(arch, "pretrained", ("n15075141", "n01440764"), tmp_path)  # the last class and the first
    assert torch.equal(found.state["classifier.weight"], model.classifier.weight.detach()[[999, 0]])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("pretrained", "weights pretrained: timm has no network 'tiny'; weights=timm/NAME carries"),
        ("timm/mixnet_z", "weights 'timm/mixnet_z': timm has no such network"),
        ("missing.pth", "weights 'missing.pth': no such file"),
        ("missing.yaml", "weights 'missing.yaml': no such spec file"),
        (
            "bare.yaml",
            r"weights 'bare.yaml': has no weights beside it \(bare.safetensors\); choose from seen.yaml, wrong.yaml",
        ),
        (
            "other.pth",
            r"weights 'other.pth': 4 of \d+ tensors do not fit: conv_stem.weight 4x3x3x3 where tiny has 8x3x3x3, "
            "bn1.bias no such tensor where tiny has 8; choose the network that they are of, or put its spec beside "
            "them as other.yaml",
        ),
        ("wrong.pth", "wrong.yaml beside it has no such tensor"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    weights: str, message: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent)
    save_spec(ARCH, "bare.yaml")
    renamed = {name: tensor for name, tensor in TRAINED.items() if not name.startswith("bn2.bias")}
    other = {**TRAINED, "conv_stem.weight": torch.zeros(4, 3, 3, 3), "bn9.bias": torch.zeros(3)}
    del other["bn1.bias"], other["classifier.weight"]
    torch.save(other, "other.pth")
    torch.save({**renamed, "bn7.bias": torch.zeros(3)}, "wrong.pth")
    save_spec(ARCH, "wrong.yaml")
    with pytest.raises(NasError, match=message) as caught:
        begin(ARCH, weights)
    assert "\n" not in str(caught.value)
