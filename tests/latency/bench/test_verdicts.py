"""Verdicts of a benchmark: what the noise separates, whether int8 pays, what is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nas.core.errors import NasError
from nas.latency.bench.results import (
    BenchAccuracy,
    BenchResult,
    BenchRow,
    common_speed,
    read_bench,
    write_bench,
)
from nas.latency.bench.verdicts import Gain, fastest, int8_verdicts, is_separated, ratio_sign, verdict_lines
from nas.latency.device import Device

DEVICE = Device(processor="x", cores=2, backend="onnxruntime", backend_version="1")


def row(precision: str, latency_ms: float, runtime: str = "onnxruntime", **fields: object) -> BenchRow:
    return BenchRow(
        runtime=runtime, precision=precision, rewrite="none", device=DEVICE, latency_ms=latency_ms, error_ms=0.1,
        spread_ms=0.2, runs=20, size_bytes=1000, **fields,
    )  # fmt: skip


def network(*rows: BenchRow, error: float = 0.01) -> BenchResult:
    errors = tuple(tuple(0.0 if i == j else error for j in range(len(rows))) for i in range(len(rows)))
    return BenchResult(
        key="k", name="net", given="net", arch_id="a", resolution_px=32, weights="", probe_ms=0.2, other_cores=None,
        rows=rows, ratio_errors=errors,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("int8_ms", "gain", "words"),
    [
        (7.0, Gain.FASTER, "takes 0.700 ± 0.007 of float32's time"),
        (13.0, Gain.SLOWER, "slower here, ship float32"),
        (9.9, Gain.EQUAL, "no gain but size"),
    ],
)
def test_int8_pays_only_beyond_the_noise(int8_ms: float, gain: Gain, words: str) -> None:
    (verdict,) = int8_verdicts(network(row("float32", 10.0), row("int8", int8_ms)))
    assert verdict.gain is gain
    assert words in verdict.text


def test_ratios_are_held_against_their_error_with_bonferroni() -> None:
    # Two-sided 5% among m comparisons: the normal deviate of 0.025 / m, from SciPy.
    for comparisons in (1, 5):
        limit = float(stats.norm.ppf(1 - 0.025 / comparisons)) * 0.01
        for factor, sign in ((0.99, 0), (1.01, 1)):
            ratio = float(np.exp(factor * limit))
            assert ratio_sign(ratio, 0.01 * ratio, comparisons) == sign
            assert ratio_sign(1 / ratio, 0.01 / ratio, comparisons) == -sign


def test_the_fastest_form_comes_with_those_that_are_as_fast() -> None:
    found = network(row("float32", 10.0), row("int8", 7.0), row("int8", 7.05, "other"))
    assert fastest(found) == (1, [2])
    assert not is_separated(found, 1, 2) and is_separated(found, 1)
    assert verdict_lines([found])[0] == "net: fastest is onnxruntime int8; not separated from it: other int8"


def test_a_loss_of_accuracy_is_tested_image_by_image() -> None:
    lost, gained = 30, 10
    exact = stats.binomtest(lost, lost + gained).pvalue  # McNemar's exact test
    accuracy = BenchAccuracy(correct=480, images=1000, lost=lost, gained=gained)
    (verdict,) = int8_verdicts(network(row("float32", 10.0), row("int8", 7.0, accuracy=accuracy)))
    assert verdict.p_loss == pytest.approx(exact)
    assert verdict.loses_accuracy and "accuracy -2.00 ± 0.6" in verdict.text and "significant" in verdict.text
    same = replace(accuracy, lost=12)
    (verdict,) = int8_verdicts(network(row("float32", 10.0), row("int8", 7.0, accuracy=same)))
    assert not verdict.loses_accuracy


def test_networks_of_different_moments_are_stated_at_one_speed() -> None:
    slow = replace(network(row("float32", 12.0)), probe_ms=0.24)
    fast = network(row("float32", 10.0))
    rows = [result.rows[0].latency_ms for result in common_speed([slow, fast])]
    assert rows == pytest.approx([11.0, 11.0])


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    accuracy = BenchAccuracy(correct=480, images=1000, lost=3, gained=1)
    results = [network(row("float32", 10.0), row("mixed", 7.0, accuracy=accuracy, float_layers=("blocks.0.0.se",)))]
    write_bench(tmp_path / "results.json", results)
    assert read_bench(tmp_path / "results.json") == results
    assert read_bench(tmp_path / "none.json") == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"nas.bench/1"', '"nas.bench/9"', "format: must be nas.bench/1"),
        ('"latency_ms": 10.0', '"latency_ms": -1', r"networks\[0\]\.rows\[0\]\.latency_ms -1: must be"),
        ('"latency_ms": 10.0', '"latency_ms": NaN', "latency_ms nan: must be"),
        ('"precision": "int8"', '"precision": "int9"', "unknown precision 'int9': choose from float32, int8, mixed"),
        ('"size_bytes": 1000', '"size_bytes": "x"', "size_bytes: 'x' is not a whole number"),
        ('"ratio_errors": [', '"ratio_errors": [ [1],', "ratio_errors: must have one row"),
        ('"cores": 2', '"cores": 0', "cores"),
        ('"rows": [', '"rows": 1, "x": [', "rows: must be a list"),
    ],
)
def test_broken_results_are_refused_with_their_place(tmp_path: Path, old: str, new: str, error: str) -> None:
    path = tmp_path / "results.json"
    write_bench(path, [network(row("float32", 10.0), row("int8", 7.0))])
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(NasError, match=error) as found:
        read_bench(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)
