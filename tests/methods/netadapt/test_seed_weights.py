"""Tests of the weights that an adaptation begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import save_file

from nas.arch import ArchSpec, save_spec
from nas.arch.spec import StageSpec
from nas.data.images import load_images
from nas.data.sources import DataSettings
from nas.methods.netadapt.seed_weights import seed_weights
from nas.model.weights.initial import random_state_dict
from nas.netadapt import make_plan
from tests.methods.netadapt.fakes import SEED

ARCH = replace(SEED, in_channels=1, resolution_px=16)


def with_last_stage(block: str) -> ArchSpec:
    return replace(ARCH, stages=(*ARCH.stages[:2], StageSpec.parse([block])))


@pytest.mark.parametrize(
    ("source", "is_trained"),
    [
        (ARCH, True),
        (replace(ARCH, classes=7), False),
        (with_last_stage("ir_r1_k3.5_s2_e3_c40"), False),  # a block is drawn anew
        (with_last_stage("ir_r2_k3.5_s2_e6_c40"), False),  # channels are left out
    ],
)
def test_weights_of_another_network_are_trained_first(source: ArchSpec, is_trained: bool, tmp_path: Path) -> None:
    save_spec(ARCH, tmp_path / "seed.yaml")
    save_spec(source, tmp_path / "source.yaml")
    save_file(random_state_dict(source, 1), tmp_path / "source.safetensors")
    plan = make_plan(
        [f"arch={tmp_path}/seed.yaml", f"weights={tmp_path}/source.yaml", "target=0.7", f"runs_dir={tmp_path}"]
    )
    data = load_images(DataSettings(name="digits", subset=20))
    found = seed_weights(plan, plan.seed, data, Console(quiet=True))
    assert found.is_trained is is_trained and found.content
