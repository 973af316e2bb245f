"""Tests of a network as a teacher: classes by name, channels, normalisation, errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import save_file

from nas.arch.files import save_spec
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.model.build import build
from nas.model.weights import random_state_dict
from nas.training.distillation import NetworkTeacher, TeacherChoice, load_teacher

ARCH: Final = ArchSpec.from_strings(
    "tiny", [["ds_r1_k3_s2_e1_c8"]], stem=StemSpec(channels=8), head=HeadSpec(channels=8), classes=3
)
STATE: Final = random_state_dict(ARCH, 1)
FACTS: Final[dict[str, Any]] = {
    "class_names": ["ant", "bee", "cat"],
    "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}


@dataclass(frozen=True, kw_only=True)
class Images:
    class_names: tuple[str, ...] = ("ant", "bee", "cat")
    channels: int = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    save_file(STATE, tmp_path / "tiny.safetensors")
    save_spec(ARCH, tmp_path / "tiny.yaml", FACTS)
    return tmp_path / "tiny.yaml"


def load(spec: Path, **images: Any) -> NetworkTeacher:
    return load_teacher(TeacherChoice(name="tiny.yaml", arch=ARCH, weights=str(spec)), Images(**images), spec.parent)


def expected_logits(pixels: torch.Tensor) -> torch.Tensor:
    """Logits of the teacher's network for pixels scaled to [0, 1]."""
    model = build(ARCH).eval()
    model.load_state_dict(STATE)
    with torch.no_grad():
        return model((pixels - 0.5) / 0.25)


PIXELS: Final = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_classes_are_found_by_name_and_images_renormalised(spec: Path) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    teacher = load(spec, class_names=("cat", "ant"), mean=mean, std=std)
    images = (PIXELS - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    before = torch.get_rng_state()
    logits = teacher.targets(torch.arange(4), images)
    assert torch.equal(before, torch.get_rng_state()) and not logits.requires_grad
    # Six float32 operations per pixel instead of two.
    torch.testing.assert_close(logits, expected_logits(PIXELS)[:, [2, 0]], atol=1e-5, rtol=1e-4)


def test_grey_images_are_seen_as_colour_images_of_equal_channels(spec: Path) -> None:
    grey = PIXELS[:, :1]
    logits = load(spec, channels=1, mean=(0.5,), std=(0.25,)).targets(torch.arange(4), (grey - 0.5) / 0.25)
    torch.testing.assert_close(logits, expected_logits(grey.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-4)


def test_identity_changes_with_weights_and_classes(spec: Path) -> None:
    one, other = load(spec), load(spec, class_names=("cat", "ant"))
    save_file({**STATE, "bn1.bias": STATE["bn1.bias"] + 1}, spec.with_suffix(".safetensors"))
    third = load(spec)
    assert len({str(teacher.identity()) for teacher in (one, other, third)}) == 3


@pytest.mark.parametrize(
    ("names", "facts", "message"),
    [
        (
            ("ant", "dog"), FACTS,
            r"teacher 'tiny.yaml': has 3 classes \(ant, bee, cat\), among them no 'dog'; the images have 2: give a net",
        ),
        (("x", "y"), None, r"teacher 'tiny.yaml': has 3 classes; the images have 2: give a network"),
    ],
)  # fmt: skip
def test_a_teacher_of_other_classes_is_refused(
    names: tuple[str, ...], facts: dict[str, Any] | None, message: str, spec: Path
) -> None:
    save_spec(ARCH, spec, facts)
    with pytest.raises(NasError, match=message):
        load(spec, class_names=names)


def test_weights_of_another_network_than_the_teacher_are_refused(spec: Path) -> None:
    other = replace(ARCH, name="other", head=HeadSpec(channels=16))
    with pytest.raises(NasError, match=r"are of the network tiny, the teacher 'timm/x' is another one"):
        load_teacher(TeacherChoice(name="timm/x", arch=other, weights=str(spec)), Images(), spec.parent)
