"""SSD's loss of whole batches against torchvision's, image by image."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import _utils as parts
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_convert, box_iou

from nas.arch.heads import SSDLiteHead
from nas.model.dense.detection import grid_boxes
from nas.training.tasks.detection_loss import IGNORED, NO_BOX, BoxTargets, match_boxes, ssd_losses

CLASSES = 3
BOXES = grid_boxes(SSDLiteHead(), (8, 4, 2, 1, 1, 1))
CORNERS = box_convert(BOXES, "cxcywh", "xyxy")


def some_targets(seed: int, counts: tuple[int, ...]) -> BoxTargets:
    """Random boxes; ``counts`` of each image."""
    generator = torch.Generator().manual_seed(seed)
    most = max(counts)
    start = torch.rand(len(counts), most, 2, generator=generator) * 0.7
    size = torch.rand(len(counts), most, 2, generator=generator) * 0.28 + 0.02
    labels = torch.randint(0, CLASSES, (len(counts), most), generator=generator)
    for row, count in enumerate(counts):
        labels[row, count:] = NO_BOX
    return BoxTargets(torch.cat([start, start + size], 2), labels)


def their_targets(targets: BoxTargets) -> list[dict[str, Tensor]]:
    return [
        {"boxes": boxes[labels != NO_BOX], "labels": labels[labels != NO_BOX] + 1}
        for boxes, labels in zip(*targets, strict=True)
    ]


def their_matches(targets: BoxTargets) -> list[Tensor]:
    return [
        parts.SSDMatcher(0.5)(box_iou(one["boxes"], CORNERS)) if len(one["boxes"]) else torch.full((len(CORNERS),), -1)
        for one in their_targets(targets)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_matched_as_by_torchvisions_matcher(seed: int) -> None:
    targets = some_targets(seed, (30, 0, 1, 7))
    assert torch.equal(match_boxes(targets, BOXES), torch.stack(their_matches(targets)))


def test_of_boxes_with_one_best_default_box_the_last_has_it() -> None:
    same = torch.tensor([[0.4, 0.4, 0.45, 0.45]] * 2)
    targets = BoxTargets(same[None], torch.tensor([[0, 1]]))
    matches = match_boxes(targets, BOXES)
    assert torch.equal(matches, torch.stack(their_matches(targets)))
    assert matches.unique().tolist() == [NO_BOX, 1]


@pytest.mark.parametrize("counts", [(12, 3, 0, 20), (0, 0), (1,)])
def test_losses_and_gradients_are_torchvisions(counts: tuple[int, ...]) -> None:
    targets, generator = some_targets(7, counts), torch.Generator().manual_seed(1)
    shape = len(counts), len(BOXES)
    logits = torch.randn(*shape, CLASSES + 1, generator=generator, requires_grad=True)
    offsets = torch.randn(*shape, 4, generator=generator, requires_grad=True)
    ours = ssd_losses(logits, offsets, targets, BOXES)
    theirs = SSD.compute_loss(
        SimpleNamespace(box_coder=parts.BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3.0),  # type: ignore[arg-type]
        their_targets(targets),
        {"cls_logits": logits, "bbox_regression": offsets},
        [CORNERS] * len(counts),
        their_matches(targets),
    )
    torch.testing.assert_close(ours[0], theirs["classification"])
    torch.testing.assert_close(ours[1], theirs["bbox_regression"])
    mine = torch.autograd.grad(sum(ours), (logits, offsets), retain_graph=True)
    for one, other in zip(mine, torch.autograd.grad(sum(theirs.values()), (logits, offsets)), strict=True):
        torch.testing.assert_close(one, other)


def some_ignored(seed: int, counts: tuple[int, ...]) -> BoxTargets:
    """``some_targets`` with about half of the boxes ignored, of the first image all."""
    targets = some_targets(seed, counts)
    is_ignored = torch.rand(targets.labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    is_ignored[0] = True
    return BoxTargets(targets.boxes, targets.labels.masked_fill(is_ignored & (targets.labels != NO_BOX), IGNORED))


def without_ignored(targets: BoxTargets) -> BoxTargets:
    return BoxTargets(targets.boxes, targets.labels.masked_fill(targets.labels == IGNORED, NO_BOX))


def matches_of_objects(targets: BoxTargets) -> Tensor:
    """torchvision's matches of the boxes that are not ignored, as rows of all boxes, (B, A)."""
    rows = []
    for labels, matches in zip(targets.labels, their_matches(without_ignored(targets)), strict=True):
        objects = (labels >= 0).nonzero()[:, 0].tolist()
        rows.append(torch.tensor([*objects, NO_BOX])[matches])
    return torch.stack(rows)


def ignored_one_by_one(targets: BoxTargets) -> Tensor:
    """Whether half of a default box is in an ignored box, as COCO counts a detection in a crowd; (B, A)."""
    rows = []
    for boxes, labels in zip(*targets, strict=True):
        is_inside = []
        for left, top, right, bottom in CORNERS.tolist():
            shares = [
                max(0.0, min(right, x2) - max(left, x1)) * max(0.0, min(bottom, y2) - max(top, y1))
                for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True)
                if label == IGNORED
            ]
            is_inside.append(max(shares, default=0.0) >= 0.5 * (right - left) * (bottom - top))
        rows.append(is_inside)
    return torch.tensor(rows)


@pytest.mark.parametrize("counts", [(3, 8, 0, 5), (2, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_default_boxes_in_ignored_boxes_are_neither_objects_nor_background(seed: int, counts: tuple[int, ...]) -> None:
    targets = some_ignored(seed, counts)
    expected = matches_of_objects(targets)
    is_ignored = ignored_one_by_one(targets) & (expected == NO_BOX)
    assert is_ignored.any()
    assert torch.equal(match_boxes(targets, BOXES), expected.masked_fill(is_ignored, IGNORED))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_boxes_add_nothing_to_the_loss(smoothing: float) -> None:
    """Against sums over single default boxes; the hardest negatives are chosen among what is not ignored."""
    targets, generator = some_ignored(3, (2, 9, 0, 6)), torch.Generator().manual_seed(1)
    logits = torch.randn(4, len(BOXES), CLASSES + 1, generator=generator, requires_grad=True)
    offsets = torch.randn(4, len(BOXES), 4, generator=generator)
    classes, boxes = ssd_losses(logits, offsets, targets, BOXES, label_smoothing=smoothing)
    is_ignored, count, expected = ignored_one_by_one(targets), 0, torch.zeros(())
    for image, matches in enumerate(matches_of_objects(targets).tolist()):
        positives, negatives = [], []
        for box, match in enumerate(matches):
            label = 0 if match == NO_BOX else int(targets.labels[image, match]) + 1
            logs = logits[image, box].log_softmax(0)
            loss = -(1 - smoothing) * logs[label] - smoothing * logs.mean()
            if match != NO_BOX:
                positives.append(loss)
            elif not is_ignored[image, box]:
                negatives.append(loss)
        count += len(positives)
        expected = expected + sum(positives) + sum(sorted(negatives, reverse=True)[: 3 * len(positives)])
    torch.testing.assert_close(classes, expected / count)
    torch.testing.assert_close(boxes, ssd_losses(logits, offsets, without_ignored(targets), BOXES)[1])
    (mine,) = torch.autograd.grad(classes, logits, retain_graph=True)
    torch.testing.assert_close(mine, torch.autograd.grad(expected / count, logits)[0])
