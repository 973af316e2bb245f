"""Tests of block-wise timing and of the graphs extracted for it."""

from __future__ import annotations

import numpy as np
import pytest

from nas.arch.parts import HeadSpec, StemSpec
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.exporters.onnx.session import onnx_session
from nas.latency.measure.backends import runner
from nas.latency.measure.block_timing import extract_graphs, table_of
from nas.latency.predictors.block_pieces import pieces

TINY = ArchSpec.from_strings(
    "tiny",
    [["ir_r2_k3.5_s2_e2_c8_se0.25"], ["ds_r1_k3_s1_c16"]],
    stem=StemSpec(channels=8),
    head=HeadSpec(channels=16),
    resolution_px=32,
    classes=3,
    activation="swish",
)


@pytest.mark.usefixtures("unsteady")
def test_every_piece_is_measured_once() -> None:
    calls: list[tuple[int, int]] = []
    table = table_of([TINY, TINY], rounds=2, runs=2, batch=2, progress=lambda done, total: calls.append((done, total)))
    assert table.missing(TINY) == []
    assert len(table.entries) == 5  # stem, strided and other block, ds, head
    assert min(table.entries.values()) > 0
    assert table.device.batch == 2
    assert calls == [(0, 5), (5, 5)]


def test_pieces_one_after_another_give_the_network_s_output() -> None:
    chunk = [(piece, TINY, index) for index, (_, piece) in enumerate(pieces(TINY))]
    values = None
    for (piece, _, _), (graph, feed) in zip(chunk, extract_graphs(chunk, batch=2, seed=3), strict=True):
        ((name, noise),) = feed.items()
        assert noise.shape == (2, piece.in_channels, piece.input_px, piece.input_px)
        (values,) = onnx_session(graph, 1).run(None, {name: noise if values is None else values})
    whole = runner(TINY, backend="onnxruntime", batch=2, seed=3)()[0]
    assert np.asarray(values) == pytest.approx(whole, rel=1e-4, abs=1e-5)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(NasError, match="rounds 0"):
        table_of([TINY], rounds=0)
