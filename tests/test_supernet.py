"""Tests of ``nas.supernet``: what it trains is what the search of that name finds; what it shows; mistakes."""

from __future__ import annotations

import json
import math
import shlex
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console
from safetensors.torch import load_file

from nas import search, supernet
from nas.core.errors import NasError
from nas.estimators.supernet import SupernetScorer, scorer
from nas.methods.search.session import prepare_search
from tests.json_output import json_answer

ARGUMENTS: Final = (
    "space=mobilenet_v1", "space.width=[0.25,0.5]", "space.resolution_px=[128]", "data=digits", "proxy=tiny",
    "data.subset=50", "estimator.supernet.epochs=1", "estimator.zero_cost=[]", "study.name=small",
)  # fmt: skip
TORCHRUN: Final = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
FILE: Final = Path("runs/small/supernet/supernet.safetensors")


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def test_it_trains_what_the_search_of_that_name_finds_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert supernet.command(list(ARGUMENTS)) == 0
    said = capsys.readouterr().out
    assert "training supernet ...\n" in said and f"\n{FILE}\n  space: mobilenet_v1, " in said
    *_, last = said.splitlines()
    command = shlex.split(last.removeprefix("search with it: "))
    assert command == ["python", "-m", "nas.search", *ARGUMENTS, "estimator=supernet"]
    plan = search.make_plan([*command[3:], "latency=macs"])
    found = prepare_search(plan, Console()).evaluator.scorer
    assert isinstance(found, SupernetScorer) and found.path.resolve() == FILE.resolve()
    replace(found, folder=Path("again")).prepare()
    assert Path("again/supernet.safetensors").read_bytes() == FILE.read_bytes()

    def refuse(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(scorer, "train_supernet", refuse)
    found.prepare()
    capsys.readouterr()
    shown = json_answer(supernet.command, capsys, ARGUMENTS)
    assert shown == json_answer(supernet.command, capsys, ("show=runs/small",))
    (facts,) = shown["supernets"]
    tensors = load_file(FILE)
    assert facts["params"] == sum(tensor.numel() for tensor in tensors.values()) and facts["tensors"] == len(tensors)
    assert facts["size_bytes"] == FILE.stat().st_size and facts["classes"] == 10
    assert facts["identity"]["settings"]["epochs"] == 1 and facts["identity"]["data"][0][:2] == [50, 1]
    with pytest.raises(NasError, match="was trained with another settings"):
        supernet.command([*ARGUMENTS, "estimator.supernet.lr=0.5"])


def test_several_members_are_trained_and_shown_and_other_processes_of_torchrun_are_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared: list[Path] = []

    def prepare(self: SupernetScorer, *_: Any) -> None:
        prepared.append(self.path)
        if not in_background:
            write_supernet(self.path)

    in_background = True
    monkeypatch.setattr(SupernetScorer, "prepare", prepare)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert supernet.command([*ARGUMENTS, "estimator.supernet.members=2"]) == 0
    assert [str(path.parent) for path in prepared] == ["runs/small/supernet/1", "runs/small/supernet/2"]
    assert capsys.readouterr() == ("", "") and not Path("runs").exists()
    in_background = False
    monkeypatch.setenv("RANK", "0")
    assert supernet.command([*ARGUMENTS, "estimator.supernet.members=2"]) == 0
    said = capsys.readouterr().out
    assert "supernet/1/supernet.safetensors (member 1 of 2)\n" in said and "(member 2 of 2)\n" in said


def write_supernet(path: Path, **changes: Any) -> None:
    """A file as safetensors documents it, of two tensors without data."""
    identity = {"space": "x", "data": [[7, 3, 8, 8]], "settings": {"epochs": 3}, "seed": 5, "versions": ["1", "2"]}
    header = {
        "__metadata__": {"nas.supernet": json.dumps(identity | changes)},
        "a.weight": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]},
        "classifier.bias": {"dtype": "F32", "shape": [4], "data_offsets": [60, 76]},
    }
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(76))


def test_a_supernet_is_shown_from_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    write_supernet(FILE)
    assert supernet.command([f"show={FILE}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(FILE),
        "  space: x, largest network None",
        "  data: 7 train images of 3x8x8, 4 classes",
        f"  size: 19 parameters in 2 tensors, {FILE.stat().st_size / 1e6:.2f} MB",
        "  training: epochs 3, seed 5",
        "  networks: ",
        "  versions: torch 1, timm 2",
    ]


@pytest.mark.parametrize(
    "data",
    [b"", b"x", struct.pack("<Q", 2**60), struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 4) + b"[[[[", b"\xff" * 99],
    ids=["empty", "short", "too long", "no metadata", "no JSON", "no text"],
)
def test_other_files_are_refused_in_a_line(data: bytes) -> None:
    Path("a.safetensors").write_bytes(data)
    with pytest.raises(NasError, match=r"^supernet 'a\.safetensors': is not a readable file of a supernet"):
        supernet.command(["show=a.safetensors"])


@pytest.mark.parametrize("changes", [{"settings": 3}, {"data": None}, {"space": math.inf}])
def test_a_header_with_other_values_is_refused(changes: dict[str, Any]) -> None:
    write_supernet(FILE, **changes)
    with pytest.raises(NasError, match=rf"is not a readable file of a supernet \(({'|'.join(changes)}|header)\)"):
        supernet.command([f"show={FILE}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), r"which space\? Add one of these:"),
        (("space=mixnet", "estimator=zero_cost"), r"estimator\.name 'zero_cost': has no supernet"),
        (("space=mixnet", "estimator.supernet.epochs=0"), r"estimator\.supernet\.epochs 0: must be"),
        (("space=mixnet", "shwo=x"), r"unknown key 'shwo'.*Did you mean 'show'"),
        (("space=mixnet", "proxy=tiny,careful"), "unknown proxy 'tiny,careful': choose from [^:]*$"),
        (("show=nowhere",), "supernet 'nowhere': there is no such file; nas.supernet trains one"),
        (("show=.",), r"show '\.': there is no supernet in this folder"),
        (("show=3",), "show 3: must be text, or null"),
        (("--multirun",), "unknown option '--multirun'"),
    ],
)
def test_a_mistake_is_answered_in_a_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(NasError, match=message):
        supernet.command(list(words))
    assert list(Path.cwd().iterdir()) == []


def test_help_and_the_configuration_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert supernet.command(["--help"]) == 0
    assert "+space=mixnet" in capsys.readouterr().out
    assert supernet.command(["+space=mixnet", "--cfg", "job"]) == 0
    assert "name: supernet" in capsys.readouterr().out
