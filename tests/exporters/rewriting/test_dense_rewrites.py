"""Rewrites of detectors and segmenters: blocks that the head reads into stay plain."""

from __future__ import annotations

import pytest

from nas.arch import zoo
from nas.arch.heads import detector, segmenter, taps
from nas.arch.ops.network import network_ops, network_segments, output_ops
from nas.arch.spec import ArchSpec
from nas.exporters.rewriting import PLAIN, named_forms, rewritten_ops
from nas.exporters.rewriting.candidates import candidates
from nas.exporters.rewriting.named import REWRITES

DENSE = [build(zoo.get(name), 3) for name in ("mixnet_s", "mobilenetv3_large_100") for build in (detector, segmenter)]
DENSE.append(detector(zoo.get("mixnet_s"), 3, c3_scale=0.1))


@pytest.mark.parametrize("spec", DENSE, ids=lambda spec: spec.name)
def test_every_tensor_that_is_read_is_written_before(spec: ArchSpec) -> None:
    forms = named_forms(spec, REWRITES)
    ops, _ = rewritten_ops(spec, forms)
    written = {""}
    for op in ops:
        assert {name.partition(":")[0] for name in op.inputs} <= written, op.path
        written.add(op.path)
    assert set(output_ops(spec)) <= written
    assert any(form != PLAIN for form in forms)


@pytest.mark.parametrize("spec", DENSE, ids=lambda spec: spec.name)
def test_the_blocks_that_a_head_reads_into_keep_their_operations(spec: ArchSpec) -> None:
    parts = network_segments(spec)
    forms = named_forms(spec, REWRITES)
    read = [index for index, part in enumerate(parts[1:-1]) if part.taps]
    assert len(read) == len(taps(spec))
    for tapped in read:
        assert forms[tapped] == PLAIN
        assert [one.form for one in candidates(parts[1 + tapped], spec.padding, 16)] == [PLAIN]
        path = list(spec.placed_blocks())[tapped].path
        asked = tuple(form._replace(expand="pieces", lane=16, cropped=True) for form in forms)
        plain = [op for op in network_ops(spec) if op.path.startswith(f"{path}.")]
        assert [op for op in rewritten_ops(spec, asked)[0] if op.path.startswith(f"{path}.")] == plain
