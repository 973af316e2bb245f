"""timm entry point ``nas_arch``: import order, overrides, statistics, errors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from nas.arch import zoo
from nas.arch.files import dump_spec
from nas.core.errors import NasError
from nas.exporters.standalone import save_weights
from nas.model.build import build
from tests.deadline import DEADLINE_S
from tests.paths import ROOT

# One process imports torch, which takes most of the time of importing timm, and forks a child for each order.
ORDERS = """
import os, sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", ".*multi-threaded, use of fork")  # caused by threads of numpy, which no child uses
import torch, torchvision

for order in sys.argv[1:]:
    child = os.fork()
    if not child:
        exec(order)
        assert timm.is_model("nas_arch")
        assert not [finder for finder in sys.meta_path if type(finder).__module__ == "nas"]
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"failed: {order}")
"""


def test_entry_point_is_registered_in_every_import_order() -> None:
    orders = (
        "import nas; assert 'timm' not in sys.modules; import timm",
        "import timm; import nas",
        "import nas.model.build; import timm",  # timm loads during the import of a module of nas
    )
    command = [sys.executable, "-c", ORDERS, *orders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr


def test_spec_file_becomes_a_model(tmp_path: Path) -> None:
    spec = zoo.get("mobilenetv3_small_050")
    path, weights = tmp_path / "winner.yaml", tmp_path / "winner.safetensors"
    path.write_text(dump_spec(spec), encoding="utf-8")
    trained = build(spec).eval()
    save_weights(trained, weights)
    model = timm.create_model("nas_arch", spec=path, checkpoint_path=weights).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(images), trained(images))
    assert model.drop_rate == spec.dropout
    data = resolve_model_data_config(model)
    assert data["input_size"] == (3, 224, 224)
    assert data["mean"] == (0.485, 0.456, 0.406)


def write_spec(path: Path, normalisation: object) -> Path:
    spec = replace(zoo.get("mobilenetv3_small_050"), in_channels=1)
    path.write_text(dump_spec(spec, {"normalisation": normalisation}), encoding="utf-8")
    return path


def test_normalisation_of_a_file_becomes_the_models(tmp_path: Path) -> None:
    path = write_spec(tmp_path / "winner.yaml", {"mean": [0.25], "std": [0.5]})
    data = resolve_model_data_config(timm.create_model("nas_arch", spec=path))
    assert (data["input_size"], data["mean"], data["std"]) == ((1, 224, 224), (0.25,), (0.5,))
    coloured = timm.create_model("nas_arch", spec=path, in_chans=3)  # grey statistics do not apply to RGB
    assert coloured.default_cfg["mean"] == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("normalisation", "message"),
    [
        ([0.5], r"winner\.yaml: provenance\.normalisation \[0\.5\]: must be a mapping of mean and std"),
        ({"mean": [0.5]}, r"normalisation .*: must be a mapping of mean and std"),
        (
            {"mean": [0.5, 0.5], "std": [1]},
            r"normalisation\.mean \[0\.5, 0\.5\]: must be a list of numbers, one per input channel \(1\)",
        ),
        ({"mean": 0.5, "std": [1]}, r"normalisation\.mean 0\.5: must be a list"),
        ({"mean": ["a"], "std": [1]}, r"normalisation\.mean \['a'\]: must be a list"),
        ({"mean": [0], "std": [0]}, r"normalisation\.std \[0\]: must be a list of positive numbers"),
        ({"mean": [0], "std": [float("nan")]}, r"normalisation\.std \[nan\]: must be"),
    ],
)
def test_invalid_normalisation_is_refused(tmp_path: Path, normalisation: object, message: str) -> None:
    with pytest.raises(NasError, match=message):
        timm.create_model("nas_arch", spec=write_spec(tmp_path / "winner.yaml", normalisation))


def test_zoo_name_as_spec() -> None:
    named = timm.create_model("nas_arch", spec="mobilenetv1_025", num_classes=3)
    same = timm.create_model("nas_arch", spec=zoo.get("mobilenetv1_025"), num_classes=3)
    assert {name: t.shape for name, t in named.state_dict().items()} == {
        n: t.shape for n, t in same.state_dict().items()
    }


def test_arguments_of_timm_override_the_spec() -> None:
    spec = zoo.get("mobilenetv3_small_050")
    arguments = {"num_classes": 7, "in_chans": 1, "drop_rate": 0.4, "drop_path_rate": 0.1}
    model = timm.create_model("nas_arch", spec=spec, **arguments)
    assert (model.num_classes, model.classifier.out_features, model.drop_rate) == (7, 7, 0.4)
    assert model.conv_stem.weight.shape[1] == 1
    assert model.blocks[-2][0].drop_path.drop_prob > 0
    assert resolve_model_data_config(model)["input_size"] == (1, 224, 224)
    headless = timm.create_model("nas_arch", spec=spec, num_classes=0)
    assert isinstance(headless.classifier, nn.Identity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a spec"),
        ({"pretrained": True, "spec": zoo.get("mnasnet_small")}, "pretrained: .*checkpoint_path"),
        ({"num_clases": 7, "spec": zoo.get("mnasnet_small")}, "'num_clases'.*Did you mean 'num_classes'"),
        ({"drop_rate": 1.0, "spec": zoo.get("mnasnet_small")}, r"drop_rate 1\.0: must be a number"),
        ({"spec": "no_such_file.yaml"}, r"no_such_file\.yaml"),
        ({"spec": "mixnet"}, r"spec 'mixnet': neither a published network nor a spec file\. Did you mean 'mixnet_\w'"),
        ({"spec": 5}, r"spec 5: must be an ArchSpec, the path of a spec file, or a name"),
    ],
)
def test_errors_are_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        timm.create_model("nas_arch", **arguments)
    assert "\n" not in str(caught.value)


def test_other_timm_models_are_unaffected() -> None:
    assert timm.create_model("mnasnet_small", num_classes=2).num_classes == 2
    with pytest.raises(NasError, match="in_chans 0: must be a whole number of at least 1"):
        timm.create_model("nas_arch", spec=zoo.get("mnasnet_small"), in_chans=0)
