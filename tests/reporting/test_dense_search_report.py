"""Tests of the report of a search for segmenters or detectors: words, errors, chance level, classes."""

from __future__ import annotations

import csv
import html
import io
import re

import pytest
from scipy.stats import norm

from nas.analysis.estimator_check import EstimatorCheck
from nas.analysis.significance import ChanceLevel, chance_level, times_the_images
from nas.arch import zoo
from nas.arch.heads.task_scores import TASK_SCORES
from nas.core.statistics import binomial_error
from nas.reporting.class_accuracy import class_columns, class_rows, lowest_class
from nas.reporting.search_columns import LabelledRecord, records_to_csv
from nas.reporting.search_decision import search_decision
from nas.reporting.search_report import SearchReport, Winner, render_search_report
from nas.study.trial_record import Outcome, Role, TrialRecord, score_of

CLASSES = ("road", "sky", "pole")
CONSTANT = 0.11  # mIoU of one class at every pixel


def row(number: int, miou: float, latency_ms: float, error: float = 0.01, **fields: object) -> TrialRecord:
    known: dict[str, object] = {
        "task": "segmentation",
        "arch_id": f"id{number}",
        "standard_error": error,
        "majority_accuracy": CONSTANT,
        "class_scores": (miou + 0.2, miou - 0.2, None),
        "class_errors": (0.02, 0.03, None),
        "metrics": {"pixel_accuracy": 0.8},
        "val_loss": 1 - miou,
        "macs_m": 10.0 + number % 3,
        "cpu_s": 12.0,
    }
    return TrialRecord(
        number=number,
        outcome=Outcome.TRAINED,
        accuracy=miou,
        latency_ms=latency_ms,
        **(known | fields),  # type: ignore[arg-type]
    )


def decision(*rows: TrialRecord) -> str:
    return search_decision([LabelledRecord(label=f"W{one.number}", row=one) for one in rows], rows)


def test_winners_compare_by_the_errors_of_their_own_score() -> None:
    """0.05 apart, with errors of 0.01 each, two are 3.5 deviations apart, of 0.05 each 0.7."""
    assert "differ significantly in mIoU" in decision(row(0, 0.40, 5.0), row(1, 0.45, 9.0))
    text = decision(row(0, 0.40, 5.0, 0.05), row(1, 0.45, 9.0, 0.05))
    assert "statistically indistinguishable in mIoU" in text and "take W0 (40.00 ± 5.00% at 5.00 ms)" in text
    assert "accuracy" not in text and "One class at every pixel gives 11.00%" in text


def test_images_that_would_separate_two_scores_follow_from_their_errors() -> None:
    """Twice the distance in deviations needs a quarter of the images: errors fall with their square root."""
    close = times_the_images(row(0, 0.40, 5.0, 0.05), row(1, 0.45, 9.0, 0.05), 2)
    far = times_the_images(row(0, 0.40, 5.0, 0.05), row(1, 0.50, 9.0, 0.05), 2)
    assert close is not None and far is not None and close == pytest.approx(4 * far)
    wanted = (norm.isf(0.025) + norm.isf(0.2)) * 0.05 * 2**0.5  # of two means at 5%, with a power of 80%
    assert close == pytest.approx((wanted / 0.05) ** 2, rel=0.01)
    assert f"about {close:.1f} times the validation images" in decision(
        row(0, 0.40, 5.0, 0.05), row(1, 0.45, 9.0, 0.05)
    )
    assert times_the_images(row(0, 0.4, 5.0), row(1, 0.4, 9.0), 2) is None


def test_a_score_that_is_no_share_is_held_against_the_constant_predictor_by_a_normal_test() -> None:
    chance = chance_level([row(0, 0.2, 5.0)])
    assert chance == ChanceLevel(accuracy=CONSTANT, images=None)
    for compared in (1, 20):
        least = CONSTANT + norm.isf(0.05 / compared) * 0.02
        assert chance.is_exceeded(least + 1e-4, compared, 0.02) and not chance.is_exceeded(least - 1e-4, compared, 0.02)
    assert chance.is_exceeded(0.12, 5, None) and not chance.is_exceeded(0.10, 5, None)
    for error in (None, 0.0):  # as a detector that finds nothing, where a constant one finds nothing either
        assert not chance.is_exceeded(CONSTANT, 5, error)
    text = decision(row(0, 0.12, 5.0), row(1, 0.115, 4.0))
    assert "No network is significantly better than one class at every pixel (11.00%)" in text and "mIoU" in text


def test_a_study_has_the_score_of_its_decoded_networks() -> None:
    """A trial that was just begun, or whose network could not be decoded, is of no task yet."""
    begun = TrialRecord(number=0, outcome=Outcome.RUNNING)
    assert score_of([begun, row(1, 0.4, 5.0)]) is TASK_SCORES["segmentation"]
    assert score_of([begun]) is score_of([]) is TASK_SCORES["classification"]


def test_tables_have_scores_by_class_with_their_errors() -> None:
    rows = class_rows(CLASSES, {"W1": [row(0, 0.4, 5.0)]})
    assert [one.name for one in rows] == list(CLASSES) and [one.images for one in rows] == [None] * 3
    columns = class_columns(rows)
    assert [column.name for column in columns] == ["class", "W1"]
    assert [columns[1].cell(one) for one in rows] == ["60.00 ± 2.00", "20.00 ± 3.00", ""]
    assert lowest_class(row(0, 0.4, 5.0), CLASSES) == "sky, 20.00 ± 3.00%"
    (line,) = csv.DictReader(io.StringIO(records_to_csv([row(0, 0.4, 5.0)])))
    assert line["accuracy"] == "0.4" and line["metric_pixel_accuracy"] == "0.8"
    assert line["class_accuracies"] == "0.6 0.2 nan" and line["majority_accuracy"] == "0.11"


def report(task: str) -> str:
    """Visible text of a page whose rows were estimated and trained."""
    rows = [
        row(
            number,
            0.30 + 0.02 * number,
            5.0 + number,
            task=task,
            estimated_accuracy=0.3 + 0.02 * number,
            estimate_error=0.01,
            role=Role.ANCHOR,
            predicted_ms=5.0 + number,
        )
        for number in range(8)
    ]
    winner = Winner(
        label="W1", arch=zoo.get("mobilenetv3_small_050"), row=rows[-1], files={"spec": "winners/winner_1.yaml"}
    )
    data = SearchReport(
        title="Search",
        command="python -m nas.search data.root=streets data.void=11 data.subset=50 'data.classes=[road, sky, pole]'",
        facts=(),
        rows=tuple(rows),
        winners=(winner,),
        class_names=CLASSES,
        estimator="zero_cost",
        task=task,
    )
    page = render_search_report(data)
    page = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


@pytest.mark.parametrize(("task", "name"), [("segmentation", "mIoU"), ("detection", "AP")])
def test_a_page_speaks_of_the_score_of_its_task(task: str, name: str) -> None:
    text = report(task)
    assert not re.findall(r".{30}accurac.{20}", text, re.IGNORECASE)
    assert f"{name} over latency" in text and f"between the {name} as estimated before and as trained" in text
    assert "by a jackknife over groups of validation images" in text and "binomial" not in text
    assert "share of correct pixels 80.00%" in text
    words = f"task={task} arch=winners/winner_1.yaml data.root=FOLDER data.void=11 'data.classes=[road, sky, pole]'"
    assert f"python -m nas.train {words}" in text
    assert "without post-processing (" in text and "which comes on top" in text  # latency and post-processing


def test_a_search_without_trials_speaks_of_its_score() -> None:
    data = SearchReport(title="Search", command="python -m nas.search", facts=(), rows=(), task="segmentation")
    assert "no mIoU to show yet" in data.summary and "accuracy" not in data.summary


def test_a_page_of_classifiers_speaks_of_accuracy_and_says_nothing_of_heads() -> None:
    text = report("classification")
    assert "Accuracy over latency" in text and "on top" not in text and "mIoU" not in text


def test_the_check_of_an_estimator_names_the_score() -> None:
    rows = [
        row(number, 0.3 + 0.01 * number, 5.0, estimated_accuracy=0.5 - 0.01 * number, role=Role.CHECK)
        for number in range(8)
    ]
    check = EstimatorCheck.of(rows)
    assert check is not None and check.score is TASK_SCORES["segmentation"] and not check.is_ordered
    assert "the wrong way round" in str(check) and "between the mIoU as estimated" in str(check)


def test_scores_of_other_tasks_have_no_binomial_error() -> None:
    """A share of 0.4 of 360 images would have an error of 2.6%: the record's own is kept."""
    assert binomial_error(0.4, 360) == pytest.approx(0.0258, abs=1e-4)
    (line,) = csv.DictReader(io.StringIO(records_to_csv([row(0, 0.4, 5.0, 0.01)])))
    assert line["standard_error"] == "0.01"
