"""Latency agreement: statistics against their definitions, limits, texts, plot."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.analysis.latency_agreement import LatencyAgreement, LatencyPair, latency_agreement, latency_pair
from nas.core.errors import NasError
from nas.reporting.plots.pareto import agreement_svg
from nas.study.trial_record import Outcome, TrialRecord


def pair(measured_ms: float, name: str = "trial 0", predicted_ms: float = 10.0, **fields: object) -> LatencyPair:
    """Build a pair; by default a prediction of 10 ms with the interval 9 to 12 ms."""
    ends = {"low_ms": 9.0, "high_ms": 12.0}
    return LatencyPair(name=name, predicted_ms=predicted_ms, measured_ms=measured_ms, **{**ends, **fields})


def agreement(*measured_ms: float, **fields: object) -> LatencyAgreement:
    return LatencyAgreement(pairs=tuple(pair(value, f"trial {i}") for i, value in enumerate(measured_ms)), **fields)


def row(number: int, **fields: object) -> TrialRecord:
    times = {"predicted_ms": 10.0, "latency_low_ms": 9.0, "latency_high_ms": 12.0, "measured_ms": 11.0}
    return TrialRecord(number=number, outcome=Outcome.TRAINED, **{"arch_id": f"a{number}", **times, **fields})


@pytest.mark.parametrize(("measured_ms", "outside"), [(8.999, True), (9.0, False), (12.0, False), (12.001, True)])
def test_intervals_are_closed(measured_ms: float, outside: bool) -> None:
    assert pair(measured_ms).outside is outside
    assert not pair(measured_ms, low_ms=None, high_ms=None).outside


def test_remarks_name_deviations() -> None:
    assert pair(11.0).remarks() == pair(11.0).remarks(11.0) == []
    assert pair(12.5).remarks() == ["measured 12.50 ms, above the 90% interval of the prediction (9.00 to 12.00 ms)"]
    assert pair(8.5).remarks() == ["measured 8.50 ms, below the 90% interval of the prediction (9.00 to 12.00 ms)"]
    assert pair(11.0).remarks(10.5) == ["measured 11.00 ms, above the limit of 10.5 ms"]
    assert len(pair(12.5).remarks(10.5)) == 2


@pytest.mark.parametrize("fields", [{"measured_ms": 0.0}, {"measured_ms": 1.0, "low_ms": None}])
def test_invalid_pairs_are_refused(fields: dict[str, float | None]) -> None:
    with pytest.raises(NasError, match=r"measured_ms 0\.0|low_ms None and high_ms 12\.0 must both be set"):
        pair(**fields)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=12, unique_by=(min, max)))
def test_statistics_match_their_definitions(figures: list[tuple[int, int]]) -> None:
    xs, ys = [x for x, _ in figures], [y for _, y in figures]
    pairs = tuple(pair(y, f"trial {i}", predicted_ms=x) for i, (x, y) in enumerate(figures))
    result = LatencyAgreement(pairs=pairs)
    assert result.mean_ratio == pytest.approx(sum(x / y for x, y in figures) / len(figures))
    assert result.coverage == pytest.approx(sum(9 <= y <= 12 for y in ys) / len(ys))
    signs = [
        (math.copysign(1, a - b) if a != b else 0, math.copysign(1, c - d) if c != d else 0)
        for (a, c), (b, d) in itertools.combinations(figures, 2)
    ]
    in_x, in_y = sum(x != 0 for x, _ in signs), sum(y != 0 for _, y in signs)
    if len(set(xs)) > 1 and len(set(ys)) > 1:
        # Kendall's tau-b: concordant minus discordant pairs, normalised by the pairs without ties.
        assert result.kendall_tau == pytest.approx(sum(x * y for x, y in signs) / math.sqrt(in_x * in_y))
    else:
        assert result.kendall_tau is None


@pytest.mark.parametrize(("outside", "networks"), [(0, 1), (1, 1), (2, 2), (2, 4), (3, 4), (2, 10), (4, 10), (30, 300)])
def test_warning_follows_the_binomial_tail(outside: int, networks: int) -> None:
    result = agreement(*[13.0] * outside, *[11.0] * (networks - outside))
    tail = sum(math.comb(networks, k) * 0.1**k * 0.9 ** (networks - k) for k in range(outside, networks + 1))
    assert result.p_value == pytest.approx(tail)
    assert bool(result.warning) is (tail < 0.05)


def test_warning_names_the_remedy() -> None:
    text = agreement(13.0, 13.0, 11.0).warning
    assert "2 of 3 measurements lie outside of their 90% interval" in text
    assert "0.028" in text  # 3 * 0.01 * 0.9 + 0.001
    assert "python -m nas.calibrate device=cpu" in text and "latency.refine=true" in text
    assert "latency.refine" not in agreement(13.0, 13.0, 11.0, refined=True).warning


def test_summary_line() -> None:
    assert str(LatencyAgreement(pairs=())) == "no network was measured"
    assert str(agreement(10.0)) == (
        "1 network measured, 1 of 1 (100%) inside their 90% interval, predicted / measured 1.000 on average"
    )
    both = LatencyAgreement(pairs=(pair(8.0, predicted_ms=10.0), pair(20.0, predicted_ms=15.0)))
    assert str(both) == (
        "2 networks measured, Kendall tau 1.00, 0 of 2 (0%) inside their 90% interval, "
        "predicted / measured 1.000 on average"
    )
    without = LatencyAgreement(pairs=(pair(10.0, low_ms=None, high_ms=None),))
    assert (without.coverage, without.p_value, without.warning) == (None, 1.0, "")
    assert "interval" not in str(without)


def test_pairs_are_unique_with_winners_first() -> None:
    rows = [
        row(0, measured_ms=None),
        row(1),
        row(2, arch_id="twice", measured_ms=10.5),
        row(3, latency_high_ms=None),
        row(4, arch_id="twice", measured_ms=10.5),
        row(5, predicted_ms=None),
        row(6, measured_spread_ms=0.25),
    ]
    result = latency_agreement(rows, {6: "W1", 4: "W2"}, refined=True)
    assert [item.name for item in result.pairs] == ["W1", "W2", "trial 1", "trial 3"]
    assert [item.winner for item in result.pairs] == [True, True, False, False]
    assert result.pairs[0].spread_ms == 0.25 and result.pairs[3].low_ms is None
    assert (result.interval_count, result.refined) == (3, True)
    assert latency_pair(rows[0]) is None


def test_plot_is_xml_with_labels_and_marks_outside() -> None:
    pairs = (pair(11.0, "W1", winner=True), pair(13.0, "W2", winner=True), pair(10.0), pair(9.5))
    text = agreement_svg(LatencyAgreement(pairs=pairs), limit_ms=12.5)
    assert text == agreement_svg(LatencyAgreement(pairs=pairs), limit_ms=12.5)
    words = "".join(ET.fromstring(text).itertext())
    for label in ("W1", "W2", "limit 12.5 ms", "inside its 90% interval", "outside", "measured as predicted"):
        assert label in words
    assert "trial 0" not in words
    assert "outside" not in "".join(ET.fromstring(agreement_svg(LatencyAgreement(pairs=pairs[2:]))).itertext())
    assert ET.fromstring(agreement_svg(LatencyAgreement(pairs=()))) is not None
