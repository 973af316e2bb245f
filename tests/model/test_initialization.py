"""Zero-initialised residuals: blocks with a shortcut are initially the identity."""

from __future__ import annotations

import pytest
import torch

from nas.arch import zoo
from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.model.build import build
from nas.model.initialization import zero_init_residual

UNIVERSAL = ArchSpec.from_strings(
    "universal",
    [["uir_r2_a3_k3_s2_e2_c24", "mqa_r1_k3_h2_d8_s1_c24", "uir_r1_k3_p3_s1_e2_c24"], ["er_r2_k3_s2_e2_c32"]],
    stem=StemSpec(channels=16),
    head=HeadSpec(channels=8),
)


@pytest.mark.parametrize("name", ["mixnet_s", "mobilenetv3_small_100", "mobilenetv2_035", "universal"])
def test_residual_blocks_are_initially_the_identity(name: str) -> None:
    spec = UNIVERSAL if name == "universal" else zoo.get(name)
    torch.manual_seed(0)
    model = build(spec).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    zero_init_residual(model)
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    skips = []
    for placed in spec.placed_blocks():
        block = model.get_submodule(placed.path)
        images = torch.randn(2, placed.in_channels, 6, 6)
        if placed.stride == 1 and placed.in_channels == placed.block.channels and placed.block.type != "cn":
            skips.append(placed.path)
            assert torch.equal(block(images), images)
    assert len(changed) == len(skips) > 2
    assert [key.rpartition(".weight")[1] for key in changed] == [".weight"] * len(skips)
    assert [".".join(key.split(".")[:3]) for key in changed] == skips
