#!/usr/bin/env bash
# pycocotools never counts a detection of the annotation whose id is 0 as correct
#
# Packages: pycocotools 2.0.11, numpy 2.4.6; Python 3.11, Linux x86-64.
#
# Behaviour: COCOeval notes for each detection the id of the annotation that it matches, in an array in which 0 means
# "none" (cocoeval.py, evaluateImg: dtm = zeros; accumulate: true where it is not 0). An annotation with the id 0 is
# matched, so that no other detection gets it, but its detection counts as false, and the annotation as missed. Nothing
# is said. COCO's own ids begin above 0; those of exports that number from 0, as many programs do, do not.
#
# Guessed: ids are names, so that any numbers will do as long as they differ; or else an error.
#
# Output seen (2 images with 2 objects each, every detection exactly on its object):
#   ids from 1: AP 1.000
#   ids from 0: AP 0.564, one of 4 objects is never found
#
# Matters here: nas numbers annotations from 1 for COCOeval, whatever their ids in the file; a mAP computed by another
# program on such a file is lower by that object.
#
# Checked: AP is 1 with ids from 1, and at most 0.9 with ids from 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PYTHON'
import contextlib
import io
import sys

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOXES = [[10, 10, 40, 40], [60, 10, 50, 40]]  # x, y, width, height in px


def average_precision(first_id):
    annotations = [
        {"image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for image in (1, 2)
        for box in BOXES
    ]
    for number, annotation in enumerate(annotations, start=first_id):
        annotation["id"] = number
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image, "width": 128, "height": 128} for image in (1, 2)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(
            [
                {"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.9 - 0.1 * number}
                for number, one in enumerate(annotations)
            ]
        )
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


from_one, from_zero = average_precision(1), average_precision(0)
print(f"ids from 1: AP {from_one:.3f}")
print(f"ids from 0: AP {from_zero:.3f}, one of 4 objects is never found")
as_stated = from_one > 0.999 and from_zero < 0.9
print("as stated" if as_stated else "CHANGED: the behaviour is no longer as stated above")
sys.exit(0 if as_stated else 1)
PYTHON
