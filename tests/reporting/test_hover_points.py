"""Tests of hover points: position, text, and thinning of many."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET

import pytest

from nas.reporting.plots.hover_points import MAX_POINTS, point_of, thin_points, trial_row_id
from nas.reporting.plots.pareto import pareto_svg
from nas.reporting.search_summary import MAX_ROWS, table_rows
from nas.study.trial_record import Outcome, TrialRecord, pareto_front

SVG = "{http://www.w3.org/2000/svg}"


def row(number: int, accuracy: float | None, latency_ms: float, **fields: object) -> TrialRecord:
    outcome = Outcome.TRAINED if accuracy is not None else Outcome.INFEASIBLE
    return TrialRecord(number=number, outcome=outcome, accuracy=accuracy, latency_ms=latency_ms, **fields)


def many(count: int) -> list[TrialRecord]:
    rng = random.Random(0)
    return [row(number, rng.random(), 1 + 9 * rng.random()) for number in range(count)]


def hits(svg: str) -> dict[str, tuple[float, float, str]]:
    """Place and text of each point, by its row."""
    circles = (one for one in ET.fromstring(svg).iter(f"{SVG}circle") if one.get("class") == "hit")
    return {
        one.get("data-row", ""): (float(one.get("cx", "")), float(one.get("cy", "")), "".join(one.itertext()))
        for one in circles
    }


def test_the_tooltip_of_a_point_describes_its_network() -> None:
    ends = {"latency_low_ms": 9.0, "latency_high_ms": 12.5, "macs_m": 120.25, "params_m": 2.5}
    one = row(7, 0.875, 10.0, blocks="ds_r1_k3_s1_c16; ir_r1_k3.5_s2_e6_c24 ir_r2_k3_s1_e6_c24", **ends)
    point = point_of(one, "W1")
    assert (point.x, point.y, point.row) == (10.0, 87.5, trial_row_id(7))
    assert point.text.split("\n") == [
        "W1, trial 7",
        "87.50% at 10.00 ms predicted (90% interval 9.00 to 12.50 ms)",
        "120.2 M MACs, 2.50 M parameters",
        "0: ds_r1_k3_s1_c16",
        "1: ir_r1_k3.5_s2_e6_c24 ir_r2_k3_s1_e6_c24",
    ]
    assert "10.00 ms measured\n" in point_of(one, measured=True).text


def test_every_trained_network_has_a_point_where_its_dot_is() -> None:
    rows = [row(0, 0.5, 2.0), row(1, 0.75, 6.0), row(2, 1.0, 10.0), row(3, None, 4.0)]
    svg = pareto_svg(rows, {"W1": rows[0]}, published={2: "<net>"})
    found = hits(svg)
    assert set(found) == {trial_row_id(number) for number in range(3)}
    (x0, y0, first), (x1, y1, _), (x2, y2, last) = (found[trial_row_id(number)] for number in range(3))
    assert first.startswith("W1, trial 0") and last.startswith("<net>, trial 2")
    # Both axes are linear: the middle one lies in the middle, further right and further up than the first.
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.11) and y1 == pytest.approx((y0 + y2) / 2, abs=0.11)
    assert x0 < x2 and y0 > y2
    # Matplotlib drew the winner's marker at the same place.
    drawn = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg)
    assert any(abs(float(x) - x0) < 0.1 and abs(float(y) - y0) < 0.1 for x, y in drawn)


def test_of_very_many_the_chosen_stay_and_the_others_have_a_neighbour() -> None:
    rows = many(6000)
    required = {one.number for one in pareto_front(rows)}
    left = thin_points(rows, required)
    assert len(left) <= MAX_POINTS and required <= {one.number for one in left} <= set(range(6000))
    for one in rows[::50]:  # what was left out lies within a cell of one that stays: an eighth of the plot at most
        assert any(abs(a.accuracy - one.accuracy) < 1 / 8 and abs(a.latency_ms - one.latency_ms) < 9 / 8 for a in left)
    assert thin_points(rows[:MAX_POINTS], ()) == rows[:MAX_POINTS]
    equal = [row(number, 0.5, 2.0) for number in range(MAX_POINTS + 1)]
    assert thin_points(equal, ()) == equal[:1]


def test_a_plot_of_ten_thousand_stays_small() -> None:
    rows = [*many(7000), *(row(number, None, 0.01 * number) for number in range(7000, 10_000))]
    svg = pareto_svg(rows, {}, limit_ms=12.0)
    assert len(svg) < 1_000_000 and len(hits(svg)) <= MAX_POINTS
    assert re.search(r"trained \([\d,]+ of 7,000 drawn\)", "".join(ET.fromstring(svg).itertext()))


def test_a_table_holds_what_matters_in_the_order_of_the_trials() -> None:
    rows = [*many(1500), *(row(number, None, 30.0) for number in range(1500, 2000))]
    shown, note = table_rows(rows, {1999})
    numbers = [one.number for one in shown]
    assert len(shown) == MAX_ROWS and numbers == sorted(numbers) and 1999 in numbers
    least = min(one.accuracy for one in shown if one.accuracy is not None)
    assert sum(one.accuracy > least for one in rows[:1500]) == MAX_ROWS - 2
    assert "1,000 of 2,000 candidates" in note
    assert table_rows(rows[:10], ()) == (rows[:10], "")
