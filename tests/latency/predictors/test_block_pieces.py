"""Tests that pieces cover a network, and that equal work is one piece."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.arch import zoo
from nas.arch.heads import detector, segmenter
from nas.arch.ops.network import network_ops
from nas.arch.parts import MOBILENET_V3_SE
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError, SpecError
from nas.latency.predictors.block_pieces import Piece, pieces
from nas.latency.predictors.block_table import BlockTable
from nas.latency.random_networks import random_specs
from tests.latency.synthetic_device import DEVICE


@pytest.mark.parametrize("spec", [zoo.get("mobilenetv3_large_100"), zoo.get("mixnet_s"), *random_specs(8, seed=6)])
@pytest.mark.parametrize("px", [None, 97])
def test_pieces_hold_every_operation_once_in_order(spec, px: int | None) -> None:
    from_pieces = [(path, op) for path, piece in pieces(spec, px) for op in piece.ops]
    whole = list(network_ops(spec, px))
    assert [f"{path}.{op.path}" if path else op.path for path, op in from_pieces] == [op.path for op in whole]
    for (_, part), op in zip(from_pieces, whole, strict=True):
        assert part._replace(path="", inputs=(), norm=bool(part.norm)) == op._replace(
            path="", inputs=(), norm=bool(op.norm)
        )


def test_equal_work_is_one_piece() -> None:
    plain = Piece(block="ir_r1_k3_s1_e6_c24_nsw", in_channels=32, input_px=14)
    # The activation from outside, an expansion that rounds to the same channels, a shortcut that cannot be.
    for block, change in (
        ("ir_r1_k3_s1_e6_c24", {"activation": "swish"}),
        ("ir_r1_k3_s1_e6.05_c24_nsw", {}),
        ("ir_r1_k3_s1_e6_c24_nsw_noskip", {}),
        ("ir_r1_k3_s1_e6_c24_nsw", {"squeeze_excite": MOBILENET_V3_SE}),
    ):
        assert replace(plain, block=block, **change).ops == plain.ops
    for change in ({"input_px": 15}, {"in_channels": 40}, {"block": "ir_r1_k3_s2_e6_c24_nsw"}):
        assert replace(plain, **change).ops != plain.ops
    squeezed = replace(plain, block="ir_r1_k3_s1_e6_c24_se0.25_nsw")
    assert squeezed.ops != replace(squeezed, squeeze_excite=MOBILENET_V3_SE).ops


def test_stem_and_head_by_hand() -> None:
    (stem,) = Piece(block="stem_k3_s2_c16", in_channels=3, input_px=224, activation="hard_swish").ops
    assert (stem.macs, stem.out_px, stem.activation) == (27 * 16 * 112**2, 112, "hard_swish")
    head = Piece(block="head_pool_conv_c1280_o1000", in_channels=960, input_px=7).ops
    assert [op.kind for op in head] == ["pool", "conv", "linear"]
    assert sum(op.macs for op in head) == 960 * 1280 + 1280 * 1000


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("ir_r2_k3_s1_e6_c24", "one block; write r1"),
        ("ir_r1_k3_s1_c24", "'e' is missing"),
        ("stem_k3_s3_c16", "stride 1 or 2"),
        ("head_conv_c1280_o1000", "must be conv_pool, pool_conv"),
        ("stem", "unknown type 'stem'"),
    ],
)
def test_unparsable_pieces_are_refused(block: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _ = Piece(block=block, in_channels=16, input_px=56).ops
    with pytest.raises(SpecError, match="activation 'gelu'"):
        Piece(block="stem_k3_s2_c16", in_channels=3, input_px=224, activation="gelu")


@pytest.mark.parametrize("spec", [detector(zoo.get("mixnet_s"), 3), segmenter(zoo.get("mixnet_s"), 3)])
def test_a_table_says_that_it_has_no_dense_heads(spec: ArchSpec) -> None:
    table = BlockTable(device=DEVICE, entries={piece: 1.0 for _, piece in pieces(zoo.get("mixnet_s"))})
    for call in (table.predict, table.layer_ms, table.missing):
        with pytest.raises(NasError, match=rf"network '{spec.name}': a table of blocks has no entries .* latency=macs"):
            call(spec)
