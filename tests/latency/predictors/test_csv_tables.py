"""Tests of CSV files of latencies as spreadsheets write them, and of what is refused in them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import pytest

from nas.core.errors import NasError
from nas.latency.calibration.external import read_measurements
from nas.latency.device import Device
from nas.latency.predictors.block_table import read_table
from nas.latency.predictors.csv_tables import LatencyRow, read_csv

HEADER = "# device: Pixel 4\n# backend: tflite 2.16\n# unit: ms\n"
REQUIRED, OPTIONAL = ("network", "latency_ms"), ("resolution_px", "classes")


def read(folder: Path, text: str) -> tuple[Device, list[LatencyRow]]:
    path = folder / "phone.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return read_csv(path, required=REQUIRED, optional=OPTIONAL)


def spreadsheet(folder: Path, rows: list[list[str]], *, quoting: Literal[0, 1, 2, 3], delimiter: str = ",") -> Path:
    """File of ``rows`` padded with empty cells to one width, as spreadsheets save them."""
    width = max(map(len, rows)) + 1
    path = folder / "sheet.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream, quoting=quoting, delimiter=delimiter)
        writer.writerows([row + [""] * (width - len(row)) for row in rows])
    return path


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_measurements_from_a_spreadsheet(tmp_path: Path, quoting: Literal[0, 1, 2, 3]) -> None:
    rows = [
        ["# device: Pixel 4, kitchen"],
        ["# backend:", "tflite 2.16"],
        ["# threads: 4"],
        ["# unit: ms"],
        ["# measured on a Tuesday, twice"],
        [],
        ["network", "latency_ms", "resolution_px"],
        ["mixnet_s", "20.5"],
        [],
        ["# warm from here, on"],
        ["ds_r1_k3_s1_c16|ir_r1_k3_s2_e6_c24", "7", "96"],
    ]
    measured = read_measurements(spreadsheet(tmp_path, rows, quoting=quoting))
    device = measured.device
    assert (device.processor, device.backend, device.backend_version) == ("Pixel 4, kitchen", "tflite", "2.16")
    assert device.threads == 4
    assert [(spec.resolution_px, ms) for spec, ms in measured.networks] == [(224, 20.5), (96, 7.0)]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_block_table_from_a_spreadsheet(tmp_path: Path, quoting: Literal[0, 1, 2, 3]) -> None:
    rows = [
        ["# device: Pixel 1"],
        ["# backend: tflite"],
        [],
        ["block", "in_channels", "input_px", "latency_ms"],
        [],
        ["stem_k3_s2_c32", "3", "224", "2.35"],
    ]
    table = read_table(spreadsheet(tmp_path, rows, quoting=quoting))
    assert table.device.processor == "Pixel 1"
    assert list(table.entries.values()) == [2.35]


def test_cells_may_contain_quotes_commas_and_lines(tmp_path: Path) -> None:
    text = 'sep=,\r\n"# device: the ""big"" one, 2",,\r\n# it\'s a ,"comment\r\n# backend: b\r\n'
    text += 'network,latency_ms\r\n"# two\r\nlines",\r\n"a,b.yaml",2\r\n\r\nc,"3"\r\n'
    device, rows = read(tmp_path, text)
    assert device.processor == 'the "big" one, 2'
    assert [(row.line, row.cells) for row in rows] == [
        (8, {"network": "a,b.yaml", "latency_ms": "2"}),
        (10, {"network": "c", "latency_ms": "3"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}network;latency_ms\nmixnet_s;2,5\n", "line 4: the columns are separated by ';'; save .* commas"),
        (f"{HEADER}network\tlatency_ms\nmixnet_s\t2.5\n", "line 4: the columns are separated by tabs; save .* commas"),
        (HEADER.replace("\n", ";;\n") + "network;latency_ms;\n", "line 4: the columns are separated by ';'"),
        (f"sep=;\n{HEADER}network;latency_ms\n", "line 1: the columns are separated by ';'"),
        (f"{HEADER}network,latency_ms\nmixnet_s;2.5\n", "line 5: the cells are separated by ';'; save .* commas"),
        (f'{HEADER}network,latency_ms\nmixnet_s,"2,5"\n', "line 5: latency_ms '2,5': must be a positive .* point"),
        (f'{HEADER}network,latency_ms\na,"1,234.5"\n', "latency_ms '1,234.5': .* no thousands separators"),
        (
            f"{HEADER}network,latency_ms\nmixnet_s,2,5\n",
            "line 5: 3 cells for 2 columns: if latency_ms is 2,5, .* point",
        ),
        (f"{HEADER}network,latency_ms,classes\na,2,5,\n", "4 cells for 3 columns: if latency_ms is 2,5, .* point"),
        (f"{HEADER}network,latency_ms\na.yaml,b.yaml,5\n", "3 cells for 2 columns; quote cells"),
        (f"{HEADER}network,,latency_ms\n", "line 4: column 2 has no name"),
        (f'{HEADER}network,latency_ms\na,1\n"b,1\nc,2\n', "line 6: .* a quote is not closed; enclose"),
        (f"{HEADER}network,latency_ms\n{'a' * 200_000},1\n", "line 5: .* field larger than field limit"),
        (f"#{'a' * 200_000}\n", "line 1: .* field larger than field limit"),
        (f"{HEADER}network,latency_ms\na,1_0\n", "latency_ms '1_0': must be a positive number of ms"),
        (f"{HEADER}# threads: {'9' * 5000}\nnetwork,latency_ms\n", "line 4: threads '9{40}...': .* at most 9 digits"),
        (f"{HEADER}# threads: 0\nnetwork,latency_ms\n", "line 4: threads '0': must be a whole number"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        for row in read(tmp_path, text)[1]:
            row.latency_ms()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_thousands_separators_in_whole_numbers_are_named(tmp_path: Path) -> None:
    _, rows = read(tmp_path, f'{HEADER}network,latency_ms,classes\na,1,"1,000"\n')
    with pytest.raises(NasError, match=r"line 5: classes '1,000': must be a whole number .* no thousands separators"):
        rows[0].positive_int("classes")


def test_an_encoding_other_than_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "phone.csv"
    path.write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(NasError, match=r"phone\.csv': not a text file in UTF-8; save it as CSV with that encoding"):
        read_csv(path, required=REQUIRED, optional=OPTIONAL)
