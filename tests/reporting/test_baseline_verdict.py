"""Tests of what is said of a search's winners against a baseline, by cases; of table and plot."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from nas.reporting.baseline_verdict import baseline_verdicts
from nas.reporting.plots.pareto import pareto_svg
from nas.reporting.search_columns import LabelledRecord, shown_winner_columns
from nas.study.trial_record import BaselineRecord, TrialRecord
from tests.analysis.test_baseline_comparison import baseline, row

B1 = "B1 (timm/net, fine-tuned for 4 epochs)"
WORTH = " Against this baseline the search was worth it so far."


def verdict(one: BaselineRecord, *winners: tuple[float, float]) -> str:
    rows = [row(accuracy, latency_ms, number=number) for number, (accuracy, latency_ms) in enumerate(winners)]
    labelled = [LabelledRecord(label=f"W{one.number + 1}", row=one) for one in rows]
    (text,) = baseline_verdicts([one], labelled, rows)
    return text


@pytest.mark.parametrize(
    ("accuracy", "winners", "expected"),
    [
        (
            0.92,
            ((0.70, 12.0), (0.80, 15.0)),
            f"{B1} is more accurate than every winner at no higher latency: 92.00 ± 0.86% at 10.00 ms against 80.00 ± "
            "1.26% at 15.00 ms (W2, the most accurate): the search was not worth it so far.",
        ),
        (
            0.92,
            ((0.80, 10.0),),
            f"{B1} is more accurate than W1 at no higher latency: 92.00 ± 0.86% at 10.00 ms against 80.00 ± 1.26% at "
            "10.00 ms: the search was not worth it so far.",
        ),
        (
            0.80,
            ((0.81, 12.0),),
            f"No winner is shown to be more accurate than {B1}, whose latency is not higher: 80.00 ± 1.26% at 10.00 ms "
            "against 81.00 ± 1.24% at 12.00 ms: the search was not worth it so far.",
        ),
        (
            0.70,
            ((0.60, 5.0), (0.80, 8.0), (0.81, 10.0)),
            f"{B1}, 70.00 ± 1.45% at 10.00 ms: W3 (81.00 ± 1.24% at 10.00 ms) is more accurate than B1 at no higher "
            f"latency; W2 is better than B1, too; W1 is faster and less accurate than B1 (60.00 ± 1.55% at 5.00 ms)."
            f"{WORTH}",
        ),
        (
            0.80,
            ((0.79, 8.0), (0.90, 12.0)),
            f"{B1}, 80.00 ± 1.26% at 10.00 ms: W1 (79.00 ± 1.29% at 8.00 ms) is faster than B1, and the noise does not "
            f"separate their accuracies; W2 is more accurate and slower than B1 (90.00 ± 0.95% at 12.00 ms).{WORTH}",
        ),
        (
            0.80,
            ((0.60, 5.0), (0.62, 6.0), (0.81, 12.0)),
            f"{B1}, 80.00 ± 1.26% at 10.00 ms: W1 and W2 are faster and less accurate than B1 (at most 62.00 ± "
            "1.53% at 6.00 ms); W3 is not shown to be better than B1 in anything, and worse in accuracy or latency "
            "(81.00 ± 1.24% at 12.00 ms). No winner is better in one without being "
            "worse in the other.",
        ),
        (
            0.80,
            ((0.81, 10.0),),
            f"{B1}, 80.00 ± 1.26% at 10.00 ms: W1 is not separated from B1 by the noise, in accuracy or latency "
            "(81.00 ± 1.24% at 10.00 ms). The search is not shown to be worth it so far.",
        ),
    ],
)
def test_the_verdict_says_what_is_significant(
    accuracy: float, winners: tuple[tuple[float, float], ...], expected: str
) -> None:
    assert verdict(baseline(accuracy, 10.0), *winners) == expected


def test_a_baseline_on_maps_of_one_pixel_is_said_to_be_at_a_disadvantage() -> None:
    narrow = replace(baseline(0.7, 10.0), last_map_px=1, resolution_px=16)
    assert verdict(narrow, (0.8, 9.0)).endswith(
        f"{WORTH} At 16 px the last map of B1 is 1 px wide, for which it was not made: larger images "
        "(proxy.resolution_px) compare more fairly."
    )


def test_networks_at_chance_are_not_compared() -> None:
    counts = {"majority_accuracy": 0.1, "class_correct": (10,) * 10, "class_images": (100,) * 10}
    assert verdict(baseline(0.1, 10.0, **counts), (0.11, 5.0)) == (
        f"Neither {B1} nor a winner is significantly better than always guessing the largest class (10.00%): nothing "
        "is shown."
    )
    assert WORTH in verdict(baseline(0.1, 10.0, **counts), (0.5, 5.0))


def test_without_winners_nothing_is_said() -> None:
    assert baseline_verdicts([baseline(0.9, 10.0)], [], []) == ()


def test_the_plot_shows_baselines_with_label_tooltip_and_room() -> None:
    rows: list[TrialRecord] = [row(0.7, 5.0), row(0.8, 8.0, number=1)]
    svg = pareto_svg(rows, {"W1": rows[0], "W2": rows[1]}, baselines=[baseline(0.9, 40.0)])
    texts = [element.text for element in ET.fromstring(svg).iter() if element.text]
    assert "B1" in texts and any(text.startswith("baseline, fine-tuned") for text in texts)
    hit = next(one for one in ET.fromstring(svg).iter() if one.get("data-row") == "baseline-B1")
    width = float(ET.fromstring(svg).get("viewBox", "").split()[2])
    assert 0 < float(hit.get("cx", "nan")) < width  # though it is five times slower than the winners
    (title,) = hit
    assert (title.text or "").startswith("B1, baseline timm/net\n90.00 ± 0.95% at 40.00 ms predicted")


def test_epochs_and_cpu_time_are_columns_where_there_is_a_baseline() -> None:
    winner = LabelledRecord(label="W1", row=row(0.7, 5.0, cpu_s=12.0), epochs=4)
    names = ("name", "published", "trial", "epochs", "cpu_s")
    without = shown_winner_columns([winner], None, *names)
    assert [column.name for column in without] == ["name", "trial"]
    one = baseline(0.9, 10.0, cpu_s=34.0)
    both = shown_winner_columns([winner, one], None, *names)
    assert [column.cell(winner) for column in both] == ["W1", "", "0", "4", "12.0"]
    assert [column.cell(one) for column in both] == ["B1", "timm/net", "", "4", "34.0"]
