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
from nas.training.tasks.detection_loss import NO_BOX, BoxTargets, match_boxes, ssd_losses

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
