"""Segmentation as a task: batches, loss, score at the images' own size, learning, resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.core.errors import NasError
from nas.data.dense import VOID, SegmentationData
from nas.model.dense.segmentation import class_masks
from nas.training.evaluation import ValBatch
from nas.training.recipe import RecipeSettings
from nas.training.settings import TrainSettings
from nas.training.tasks import Segmentation, SegmentationSource
from nas.training.trainer import TrainingHooks, train_from, train_network
from tests.training.tasks.masked_images import masked_images
from tests.training.test_distributed import in_group

CPU = torch.device("cpu")
RECIPE = RecipeSettings(
    epochs=2, batch_size=4, lr=0.02, device="cpu", label_smoothing=0.0, crop_scale=0.3, warmup_epochs=0, ema=None,
    loader_workers=0,
)  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> SegmentationData:
    return masked_images(tmp_path)


def source_of(images: SegmentationData, settings: TrainSettings = RECIPE, seed: int = 0, **more: Any) -> Any:
    return SegmentationSource(images, settings, resolution_px=16, seed=seed, device=CPU, **more)


def net() -> nn.Module:
    """Logits (N, 2, 4, 4) of images (N, 3, 16, 16)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def test_batches_are_functions_of_seed_epoch_and_step(images: SegmentationData) -> None:
    first, again, other = source_of(images), source_of(images), source_of(images, seed=1)
    list(first.train_batches(1))
    whole, rest = list(first.train_batches(2)), list(again.train_batches(2, 1))
    assert [batch.rows.tolist() for batch in whole[1:]] == [batch.rows.tolist() for batch in rest]
    for one, two in zip(whole[1:], rest, strict=True):
        assert torch.equal(one.images, two.images) and torch.equal(one.targets, two.targets)
    assert any(
        not torch.equal(one.targets, two.targets) for one, two in zip(whole, other.train_batches(2), strict=True)
    )
    assert sorted(row for batch in whole for row in batch.rows.tolist()) == list(range(12))


def test_images_and_masks_are_cropped_and_flipped_alike(images: SegmentationData) -> None:
    """Bright pixels are those of class 1: with noise of 60 of 255, 105 separates them."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (images.mean, images.std))
    for batch in source_of(images).train_batches(1):
        pixels = (batch.images * std + mean).mean(1) * 255
        is_scored = batch.targets != VOID
        same = (pixels > 105) == (batch.targets == 1)
        # Pixels at the border of the parts are mixed by resizing.
        assert same[is_scored].float().mean() > 0.9
        assert batch.targets.dtype == torch.uint8 and batch.targets.shape == (4, 16, 16)


def test_the_loss_is_the_mean_cross_entropy_of_pixels_that_are_not_void(images: SegmentationData) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(3, 2, 4, 4, generator=generator), torch.randint(0, 2, (3, 8, 8), generator=generator)
    targets[0, :3] = VOID
    task = Segmentation(source_of(images), RECIPE, CPU)
    chances = functional.interpolate(logits, size=(8, 8), mode="bilinear").softmax(1)
    terms = [
        -float(chances[image, targets[image, y, x], y, x].log())
        for image in range(3)
        for y in range(8)
        for x in range(8)
        if targets[image, y, x] != VOID
    ]
    assert float(task.loss(logits, targets)) == pytest.approx(np.mean(terms), rel=1e-5)
    weighted = Segmentation(source_of(images), replace(RECIPE, class_weights=(1.0, 3.0)), CPU)
    known = targets[targets != VOID].tolist()
    expected = np.dot([1.0 + 2.0 * label for label in known], terms) / sum(1.0 + 2.0 * label for label in known)
    assert float(weighted.loss(logits, targets)) == pytest.approx(expected, rel=1e-5)
    void = logits.clone().requires_grad_()
    task.loss(void, torch.full((3, 8, 8), VOID)).backward()  # type: ignore[no-untyped-call]
    assert void.grad is not None and torch.equal(void.grad, torch.zeros_like(void))


def test_every_pixel_has_a_part_in_the_loss_in_the_long_run(images: SegmentationData) -> None:
    task = Segmentation(source_of(images), RECIPE, CPU)
    places, seen = torch.arange(16).view(1, 4, 4), set()
    torch.manual_seed(0)
    for _ in range(60):  # four equally probable choices: one of them is missed with probability 4 * 0.75^60 = 1e-7
        seen |= set(task.prepare(torch.zeros(1, 3, 4, 4), places)[1].flatten().tolist())
    assert seen == set(range(16))


def test_balanced_weights_are_those_of_pixels(tmp_path: Path) -> None:
    images = masked_images(tmp_path, void=False)
    dark, bright = (int((np.stack([images.train.mask(row) for row in range(12)]) == label).sum()) for label in (0, 1))
    weights = Segmentation(source_of(images), replace(RECIPE, class_weights="balanced"), CPU)._weights
    assert weights is not None
    assert float(weights[0] / weights[1]) == pytest.approx(bright / dark, rel=1e-5)
    single = masked_images(tmp_path / "one", void=False, settings={"classes": ["dark", "bright", "none"]})
    with pytest.raises(NasError, match=r"recipe\.class_weights balanced: class 2 of 3 has no train pixel"):
        Segmentation(source_of(single), replace(RECIPE, class_weights="balanced"), CPU)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("size", [(24, 20), (9, 30)])
def test_the_score_is_that_of_masks_at_the_images_own_size(tmp_path: Path, fit: str, size: tuple[int, int]) -> None:
    images = masked_images(tmp_path, size=size, settings={"fit": fit})
    source, model = source_of(images), net().eval()
    task = Segmentation(source, RECIPE, CPU)
    score = task.score(model, source.val_batches())
    both, either = np.zeros(2), np.zeros(2)
    losses, right, seen = 0.0, 0, 0
    for row in range(len(images.val)):
        (logits,) = model(source.val_inputs([row])).detach()
        width, height = size
        if fit == "pad":  # the square of the network, then the part of it that shows the image
            square = functional.interpolate(logits[None], size=(16, 16), mode="bilinear")
            side = max(size)
            x, y = round((side - width) / 2 * 16 / side), round((side - height) / 2 * 16 / side)
            x_end, y_end = (round((side + edge) / 2 * 16 / side) for edge in size)
            logits = square[0, :, y:y_end, x:x_end]
        own = functional.interpolate(logits[None], size=(height, width), mode="bilinear")[0]
        truth, found = images.val.mask(row), own.argmax(0).numpy()
        known = truth != VOID
        for label in (0, 1):
            both[label] += ((truth == label) & (found == label)).sum()
            either[label] += (((truth == label) | (found == label)) & known).sum()
        right, seen = right + (truth == found)[known].sum(), seen + known.sum()
        chances = own.log_softmax(0).numpy()
        losses -= sum(chances[truth[y, x], y, x] for y, x in zip(*known.nonzero(), strict=True))
    assert score.class_scores == pytest.approx(tuple(both / either))
    assert score.accuracy == pytest.approx((both / either).mean())
    assert score.metrics["pixel_accuracy"] == pytest.approx(right / seen)
    assert score.loss == pytest.approx(losses / seen, rel=1e-5)
    assert score.standard_error is not None


def test_predicted_masks_are_those_that_are_scored(images: SegmentationData) -> None:
    source, model = source_of(images), net().eval()
    task = Segmentation(source, RECIPE, CPU)
    outputs = model(source.val_inputs([0, 3])).detach()
    found = task.predictions([0, 3], outputs)
    assert [one.shape for one in found] == [(20, 24)] * 2
    assert np.array_equal(np.stack(found), class_masks(outputs, 20, 24).numpy())


def test_a_perfect_output_scores_one_and_the_constant_output_what_is_foretold(images: SegmentationData) -> None:
    source = source_of(images)
    task = Segmentation(source, RECIPE, CPU)
    pixels = images.val.pixels.sum(0)[:-1]

    def of(batches: list[ValBatch], label: int | None) -> float:
        rows = iter([row for batch in batches for row in batch.labels.rows.tolist()])

        def outputs(squares: Tensor) -> Tensor:
            masks = [images.val.mask(next(rows)) if label is None else np.full((20, 24), label) for _ in squares]
            labels = torch.from_numpy(np.stack(masks).astype(np.int64)).clamp(max=1)
            return functional.one_hot(labels, 2).permute(0, 3, 1, 2).float()

        return task.score(outputs, batches).accuracy

    batches = list(source.val_batches())
    assert of(batches, None) == 1.0
    assert task.constant_score() == pytest.approx(of(batches, int(pixels.argmax())))


def test_a_small_network_learns_and_scores_above_a_constant(images: SegmentationData) -> None:
    settings = replace(RECIPE, epochs=6)
    source = source_of(images, settings)
    task = Segmentation(source, settings, CPU)
    result = train_from(net(), source, settings, seed=0, task=task)
    assert result.accuracy > 0.7 > 0.45 > task.constant_score()
    assert result.accuracy > result.epochs[0].accuracy
    assert result.epochs[-1].class_scores and result.epochs[-1].standard_error is not None


def test_a_training_resumes_within_an_epoch_bit_for_bit(images: SegmentationData, tmp_path: Path) -> None:
    settings = replace(RECIPE, checkpoint_s=0.0, color_jitter=0.3, ema=0.5)

    def trained(name: str, stop_at: int) -> tuple[list[float], dict[str, Tensor]]:
        model, source = net(), source_of(images, settings)
        steps: list[int] = []
        hooks = TrainingHooks(on_step=lambda done, total: steps.append(done), must_stop=lambda: len(steps) == stop_at)
        task = Segmentation(source, settings, CPU)
        result = train_network(model, source, settings, seed=3, checkpoint=tmp_path / name, hooks=hooks, task=task)
        return [value for one in result.epochs for value in (one.train_loss, one.val_loss, one.accuracy)], dict(
            model.state_dict()
        )

    expected, weights = trained("whole.pt", -1)
    with pytest.raises(KeyboardInterrupt):
        trained("cut.pt", 4)
    found, state = trained("cut.pt", -1)
    assert found == expected
    assert all(torch.equal(state[name], weights[name]) for name in weights)


def test_processes_score_together_what_one_scores(images: SegmentationData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.training.tasks.dense_source._VAL_BATCH", 2)
    model = net().eval()

    def scored(processes: Any) -> Any:
        source = source_of(images, processes=processes)
        return Segmentation(source, RECIPE, CPU).score(model, source.val_batches(), processes)

    alone = Segmentation(source_of(images), RECIPE, CPU).score(model, source_of(images).val_batches())
    for score in in_group(2, scored):
        assert score.class_scores == alone.class_scores and score.standard_error == alone.standard_error
        assert score.loss == pytest.approx(alone.loss)
