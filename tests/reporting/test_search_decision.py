"""Tests of the decision that a search's report tells, of its errors, and of its plots."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from nas.analysis.history import FrontProgress, ProgressStep
from nas.analysis.latency_agreement import limit_warning
from nas.analysis.proxy_validation import LongerTraining
from nas.arch import zoo
from nas.core.statistics import binomial_error
from nas.reporting.class_accuracy import class_columns, class_rows, lowest_class
from nas.reporting.plots.history import progress_svgs
from nas.reporting.plots.pareto import pareto_svg
from nas.reporting.search_columns import LabelledRecord, records_to_csv
from nas.reporting.search_decision import search_decision, winner_groups
from nas.reporting.search_report import SearchReport, Winner, render_search_report
from nas.study.trial_record import Outcome, Role, TrialRecord

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ("cat", "dog", "newt")
IMAGES = (180, 120, 60)


def row(number: int, accuracy: float, latency_ms: float, **fields: object) -> TrialRecord:
    correct = tuple(round(accuracy * count) for count in IMAGES)
    known: dict[str, object] = {
        "arch_id": f"id{number}",
        "standard_error": binomial_error(accuracy, sum(IMAGES)),
        "majority_accuracy": 0.5,
        "class_correct": correct,
        "class_images": IMAGES,
        "cpu_s": 60.0,
    }
    return TrialRecord(
        number=number, outcome=Outcome.TRAINED, accuracy=accuracy, latency_ms=latency_ms, **(known | fields)
    )


def labelled(*rows: TrialRecord) -> list[LabelledRecord]:
    return [LabelledRecord(label=f"W{place}", row=one) for place, one in enumerate(rows, start=1)]


def decision(*rows: TrialRecord) -> str:
    return search_decision(labelled(*rows), rows)


def test_a_front_within_the_noise_names_the_fastest_and_what_would_separate_it() -> None:
    text = decision(row(0, 0.95, 5.0), row(1, 0.96, 9.0), row(2, 0.97, 12.0))
    assert text.startswith(
        "All 3 winners are statistically indistinguishable in accuracy (Tukey-Kramer, 5%): take W1 ("
    )
    assert "95.00 ± 1.15% at 5.00 ms" in text  # sqrt(0.95 * 0.05 / 360)
    # q(0.05; 3, inf) = 3.3145 of the tables, z(0.8) = 0.8416: (4.5047 / 0.02)^2 * (0.0475 + 0.0291) / 2 images.
    assert re.search(r"takes about 1,94\d validation images instead of 360", text)
    assert "6 seeds of each winner (about 15.0 CPU-min)" in text  # 5 more for each of 3, of a minute each
    assert "3 times the epochs, if the accuracies then differ more (about 9.0 CPU-min)" in text
    assert text.endswith("Always guessing the largest class gives 50.00% (360 validation images).")


def test_winners_that_differ_form_groups_in_order_of_latency() -> None:
    rows = (row(0, 0.70, 5.0), row(1, 0.71, 6.0), row(2, 0.95, 9.0), row(3, 0.96, 12.0))
    assert winner_groups(labelled(*rows), rows) == {"W1": "1", "W2": "1", "W3": "2", "W4": "2"}
    text = decision(*rows)
    assert "group 1: W1 (70.00 ± 2.42% at 5.00 ms), before W2; group 2: W3 (95.00" in text
    assert "The 2 winners differ significantly in accuracy" in decision(rows[0], rows[3])
    assert decision(rows[0]).startswith("The only winner is W1 (70.00")


def test_at_chance_level_there_is_no_best_network() -> None:
    text = decision(row(0, 0.50, 5.0), row(1, 0.53, 9.0))
    assert "No network is significantly better than always guessing the largest class (50.00% of 360" in text
    assert "There is no best network." in text and "W1" not in text
    assert "and W1 is not significantly better" in decision(row(0, 0.5, 5.0), row(1, 0.9, 9.0))


def test_without_standard_errors_nothing_is_claimed() -> None:
    rows = [replace(row(n, 0.9 + n / 100, 5.0 + n), standard_error=None, class_images=()) for n in range(2)]
    assert decision(*rows) == "" and winner_groups(labelled(*rows), rows) == {}


def test_of_a_reward_the_networks_of_the_same_accuracy_are_counted() -> None:
    rows = [row(0, 0.90, 9.0), row(1, 0.89, 5.0), row(2, 0.60, 2.0)]
    text = search_decision(labelled(rows[0]), rows, {0: 0.9, 1: 0.8, 2: 0.1})
    assert "1 of the other 2 trained networks are statistically indistinguishable" in text
    assert "the fastest of them is trial 1 with 5.00 ms" in text


@pytest.fixture(scope="module")
def page() -> str:
    rows = (row(0, 0.95, 5.0), row(1, 0.96, 9.0))
    first = Winner(label="W1", arch=zoo.get("mixnet_s"), row=rows[0], published="mixnet_s", group="1")
    second = Winner(label="W2", arch=zoo.get("mixnet_m"), row=rows[1], group="1")
    report = SearchReport(
        title="t", command="c", facts=(), rows=rows, winners=(first, second), class_names=CLASSES,
        progress_text="2 of 12 trials",
    )  # fmt: skip
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", render_search_report(report)))


def test_the_page_begins_with_what_is_unfinished_and_the_decision(page: str) -> None:
    summary = page[page.index("Unfinished") :]
    assert summary.startswith("Unfinished: 2 of 12 trials. All 2 winners are statistically indistinguishable")


def test_the_page_has_errors_groups_names_and_classes(page: str) -> None:
    assert "W1 mixnet_s 1 95.00 ± 1.15" in page and "W2 1 96.00 ± 1.03" in page
    assert "W1, the published mixnet_s" in page
    assert "newt 60 95.00 ± 2.81 96.67 ± 2.32" in page  # 57 and 58 of 60


def test_classes_without_names_or_images_are_numbers_and_blanks() -> None:
    odd = replace(row(0, 0.9, 1.0), class_correct=(9, 0), class_images=(10, 0))
    rows = class_rows((), {"W1": [odd]})
    assert [[column.cell(one) for column in class_columns(rows)] for one in rows] == [
        ["0", "10", "90.00 ± 9.49"], ["1", "0", ""],
    ]  # fmt: skip
    assert lowest_class(odd, ()) == "0, 90.00 ± 9.49% of 10 images"
    assert class_rows(CLASSES, {"W1": [TrialRecord(number=0, outcome=Outcome.TRAINED)]}) == []


def test_csv_has_errors_chance_and_classes() -> None:
    head, line = records_to_csv([row(0, 0.95, 5.0)]).splitlines()
    cells = dict(zip(head.split(","), line.split(","), strict=True))
    assert float(cells["standard_error"]) == pytest.approx((0.95 * 0.05 / 360) ** 0.5)
    assert cells["majority_accuracy"] == "0.5" and cells["class_accuracies"] == "0.95 0.95 0.95"


def test_a_limit_within_the_predictor_s_error_is_warned_of_with_commands() -> None:
    ends = {"latency_low_ms": 14.0, "latency_high_ms": 16.0}
    near, far = row(0, 0.9, 15.0, **ends), row(1, 0.9, 9.0, latency_low_ms=8.0, latency_high_ms=10.0)
    command = "python -m nas.search +space=mixnet study.name=a"
    text = limit_warning([near, far], [far], 15.5, command)
    assert "limit of 15.5 ms is within the calibration's error" in text and "1 of 2 candidates" in text
    assert "python -m nas.calibrate device=cpu" in text
    assert text.endswith("python -m nas.search +space=mixnet latency.refine=true study.name=ANOTHER")
    assert "(nas.calibrate X)" in limit_warning([near, far], [far], 15.5, command, "nas.calibrate X")
    assert limit_warning([near, far], [far], 12.0, command) == limit_warning([near], [near], None, command) == ""
    many = [near, *(replace(far, number=n) for n in range(2, 30))]
    assert limit_warning(many, [far], 15.5, command) == ""  # one of thirty
    assert "1 winner not measured" in limit_warning(many, [near], 15.5, command)


def test_a_legend_is_within_the_plot() -> None:
    """Its texts, in a font as wide as the one that matplotlib measures with."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    refused = [TrialRecord(number=9 + n, outcome=Outcome.INFEASIBLE, latency_ms=40.0 + n) for n in range(131)]
    rows = [row(0, 0.95, 5.0, latency_low_ms=4.0, latency_high_ms=6.0), row(1, 0.96, 9.0)]
    drawn = ET.fromstring(pareto_svg([*rows, *refused], {"W1": rows[0]}, published={1: "net"}, limit_ms=15.0))
    width = float(drawn.get("viewBox", "").split()[2])
    (legend,) = [one for one in drawn.iter(f"{SVG}g") if one.get("id", "").endswith("legend_1")]
    ends = []
    for one in legend.iter(f"{SVG}text"):
        left, length = float(one.get("x", "")), TextPath((0, 0), one.text or "", size=10, prop=FontProperties())
        ends += [left, left + length.get_extents().x1]
    assert len(ends) == 12 and min(ends) > 0 and max(ends) < width


def test_the_axis_of_trials_counts_whole_ones() -> None:
    steps = tuple(ProgressStep(trial, None, 0.1 * trial) for trial in range(3))
    (svg, *_) = progress_svgs(FrontProgress(steps=steps, timed=(), reference=None))
    ticks = svg[svg.index("matplotlib.axis_1") : svg.index("matplotlib.axis_2")]
    numbers = re.findall(r">([\d.]+)</text>", ticks)
    assert numbers == ["0", "1", "2"]


def test_the_proxy_is_said_to_rank_networks_only_where_a_longer_training_shows_it() -> None:
    def note(*pairs: tuple[float, float]) -> str:
        longer = (LongerTraining(study="longer", effort="epochs 6 instead of 2", pairs=pairs),) if pairs else ()
        return SearchReport(title="", command="", facts=(), rows=(), longer_trainings=longer).accuracy_note

    accuracies = [0.5 + 0.01 * place for place in range(8)]
    same, mixed = (
        zip(accuracies, accuracies, strict=True),
        zip(accuracies, accuracies[::2] + accuracies[1::2], strict=True),
    )
    assert "Whether it ranks networks as a longer training does is not known" in note()
    assert "It ranked networks as a longer training does: Kendall tau 1.00 (p 5e-05)" in note(*same)  # 2 / 8!
    assert "It is not shown to rank networks as a longer training does: Kendall tau 0.57" in note(*mixed)


def test_winners_by_estimate_are_said_to_be_so_and_those_of_finalists_are_not() -> None:
    anchor = row(0, 0.8, 5.0, role=Role.ANCHOR, estimated_accuracy=0.75, estimate_error=0.03)
    scored = TrialRecord(
        number=1,
        outcome=Outcome.SCORED,
        arch_id="id1",
        estimated_accuracy=0.9,
        estimate_error=0.02,
        latency_ms=9.0,
        cpu_s=0.1,
    )
    before = decision(anchor, scored)
    assert before.startswith("Winners are chosen by estimate; finalists are not trained yet.")
    assert "90.00 ± 2.00% at 9.00 ms" in before
    finalist = row(2, 0.85, 9.0, arch_id="id1", role=Role.FINALIST, estimated_accuracy=0.9, estimate_error=0.02)
    after = search_decision(labelled(anchor, finalist), [anchor, scored, finalist])
    assert "by estimate" not in after and "80.00 ± 2.11% at 5.00 ms" in after  # as trained


def test_the_plot_draws_a_network_that_was_scored_and_trained_once() -> None:
    scored = TrialRecord(
        number=1, outcome=Outcome.SCORED, arch_id="id1", estimated_accuracy=0.9, estimate_error=0.02, latency_ms=9.0
    )
    other = replace(scored, number=3, arch_id="id3", latency_ms=7.0)
    finalist = row(2, 0.85, 9.0, arch_id="id1", role=Role.FINALIST)
    drawn = pareto_svg([row(0, 0.8, 5.0), scored, other, finalist], {"W1": finalist})
    assert "Accuracy over latency of 3 candidates" in drawn
    assert "scored (estimate)" in drawn and "(estimate) at 7.00 ms" in drawn and "(estimate) at 9.00 ms" not in drawn
