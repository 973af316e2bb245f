"""Tests of dense modules: their layers and shapes against the spec's, their maps against timm's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.arch import zoo
from nas.arch.complexity import complexity, layers
from nas.arch.heads import backbone, detector, segmenter
from nas.arch.ops.network import network_ops, output_ops
from nas.arch.spec import ArchSpec, StageSpec
from nas.model.build import build, build_variant

NAMES = ("mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_100", "mixnet_s", "efficientnet_b0", "mnasnet_100")


def dense_specs(name: str) -> tuple[ArchSpec, ...]:
    arch = zoo.get(name)
    return (
        detector(arch, 20, resolution_px=128),
        detector(arch, 3, resolution_px=96, output_stride=16, tap="output", halve=True, lowest_anchors=3, c3_scale=0.1),
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
    spec = detector(zoo.get(name), 3, resolution_px=64, output_stride=output_stride, c3_scale=0.1)
    model = build(spec).eval()
    reference = build_variant(backbone(spec), classes=0, global_pool="", output_stride=output_stride).eval()
    missing, unexpected = reference.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert all(key.startswith(("extra", "class_heads", "box_heads")) for key in unexpected)
    seen = {}
    strided = [index for index, stage in enumerate(spec.stages) if stage.blocks[0].stride > 1]
    for map_name, stage in zip(("c3", "c4"), strided[-2:], strict=True):
        reference.blocks[stage][0].bn1.register_forward_hook(
            lambda _m, _i, out, map_name=map_name: seen.update({map_name: out.clone()})
        )
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = reference.forward_features(images)
        c3, c4, last = model.maps(images)
    torch.testing.assert_close(last, features)
    torch.testing.assert_close(c3, seen["c3"])
    torch.testing.assert_close(c4, seen["c4"])
    assert c3.shape[-1] == 8
    assert last.shape[-1] == 64 // output_stride


def test_a_map_for_small_objects_changes_nothing_of_the_others() -> None:
    """Their predictions, and random first weights, are those of the detector without it."""
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = []
    for c3_scale in (None, 0.1):
        torch.manual_seed(3)
        model = build(detector(zoo.get("mobilenetv3_small_050"), 3, resolution_px=64, c3_scale=c3_scale)).eval()
        with torch.inference_mode():
            found.append(model(images))
    assert [len(outputs) for outputs in found] == [12, 14]
    shared = [*found[1][:6], *found[1][7:13]]
    assert [one.shape for one in found[0]] == [one.shape for one in shared]
    assert found[1][6].shape == (1, 6 * 4, 8, 8)


def test_a_block_may_have_both_maps_that_are_read() -> None:
    """Its expansion is C3, its output C4, because the next block has the last stride and no expansion."""
    trunk = ["ds_r1_k3_s2_c8"], ["ir_r1_k3_s2_e3_c16"], ["ds_r1_k3_s2_c24"]
    base = zoo.get("mobilenetv2_050")
    spec = detector(replace(base, stages=tuple(map(StageSpec.parse, trunk))), 2, resolution_px=64, c3_scale=0.05)
    cost, ops = complexity(spec), {op.path: op for op in network_ops(spec)}
    model = build(spec).eval()
    with torch.inference_mode():
        outputs = model(torch.zeros(1, 3, 64, 64))
    assert [tuple(one.shape[1:]) for one in outputs] == [
        (ops[path].out_channels, ops[path].out_px, ops[path].out_px) for path in output_ops(spec)
    ]
    assert ops["class_heads.0.conv_dw"].inputs == ("blocks.1.0.conv_pwl",)
    assert ops["class_heads.6.conv_dw"].inputs == ("blocks.1.0.conv_pw",)
    assert sum(weight.numel() for weight in model.parameters()) == cost.params
    assert max(row.live_bytes for row in layers(spec)) == cost.peak_memory_bytes
