"""COCO's average precision from memory against pycocotools fed by files, and by hand."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nas.training.tasks.average_precision import BoxEvaluation, FoundBoxes, TrueBoxes, score_detections

CLASSES = 3


def some_images(seed: int, count: int = 12) -> tuple[list[TrueBoxes], list[FoundBoxes]]:
    """Random objects, some of them crowds, and 120 noisy detections in each image; the last class has no object."""
    draw = np.random.default_rng(seed)
    truth, found = [], []
    for row in range(count):
        objects = int(draw.integers(1, 12)) if row else 0
        start = draw.uniform(0, 500, (objects, 2))
        boxes = np.concatenate([start, start + draw.uniform(5, 140, (objects, 2))], 1)
        labels = draw.integers(0, CLASSES - 1, objects)
        truth.append(TrueBoxes(boxes, labels, draw.random(objects) < 0.2))
        source = draw.integers(0, max(objects, 1), 120)
        near = boxes[source] if objects else np.tile([10.0, 10.0, 60.0, 60.0], (120, 1))
        near = near + draw.normal(0, 6, near.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        classes = np.where(draw.random(120) < 0.8, labels[source] if objects else 0, draw.integers(0, CLASSES, 120))
        found.append(FoundBoxes(near, classes, np.round(draw.random(120), 3)))
    return truth, found


def by_files(folder: Path, truth: list[TrueBoxes], found: list[FoundBoxes], rows: list[int] | None = None) -> Any:
    """pycocotools' evaluation of annotations and results on disk."""

    def size(box: Any) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    objects = [(row, *one) for row, true in enumerate(truth) for one in zip(*true, strict=True)]
    annotations = [
        {
            "id": number,
            "image_id": row,
            "category_id": int(label) + 1,
            "bbox": size(box),
            "area": size(box)[2] * size(box)[3],
            "iscrowd": int(is_crowd),
        }
        for number, (row, box, label, is_crowd) in enumerate(objects, 1)
    ]
    results = [
        {"image_id": row, "category_id": int(label) + 1, "bbox": size(box), "score": float(score)}
        for row, one in enumerate(found)
        for box, label, score in zip(*one, strict=True)
    ]
    images = [{"id": row, "width": 640, "height": 640} for row in range(len(truth))]
    categories = [{"id": label + 1, "name": str(label)} for label in range(CLASSES)]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (folder / "found.json").write_text(json.dumps(results))
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "bbox")
        evaluation.params.imgIds = evaluation.params.imgIds if rows is None else rows
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(2))
def test_all_figures_are_those_of_pycocotools_fed_by_files(seed: int, tmp_path: Path) -> None:
    truth, found = some_images(seed)
    theirs = by_files(tmp_path, truth, found)
    ours = score_detections(truth, found, CLASSES)
    figures = [ours.mean, ours.at_50, ours.at_75, ours.small, ours.medium, ours.large, ours.recall]
    assert figures == pytest.approx(theirs.stats[[0, 1, 2, 3, 4, 5, 8]], abs=1e-12)
    precision = theirs.eval["precision"][:, :, :, 0, 2]
    assert ours.class_mean == (*(pytest.approx(precision[:, :, one].mean()) for one in range(2)), None)
    assert ours.class_at_50 == (*(pytest.approx(precision[0, :, one].mean()) for one in range(2)), None)


def test_without_a_group_of_images_it_is_pycocotools_score_of_the_others(tmp_path: Path) -> None:
    truth, found = some_images(3)
    evaluation = BoxEvaluation(truth, found, CLASSES)
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    without = evaluation.precision_without([2, 3])
    theirs = by_files(tmp_path, truth, found, [row for row in range(len(truth)) if row not in (2, 3)])
    assert without[:2].mean() == pytest.approx(theirs.stats[0], abs=1e-12)
    assert without[:2, 0].mean() == pytest.approx(theirs.stats[1], abs=1e-12)
    assert (without[2] == -1).all()


def test_a_case_by_hand() -> None:
    # Two objects. By falling score: one found exactly, a mistake, a detection in a crowd, the other object with an
    # intersection over union of 0.8. Precision is 1 up to a recall of 0.5 and 2/3 beyond it, for thresholds up to 0.8;
    # above these only the first half of recalls is reached.
    truth = [
        TrueBoxes(
            np.array([[0.0, 0, 100, 100], [200, 0, 300, 100], [400, 0, 500, 100]]),
            np.array([0, 0, 0]),
            np.array([False, False, True]),
        )
    ]
    boxes = np.array([[0.0, 0, 100, 100], [0, 300, 100, 400], [410, 10, 440, 40], [200, 0, 300, 80]])
    found = [FoundBoxes(boxes, np.zeros(4, dtype=np.int64), np.array([0.9, 0.8, 0.7, 0.6]))]
    score = score_detections(truth, found, 1)
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert score.at_50 == pytest.approx(low)
    assert score.mean == pytest.approx((7 * low + 3 * high) / 10)
    assert score.recall == pytest.approx((7 * 1.0 + 3 * 0.5) / 10)
    assert score.small is None
    assert score.large == pytest.approx(score.mean)
    assert score.error is None


def test_images_without_objects_or_detections_score_zero() -> None:
    nothing = TrueBoxes(np.empty((0, 4)), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_))
    no_box = FoundBoxes(np.empty((0, 4)), np.empty(0, dtype=np.int64), np.empty(0))
    score = score_detections([nothing, nothing], [no_box, no_box], 2)
    assert score.mean == 0
    assert score.class_mean == (None, None)
    one = TrueBoxes(np.array([[0.0, 0, 9, 9]]), np.array([0]), np.array([False]))
    assert score_detections([one, nothing], [no_box, no_box], 2).class_mean == (0.0, None)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    score_detections(*some_images(0, 3), CLASSES)
    assert capsys.readouterr().out == ""
