"""Tests of dense modules: their layers and shapes against the spec's, their maps against timm's."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.heads import backbone, detector, segmenter
from nas.arch.ops.network import network_ops, output_ops
from nas.arch.spec import ArchSpec
from nas.model.build import build, build_variant

NAMES = ("mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_100", "mixnet_s", "efficientnet_b0", "mnasnet_100")


def dense_specs(name: str) -> tuple[ArchSpec, ...]:
    arch = zoo.get(name)
    return (
        detector(arch, 20, resolution_px=128),
        detector(arch, 3, resolution_px=96, output_stride=16, tap="output", halve=True, lowest_anchors=3),
        segmenter(arch, 11, resolution_px=96),
        segmenter(arch, 5, resolution_px=128, output_stride=8, halve=True),
    )


@pytest.mark.parametrize("name", NAMES)
def test_module_and_spec_agree(name: str) -> None:
    """Parameters, multiply-adds, names and output shapes; torch counts the module."""
    for spec in dense_specs(name):
        side = spec.resolution_px
        with torch.device("meta"):
            model = build(spec).eval()
            with FlopCounterMode(display=False) as counter:
                outputs = model(torch.empty(1, 3, side, side))
        cost = complexity(spec)
        assert sum(weight.numel() for weight in model.parameters()) == cost.params
        assert counter.get_total_flops() == 2 * cost.macs
        ops = {op.path: op for op in network_ops(spec)}
        assert {key.rpartition(".")[0] for key in model.state_dict()} == {
            path for op in ops.values() for path in (op.path if op.weights else "", op.norm) if path
        }
        maps = outputs if spec.task == "detection" else (outputs,)
        assert [tuple(one.shape[1:]) for one in maps] == [
            (ops[path].out_channels, ops[path].out_px, ops[path].out_px) for path in output_ops(spec)
        ]


@pytest.mark.parametrize("name", ("mobilenetv3_small_100", "mixnet_s"))
@pytest.mark.parametrize("output_stride", (8, 16, 32))
def test_the_maps_are_those_of_the_classifier_with_the_same_weights(name: str, output_stride: int) -> None:
    """timm's network of the same output stride, its maps taken by hooks."""
    spec = detector(zoo.get(name), 3, resolution_px=64, output_stride=output_stride)
    model = build(spec).eval()
    reference = build_variant(backbone(spec), classes=0, global_pool="", output_stride=output_stride).eval()
    missing, unexpected = reference.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert all(key.startswith(("extra", "class_heads", "box_heads")) for key in unexpected)
    seen = {}
    stage = next(index for index in reversed(range(len(spec.stages))) if spec.stages[index].blocks[0].stride > 1)
    reference.blocks[stage][0].bn1.register_forward_hook(lambda _m, _i, out: seen.update(c4=out.clone()))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = reference.forward_features(images)
        tapped, last = model.maps(images)
    torch.testing.assert_close(last, features)
    torch.testing.assert_close(tapped, seen["c4"])
    assert last.shape[-1] == 64 // output_stride
