"""Tests of the table of initial weights: what differs, counts of parameters, remarks."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import save_file

from nas.arch.files import save_spec
from nas.arch.spec import ArchSpec
from nas.model.weights import initial_state, print_initial_weights, random_state_dict
from tests.model.weights.tiny import tiny


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with weights of ``tiny(16)`` and their spec."""
    monkeypatch.chdir(tmp_path)
    save_spec(tiny(16), "seen.yaml", {"class_names": ["ant", "bee", "cat"]})
    save_file(random_state_dict(tiny(16), 1), "seen.safetensors")
    return tmp_path


def printed(arch: ArchSpec, names: tuple[str, ...]) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    initial = initial_state(arch, "seen.yaml", seed=0, folder=Path(), class_names=names)
    print_initial_weights(initial, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_the_table_shows_what_differs_and_counts_parameters() -> None:
    # stem 216 + 16; ds: 72 + 16, 64 + 16; ir, hidden 16: 128 + 32, 400 + 32, 16 * c + 2 c; head 16 c + 32; classifier
    # 17 per class. With c = 8 instead of 16 every parameter but the classifier's is carried.
    body = 232 + 168 + 592 + 18 * 8 + 16 * 8 + 32
    lines = printed(tiny(8, classes=2), ("dog", "ant"))
    assert [line.split()[0] for line in lines[:2]] == ["part", lines[1].split()[0]]
    assert "blocks.1.0 cropped 8-16 8-16-8 5 5 100%" in lines
    assert "classifier drawn anew 16-2 0%" in lines
    assert f"weights of tiny (seen.safetensors): {body:,} of {body + 34:,} parameters carried, 34 drawn anew" in lines
    assert "classifier: new, beginning at zero; among the 3 classes of the weights is no 'dog'" in lines


def test_without_differences_there_is_no_table() -> None:
    total = 232 + 168 + 592 + 18 * 16 + 16 * 16 + 32 + 51
    assert printed(tiny(16), ("ant", "bee", "cat"))[:2] == [
        f"weights of tiny (seen.safetensors): {total:,} of {total:,} parameters carried, 0 drawn anew",
        "classifier: carried",
    ]
