"""Tests of weights= and teacher= on the command line, and of the table of what was carried."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from nas.arch.files import save_spec
from nas.cli.resolve.weights import resolve_teacher, resolve_weights
from nas.core.errors import NasError
from nas.model.weights import random_state_dict
from tests.model.weights.tiny import tiny


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with weights of ``tiny(16)`` and their spec, and a spec without weights."""
    monkeypatch.chdir(tmp_path)
    save_spec(tiny(16), "seen.yaml", {"class_names": ["ant", "bee", "cat"]})
    save_spec(tiny(16), "bare.yaml")
    save_file(random_state_dict(tiny(16), 1), "seen.safetensors")
    return tmp_path


@pytest.mark.parametrize("value", [None, "pretrained", "timm/mixnet_s", "seen.yaml", "seen.safetensors"])
def test_accepted_forms(value: str | None) -> None:
    assert resolve_weights(value) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, r"weights 3: must be null, pretrained, timm/NAME, a spec file .* \(\.safetensors, \.pth, \.pt, \.bin\)\."),
        ("pretraind", r"must be null, .* Did you mean 'pretrained'\?"),
        ("mixnet_s", r"Did you mean 'timm/mixnet_s'\?"),
        ("missing.pth", r"weights 'missing\.pth': no such file"),
        ("missing.yaml", r"weights 'missing\.yaml': no such spec file"),
        ("bare.yaml", r"has no weights beside it \(bare\.safetensors\); choose from seen\.yaml"),
        (".", r"weights '\.': is a folder; give a file of it, such as best\.yaml"),
    ],
)
def test_other_forms_are_refused_in_one_line(value: object, message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        resolve_weights(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("teacher", "weights", "expected"),
    [
        ("seen.yaml", None, "seen.yaml"),
        ("seen.yaml", "seen.safetensors", "seen.safetensors"),
        ("timm/mixnet_s", None, "timm/mixnet_s"),
        ("mixnet_s", None, "pretrained"),
    ],
)
def test_a_teacher_s_weights_are_known_by_its_name(teacher: str, weights: str | None, expected: str) -> None:
    choice = resolve_teacher(teacher, weights)
    assert choice is not None and choice.weights == expected
    assert choice.arch.name == ("tiny" if teacher == "seen.yaml" else "mixnet_s")


@pytest.mark.parametrize(
    ("teacher", "weights", "message"),
    [
        (None, "seen.yaml", r"teacher_weights 'seen\.yaml': needs a teacher; add teacher="),
        ("mixnet_z", None, r"teacher 'mixnet_z': neither a published network nor"),
        ("seen.yaml", "missing.pth", r"teacher_weights 'missing\.pth': no such file"),
        ("seen.yaml", "missing.yaml", r"teacher_weights 'missing\.yaml': no such spec file"),
        ("bare.yaml", None, r"teacher_weights 'bare\.yaml': has no weights beside it"),
    ],
)
def test_wrong_teachers_are_refused(teacher: str | None, weights: str | None, message: str) -> None:
    with pytest.raises(NasError, match=message):
        resolve_teacher(teacher, weights)


def test_no_teacher_is_none() -> None:
    assert resolve_teacher(None, None) is None
