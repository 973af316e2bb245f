"""Tests of block tables: sums of entries, missing entries, CSV files."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from nas.arch import zoo
from nas.arch.parts import MOBILENET_V3_SE
from nas.arch.spec import StageSpec
from nas.core.errors import NasError
from nas.latency.predictors.block_pieces import Piece, pieces
from nas.latency.predictors.block_table import BlockTable, MissingEntries, missing_entries, read_table
from nas.latency.random_networks import random_specs
from nas.latency.settings import LatencySettings
from nas.latency.store import device_of, load_or_calibrate, load_predictor, save_predictor
from tests.latency.synthetic_device import DEVICE

SMALL = zoo.get("mobilenetv3_small_100")
HEADER = "# device: Pixel 1\n# backend: tflite 1.15\n# unit: ms\n"
COLUMNS = "block,in_channels,input_px,latency_ms,activation,squeeze_excite\n"


def synthetic_entries(*specs) -> dict[Piece, float]:
    """Table entries for all pieces of ``specs``, with distinct synthetic ms."""
    distinct = {piece.ops: piece for spec in specs for _, piece in pieces(spec)}
    return {piece: 1 + index / 100 for index, piece in enumerate(distinct.values())}


def csv_of(entries: dict[Piece, float], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(HEADER + COLUMNS)
        writer = csv.writer(stream)
        for piece, ms in entries.items():
            convention = "mobilenet_v3" if piece.squeeze_excite == MOBILENET_V3_SE else ""
            writer.writerow([piece.block, piece.in_channels, piece.input_px, ms, piece.activation, convention])
    return path


def expected_ms(spec, entries: dict[Piece, float]) -> float:
    by_ops = {piece.ops: ms for piece, ms in entries.items()}
    return sum(by_ops[piece.ops] for _, piece in pieces(spec))


def test_a_network_is_the_sum_of_its_entries() -> None:
    scaled = replace(SMALL, stages=(StageSpec.parse(["uir_r2_k3_s2_e2_c16"]),), layer_scale=1e-5)
    specs = [SMALL, zoo.get("mixnet_s"), scaled, *random_specs(5, seed=1)]
    entries = synthetic_entries(*specs)
    table = BlockTable(device=DEVICE, entries=entries)
    for spec, estimate in zip(specs, table.predict_many(specs), strict=True):
        assert estimate.latency_ms == pytest.approx(expected_ms(spec, entries))
        assert sum(ms for _, ms in table.layer_ms(spec)) == pytest.approx(estimate.latency_ms)
    assert table.error is None
    with pytest.raises(NasError, match="cannot learn"):
        table.refined([])


def test_missing_entries_are_listed_before_and_in_the_error() -> None:
    entries = synthetic_entries(SMALL)
    dropped = [piece for piece in entries if piece.block.startswith(("head", "ir_r1_k5_s2"))]
    table = BlockTable(device=DEVICE, entries={piece: ms for piece, ms in entries.items() if piece not in dropped})
    assert table.missing(SMALL) == dropped
    assert len(dropped) == 3
    with pytest.raises(MissingEntries, match=r"mobilenetv3_small_100.* lacks 3 .*ir_r1_k5_s2_e4_c40") as caught:
        table.predict(SMALL)
    assert caught.value.missing == tuple(dropped)
    with pytest.raises(MissingEntries):
        table.predict(SMALL, 192)
    wide = replace(SMALL, classes=10)
    assert missing_entries(table, [SMALL, SMALL, wide]).most_common(1)[0][1] == 3
    assert len(missing_entries(table, [SMALL, wide])) == 4


def test_tables_survive_files_of_both_kinds(tmp_path: Path) -> None:
    entries = synthetic_entries(SMALL, zoo.get("efficientnet_b0"))
    path = csv_of(entries, tmp_path / "blocks.csv")
    settings = LatencySettings(backend="table", path=str(path))
    table = load_or_calibrate(settings, tmp_path)
    assert isinstance(table, BlockTable)
    assert (table.device.processor, table.device.backend) == ("Pixel 1", "tflite")
    assert table.device == device_of(settings)
    assert table.predict(SMALL).latency_ms == pytest.approx(expected_ms(SMALL, entries))
    save_predictor(table, tmp_path / "saved.json")
    again = load_predictor(tmp_path / "saved.json", settings)
    assert isinstance(again, BlockTable)
    assert again.entries == table.entries
    assert sorted(file.name for file in tmp_path.iterdir()) == ["blocks.csv", "saved.json"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("ir_r1_k3_s2_e6_c24,16,112,", r"blocks\.csv, line 6: latency_ms is missing"),
        ("ir_r1_k3_s2_e6_c24,16,112,0", r"line 6: latency_ms '0': must be a positive"),
        ("ir_r1_k3_s2_e6_c24,16,,1", r"line 6: input_px is missing"),
        ("ir_r1_k3_s2_e6_c24,sixteen,112,1", r"line 6: in_channels 'sixteen'"),
        ("ir_r1_k3_s2_e6,16,112,1", r"line 6: block .*'c' is missing"),
        ("ir_r1_k3_s2_e6_c24,16,112,1,gelu", r"line 6: unknown activation 'gelu'"),
        ("ir_r1_k3_s2_e6_c24,16,112,1,,v3", r"line 6: squeeze_excite 'v3': must be efficientnet or mobilenet_v3"),
        ("stem_k3_s2_c16,3,224,2", r"line 6: stem_k3_s2_c16 .* takes 2 ms, but 1 ms in line 5"),
    ],
)
def test_errors_name_the_row(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "blocks.csv"
    path.write_text(f"{HEADER}{COLUMNS}stem_k3_s2_c16,3,224,1\n{row}\n", encoding="utf-8")
    with pytest.raises(NasError, match=message):
        read_table(path)


def test_a_unit_other_than_ms_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blocks.csv"
    path.write_text(HEADER.replace("ms", "us") + COLUMNS + "stem_k3_s2_c16,3,224,1\n", encoding="utf-8")
    with pytest.raises(NasError, match=r"line 3: unit 'us': latencies must be in ms"):
        read_table(path)


def test_a_path_belongs_to_a_table_and_only_to_it() -> None:
    with pytest.raises(NasError, match=r"latency\.path null: latency=table requires"):
        LatencySettings(backend="table")
    with pytest.raises(NasError, match=r"latency\.path 'x\.csv': .*other backends do not accept one"):
        LatencySettings(path="x.csv")
