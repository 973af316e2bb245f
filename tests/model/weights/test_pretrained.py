"""Tests of timm's pretrained weights: where they are looked for, and what is said without a connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from nas.core.errors import NasError
from nas.model.weights import pretrained
from nas.model.weights.pretrained import pretrained_state

NAME, TAG = "test_efficientnet", "r160_in1k"  # timm's smallest network with published weights: 360,000 parameters
STATE: Final = timm.create_model(NAME).state_dict()


class Unreachable:
    """A session of the hub's client without a connection."""

    def __init__(self, answer: Callable[[], None]) -> None:
        self.answer = answer

    def head(self, url: str, timeout: float) -> None:
        self.answer()
        raise ConnectionError("Name or service not known\nmore")


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of the hub and of torch in a folder of their own, and no connection."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(pretrained, "get_session", lambda: Unreachable(lambda: None))


@pytest.mark.parametrize(
    ("asked", "file"),
    [
        (NAME, f"own/{NAME}.safetensors"),
        (NAME, f"own/{NAME}.{TAG}.safetensors"),
        (f"{NAME}.{TAG}", f"own/{NAME}.{TAG}.safetensors"),
        (NAME, f"own/{NAME}.pth"),
        (NAME, f"hub/models--timm--{NAME}.{TAG}/snapshots/abc/model.safetensors"),
        (NAME, f"hub/models--timm--{NAME}.{TAG}/snapshots/abc/pytorch_model.bin"),
        ("mobilenetv3_small_050", "torch/checkpoints/mobilenetv3_small_050_lambc-4b7bbe87.pth"),
    ],
)
def test_weights_are_found_without_a_connection(asked: str, file: str, tmp_path: Path) -> None:
    state = STATE if asked.startswith(NAME) else {"classifier.weight": torch.zeros(1000, 1)}
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    if "snapshots" in file:
        (path.parents[2] / "refs").mkdir()
        (path.parents[2] / "refs" / "main").write_text("abc")
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    found = pretrained_state(asked, tmp_path / "own")
    assert found.file == path
    assert found.state.keys() == state.keys()
    assert all(torch.equal(found.state[name], state[name]) for name in state)
    cfg = timm.get_pretrained_cfg(asked)
    assert (found.mean, found.std, found.crop_pct, found.interpolation) == (
        cfg.mean, cfg.std, cfg.crop_pct, cfg.interpolation,
    )  # fmt: skip
    # ILSVRC 2012: 1000 classes in the order of their WordNet ids, from the tench to toilet tissue.
    assert (len(found.class_names), found.class_names[0], found.class_names[-1]) == (1000, "n01440764", "n15075141")


def test_weights_of_another_number_of_classes_have_no_class_names(tmp_path: Path) -> None:
    save_file(timm.create_model(NAME, num_classes=7).state_dict(), tmp_path / f"{NAME}.safetensors")
    found = pretrained_state(NAME, tmp_path)
    assert (found.classes, found.class_names) == (7, ())


def test_weights_of_the_default_training_do_not_stand_for_another(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "mixnet_s.safetensors")
    with pytest.raises(NasError, match=r"weights of mixnet_s.ft_in1k cannot be downloaded"):
        pretrained_state("mixnet_s.ft_in1k", tmp_path)


@pytest.mark.parametrize("is_offline", [False, True])
def test_without_a_connection_one_line_says_where_to_put_the_file(
    is_offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    with pytest.raises(NasError) as caught:
        pretrained_state(NAME, tmp_path / "own")
    message = str(caught.value)
    assert message.startswith(f"weights of {NAME} cannot be downloaded (")
    assert ("the hub is set to be offline" if is_offline else "(Name or service not known)") in message
    assert f"/timm/{NAME}.{TAG}/resolve/main/model.safetensors as '{tmp_path}/own/{NAME}.safetensors'" in message
    assert "\n" not in message


def test_a_hub_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(pretrained, "get_session", lambda: Unreachable(released.wait))
    monkeypatch.setattr(pretrained, "_CONNECT_S", 0.01)
    with pytest.raises(NasError, match="no answer within 0 s"):
        pretrained_state(NAME, tmp_path)
    released.set()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_b6", "timm has none of efficientnet_b6; give a file of yours"),
        ("mixnet_z", "timm has no such network. Did you mean 'mixnet_s'?"),
        ("mixnet_s.nothing", "timm has no weights 'nothing' of mixnet_s; choose from mixnet_s.ft_in1k"),
        ("resnet18", "its family is not supported"),
    ],
)
def test_networks_without_weights_are_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(NasError, match=message.replace("?", r"\?")):
        pretrained_state(name, tmp_path)
