"""Initial weights for short trainings: blocks with a shortcut are the identity, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from nas.arch import zoo
from nas.model.build import build
from nas.model.init import zero_init_residual


@pytest.mark.parametrize("name", ["mixnet_s", "mobilenetv3_small_100", "mobilenetv2_035"])
def test_blocks_with_a_shortcut_begin_as_the_identity(name: str) -> None:
    spec = zoo.get(name)
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
    assert all(key.rpartition(".bn")[0] in skips and key.endswith(".weight") for key in changed)
