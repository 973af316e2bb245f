"""A training that begins with weights of another network and learns from a teacher, as a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from safetensors.torch import save_file

from nas.arch.files import load_spec_file, save_spec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.model.weights import random_state_dict
from nas.train import command

STATISTICS: Final = {"mean": [0.25], "std": [0.5]}
COMMAND: Final = (
    "arch=small.yaml", "data=digits", "data.subset=64", "recipe.resolution_px=8", "recipe.epochs=1",
    "recipe.warmup_epochs=0", "recipe.shift=0", "run.name=x", "weights=big.yaml", "teacher=big.yaml",
)  # fmt: skip


def network(name: str, width: int) -> ArchSpec:
    stem, head = StemSpec(channels=8), HeadSpec(channels=16)
    return ArchSpec.from_strings(
        name, [[f"ds_r1_k3_s1_e1_c{width}"]], stem=stem, head=head, classes=10, in_channels=1, resolution_px=8
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a network and a larger one with weights."""
    monkeypatch.chdir(tmp_path)
    save_spec(network("small", 8), "small.yaml")
    facts: dict[str, Any] = {"class_names": list("0123456789"), "normalisation": STATISTICS}
    save_spec(network("big", 16), "big.yaml", facts)
    save_file(random_state_dict(network("big", 16), 1), "big.safetensors")
    return tmp_path


def test_the_command_says_what_was_carried_and_how_the_teacher_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(list(COMMAND)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("weights of big (big.safetensors): ") for line in lines)
    outputs = next(folder.glob("runs/x/teacher-*.npy"))
    assert f"teacher big.yaml: its outputs are computed once per image and kept in {outputs.name}" in lines
    provenance = load_spec_file(folder / "runs" / "x" / "last.yaml").provenance
    assert provenance["normalisation"] == STATISTICS  # of the weights, not of the images
    assert (provenance["begun_with"]["network"], provenance["begun_with"]["weights"]) == ("big", "big.yaml")
    assert (provenance["teacher"]["name"], provenance["teacher"]["temperature"]) == ("big.yaml", 4.0)
    with pytest.raises(NasError, match=r"run 'x' was begun with distillation\.share = 0\.9, now it is 0\.5"):
        command([*COMMAND, "distillation.share=0.5"])
    with pytest.raises(NasError, match=r"was begun with teacher\.name = 'big\.yaml', now it is null"):
        command([*COMMAND, "teacher=null"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weights=small.yaml", r"weights 'small\.yaml': has no weights beside it .*; choose from big\.yaml"),
        ("teacher=small.yaml", r"teacher_weights 'small\.yaml': has no weights beside it"),
        ("distillation.temperature=0", r"distillation\.temperature 0: must be a number above 0"),
        ("distillation.tau=1", r"distillation\.tau"),
    ],
)
def test_mistakes_are_named_before_images_are_loaded(change: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        command([*COMMAND, change])
