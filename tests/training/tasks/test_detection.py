"""Detection as a task: batches, loss, score, and a training that goes on where it was interrupted."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_convert

from nas.arch import zoo
from nas.arch.heads import detector
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.model.build import build
from nas.model.dense.detection import default_boxes
from nas.training.distributed import ProcessGroup
from nas.training.recipe import RecipeSettings
from nas.training.tasks import detection
from nas.training.tasks.constant_boxes import constant_boxes
from nas.training.tasks.detection import Detection
from nas.training.tasks.detection_loss import IGNORED, NO_BOX, BoxTargets, match_boxes
from nas.training.tasks.detection_source import DetectionSource
from nas.training.trainer import TrainingHooks, train_network
from tests.training.tasks.boxed_images import boxed_data

SIDE_PX = 64
CPU = torch.device("cpu")
SETTINGS = RecipeSettings(
    epochs=2, batch_size=4, lr=0.005, crop_scale=0.25, color_jitter=0.5, zoom_out=0.5, label_smoothing=0.0,
    loader_workers=0, checkpoint_s=0.0,
)  # fmt: skip


def small_detector() -> ArchSpec:
    return detector(zoo.get("mobilenetv3_small_050"), 2, resolution_px=SIDE_PX, head_width=0.25)


def source_of(data: Any, settings: RecipeSettings = SETTINGS, seed: int = 3) -> DetectionSource:
    return DetectionSource(data, settings, resolution_px=SIDE_PX, seed=seed, device=CPU)


def flat(batches: Any) -> list[Tensor]:
    return [part for batch in batches for part in (batch.rows, batch.images, *batch.targets)]


def test_batches_are_functions_of_seed_and_epoch_and_leave_global_states_alone() -> None:
    data = boxed_data()
    torch.manual_seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    whole = list(source_of(data).train_batches(2))
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(states[0], after[0])
    assert states[1:] == after[1:]
    torch.manual_seed(6)
    rest = list(source_of(data).train_batches(2, 1))
    assert all(torch.equal(one, other) for one, other in zip(flat(whole[1:]), flat(rest), strict=True))
    assert sorted(row for batch in whole for row in batch.rows.tolist()) == list(range(10))
    assert not torch.equal(whole[0].images, next(source_of(data).train_batches(3)).images)
    assert not torch.equal(whole[0].images, next(source_of(data, seed=4).train_batches(2)).images)


def test_files_are_scored_whose_data_have_a_single_train_image() -> None:
    data = boxed_data()
    data.train.count = 1
    source = source_of(data)
    assert sum(len(batch.images) for batch in source.val_batches()) == source.val_images


def test_loader_processes_give_the_same_batches() -> None:
    data, settings = boxed_data(), RecipeSettings(batch_size=4, crop_scale=0.25, loader_workers=1)
    alone, other = (
        source_of(data, RecipeSettings(batch_size=4, crop_scale=0.25, loader_workers=0)),
        source_of(data, settings),
    )
    try:
        for one, two in zip(flat(alone.train_batches(1)), flat(other.train_batches(1)), strict=True):
            assert torch.equal(one, two)
    finally:
        other._loader.close()


def test_batches_say_which_boxes_are_ignored() -> None:
    (labelled,), (some_ignored,) = (source_of(boxed_data(ignored=one)).val_batches() for one in (False, True))
    expected = labelled.labels.targets.labels.clone()
    expected[:, 0] = IGNORED
    assert torch.equal(some_ignored.labels.targets.labels, expected)
    assert torch.equal(some_ignored.labels.targets.boxes, labelled.labels.targets.boxes)


def test_a_training_with_ignored_boxes_has_the_loss_of_its_objects() -> None:
    data, spec = boxed_data(ignored=True), small_detector()
    source = source_of(data)
    task = Detection(spec, source, SETTINGS, CPU)
    (batch,) = source.val_batches()
    boxes, labels = batch.labels.targets
    nothing = [torch.zeros_like(one) for one in Oracle(spec, batch.labels.targets).maps]
    as_background = labels.masked_fill(labels == IGNORED, NO_BOX)
    losses = [float(task.loss(nothing, BoxTargets(boxes, some))) for some in (labels, as_background)]
    assert losses[0] == pytest.approx(losses[1])  # with equal logits all negatives have the same loss


class Oracle(nn.Module):
    """Outputs whose detections are the boxes of ``targets``."""

    def __init__(self, spec: ArchSpec, targets: Any) -> None:
        super().__init__()
        boxes = default_boxes(spec)
        matches, corners = match_boxes(targets, boxes), box_convert(boxes, "cxcywh", "xyxy")
        logits, offsets = torch.zeros(*matches.shape, 3), torch.zeros(*matches.shape, 4)
        logits[..., 0] = 20.0
        for image, (found, true, labels) in enumerate(zip(matches, *targets, strict=True)):
            at = (found >= 0).nonzero()[:, 0]
            offsets[image, at] = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(true[found[at]], corners[at])
            logits[image, at, 0] = 0.0
            logits[image, at, labels[found[at]] + 1] = 10.0
        head: Any = spec.head
        self.maps = []
        for columns, values in ((3, logits), (4, offsets)):
            start = 0
            for side in (4, 2, 1, 1, 1, 1):
                end = start + side * side * head.anchors
                part = values[:, start:end].reshape(len(values), side, side, -1).permute(0, 3, 1, 2)
                assert part.shape[1] == columns * head.anchors
                self.maps.append(part)
                start = end

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.maps


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_true_boxes_as_outputs_score_one_at_the_images_own_size(fit: str) -> None:
    data, spec = boxed_data(ignored=True, fit=fit), small_detector()
    source = source_of(data)
    task = Detection(spec, source, SETTINGS, CPU)
    (batch,) = source.val_batches()
    score = task.score(Oracle(spec, batch.labels.targets), source.val_batches())
    assert score.metrics["map50"] > 0.9  # boxes that share their best default box are lost
    assert score.accuracy > 0.85
    assert score.loss < 0.5
    assert 0 <= score.standard_error < 0.2
    assert len(score.class_scores) == len(score.class_errors) == 2
    nothing = [torch.zeros_like(one) for one in Oracle(spec, batch.labels.targets).maps]
    assert task.score(lambda images: nothing, source.val_batches()).accuracy < 0.05
    assert 0 <= task.constant_score() < 0.3


def test_constant_boxes_are_scored_once_per_images_and_default_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    data, spec, calls = boxed_data(), small_detector(), []
    monkeypatch.setattr(detection, "constant_boxes", lambda *given: calls.append(1) or constant_boxes(*given))
    smaller = replace(spec, head=replace(spec.head, min_scale=0.1))
    first, again, other = (
        Detection(arch, source_of(data), SETTINGS, CPU).constant_score() for arch in (spec, spec, smaller)
    )
    assert first == again != other and len(calls) == 2
    Detection(spec, source_of(boxed_data()), SETTINGS, CPU).constant_score()
    assert len(calls) == 3


def test_processes_find_together_what_one_finds_alone() -> None:
    torch.manual_seed(0)
    data, spec = boxed_data(val=40), small_detector()
    model, sent = build(spec).eval(), []
    for rank in range(2):
        group = ProcessGroup(rank=rank, size=2, sum_in_place=lambda value: sent.append(value.clone()))
        source = DetectionSource(data, SETTINGS, resolution_px=SIDE_PX, seed=3, device=CPU, processes=group)
        task = Detection(spec, source, SETTINGS, CPU)
        task.score(model, source.val_batches(), group)
    (found, loss, count), (other, other_loss, other_count) = sent[:3], sent[3:]
    alone = task.score(model, source_of(data).val_batches())
    assert task.precision_of((found + other).numpy()).mean == pytest.approx(alone.accuracy, abs=1e-6)
    assert float((loss + other_loss) / (count + other_count)) == pytest.approx(alone.loss, rel=1e-5)
    assert int(count + other_count) == 40


def test_a_classifier_is_refused() -> None:
    with pytest.raises(NasError, match="give a detector"):
        Detection(zoo.get("mobilenetv3_small_050"), source_of(boxed_data()), SETTINGS, CPU)


def trained(checkpoint: Path, stop_after: int | None = None) -> tuple[nn.Module, Any]:
    """Train a small detector; ``stop_after``: interrupted after so many steps."""
    torch.manual_seed(0)
    spec = small_detector()
    model, source, steps = build(spec), source_of(boxed_data()), []
    hooks = TrainingHooks(
        on_step=lambda done, total: steps.append(done),
        must_stop=lambda: stop_after is not None and len(steps) == stop_after,
    )
    try:
        result = train_network(
            model, source, SETTINGS, seed=3, checkpoint=checkpoint, hooks=hooks,
            task=Detection(spec, source, SETTINGS, CPU),
        )  # fmt: skip
    except KeyboardInterrupt:
        result = None
    return model, result


def test_a_training_interrupted_in_an_epoch_ends_with_the_same_weights(tmp_path: Path) -> None:
    expected, whole = trained(tmp_path / "whole")
    _, result = trained(tmp_path / "cut", stop_after=2)
    assert result is None
    resumed, result = trained(tmp_path / "cut")
    for name, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [epoch.accuracy for epoch in result.epochs] == [epoch.accuracy for epoch in whole.epochs]
    assert {"map50", "map75", "recall"} <= set(result.epochs[-1].metrics)
