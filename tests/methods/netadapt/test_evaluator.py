"""Tests of the evaluation of proposals on tiny images."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save
from torch.nn import functional

from nas.arch import ArchSpec
from nas.arch.scaling.shrinking import shrink_dimensions
from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.estimators.base import ParentNetwork
from nas.methods.netadapt.evaluator import NetAdaptEvaluator, loss_sample, whole_network
from nas.methods.netadapt.settings import NetAdaptSettings, SeedTraining
from nas.methods.netadapt.state import LOSS, LOSS_ERROR
from nas.model.build import build
from nas.training.results import TrainingError
from tests.methods.netadapt.fakes import SEED

ARCH = replace(SEED, classes=3, resolution_px=16, norm=replace(SEED.norm, momentum=0.01))
# Of the same network on the same images: kernels of some processors round by how the images are batched.
SAME_LOSSES = pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def data() -> ImageData:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 3
    images = torch.randint(0, 120, (48, 3, 16, 16), generator=draws) + 60 * labels[:, None, None, None]
    return ImageData(
        train_images=images.to(torch.uint8),
        train_labels=labels,
        val_images=images[:12].to(torch.uint8),
        val_labels=labels[:12],
        class_names=("a", "b", "c"),
        mean=(0.4, 0.4, 0.4),
        std=(0.2, 0.2, 0.2),
        flips=False,
    )


@pytest.fixture(scope="module")
def parent() -> ParentNetwork:
    torch.manual_seed(1)
    return ParentNetwork(arch=ARCH, weights=save(build(ARCH).state_dict()))


def evaluator(data: ImageData, folder: Path | None = None, **settings: object) -> NetAdaptEvaluator:
    fields: dict[str, object] = {"batches": 4, "loss_images": 12, "lr": 0.01, **settings}
    return NetAdaptEvaluator(
        data=data,
        settings=SeedTraining(batch_size=8, resolution_px=16),
        largest_kernel=5,
        seed=3,
        weights_dir=folder,
        netadapt=NetAdaptSettings(**fields),  # type: ignore[arg-type]
    )


def smaller(kind: str) -> ArchSpec:
    dimension = next(one for one in shrink_dimensions(ARCH, kinds=(kind,)) if one.sizes)
    return dimension.at(dimension.sizes[0])


def test_the_unchanged_network_has_the_loss_of_its_parent(data: ImageData, parent: ParentNetwork) -> None:
    scores = evaluator(data).scores(ARCH, parent=parent)
    assert scores[LOSS_ERROR] == SAME_LOSSES
    rows = loss_sample(48, 12, 3).loss_rows
    model = build(ARCH, dropout=0.0)
    model.load_state_dict(load(parent.weights))
    model.train()  # norms with the statistics of the images
    images = (data.train_images[rows].float() / 255 - 0.4) / 0.2
    loss = functional.cross_entropy(model(images), data.train_labels[rows])
    assert scores[LOSS] == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["expansion", "width", "kernel", "group", "block", "head", "resolution"])
def test_proposals_of_every_kind_have_a_loss(data: ImageData, parent: ParentNetwork, kind: str) -> None:
    scores = evaluator(data).scores(smaller(kind), parent=parent)
    assert scores[LOSS] > 0 and scores[LOSS_ERROR] > 0


def test_losses_of_a_parent_are_those_of_its_images(data: ImageData, parent: ParentNetwork) -> None:
    evaluator(data).scores(ARCH, parent=parent)
    others = replace(data, train_images=255 - data.train_images)  # as in another study of the same process
    assert evaluator(others).scores(ARCH, parent=parent)[LOSS_ERROR] == SAME_LOSSES


def test_the_loss_is_on_images_that_fine_tuning_leaves_out() -> None:
    sample = loss_sample(100, 30, 0)
    assert len(sample.loss_rows) == 25  # at most a quarter
    assert sorted([*sample.loss_rows.tolist(), *sample.train_rows.tolist()]) == list(range(100))
    assert loss_sample(100, 30, 0).loss_rows.equal(sample.loss_rows)
    assert not loss_sample(100, 30, 1).loss_rows.equal(sample.loss_rows)
    assert [len(rows) for rows in loss_sample(5, 30, 0)] == [2, 3]  # one image has no standard error


def test_losses_of_a_parent_are_those_of_the_images_that_are_asked_for(data: ImageData, parent: ParentNetwork) -> None:
    for images in (12, 8):  # the same parent in two studies of one process
        assert evaluator(data, loss_images=images).scores(ARCH, parent=parent)[LOSS_ERROR] == SAME_LOSSES


def test_a_fine_tuning_is_repeatable_and_lowers_the_loss(
    data: ImageData, parent: ParentNetwork, tmp_path: Path
) -> None:
    arch = smaller("expansion")
    tuner = evaluator(data, tmp_path, batches=30, lr=0.05)
    first = tuner.evaluate(arch, repeat=1, parent=parent)
    weights = load_file(tmp_path / f"{arch.arch_id}.safetensors")
    again = tuner.evaluate(arch, repeat=1, parent=parent)
    assert (first.loss, first.accuracy, dict(first.scores)) == (again.loss, again.accuracy, dict(again.scores))
    other = tuner.evaluate(arch, repeat=2, parent=parent)
    assert other.loss != first.loss  # another step sees other images
    assert first.scores[LOSS] < tuner.scores(arch, parent=parent)[LOSS]
    model = build(arch)
    model.load_state_dict(weights)
    assert model.blocks[0][0].bn1.momentum == 0.01  # type: ignore[index, union-attr]
    assert first.class_images == (4, 4, 4) and sum(first.class_correct) == round((first.accuracy or 0) * 12)


def test_given_weights_are_scored_as_they_are(data: ImageData, parent: ParentNetwork, tmp_path: Path) -> None:
    evaluator(data, tmp_path).evaluate(ARCH, repeat=0, parent=parent)
    kept, given = load_file(tmp_path / f"{ARCH.arch_id}.safetensors"), load(parent.weights)
    assert all(kept[name].equal(tensor) for name, tensor in given.items())


def test_a_network_without_a_parent_is_trained_in_full(data: ImageData, tmp_path: Path) -> None:
    tuner = replace(evaluator(data, tmp_path), settings=SeedTraining(epochs=2, warmup_epochs=0, batch_size=16))
    epochs: list[int] = []
    result = tuner.evaluate(ARCH, on_epoch=lambda found: epochs.append(found.epoch))
    assert epochs == [1, 2] and result.scores == {} and (tmp_path / f"{ARCH.arch_id}.safetensors").is_file()
    with pytest.raises(NasError, match="without a parent"):
        tuner.scores(ARCH)


def test_a_loss_that_is_not_finite_is_told(data: ImageData, parent: ParentNetwork) -> None:
    broken = {
        name: tensor * float("nan") for name, tensor in load(parent.weights).items() if tensor.is_floating_point()
    }
    bad = ParentNetwork(arch=ARCH, weights=save({**load(parent.weights), **broken}))
    with pytest.raises(TrainingError, match=r"became nan: lower netadapt\.lr"):
        evaluator(data).scores(ARCH, parent=bad)


def test_it_travels_to_other_processes(data: ImageData, parent: ParentNetwork) -> None:
    own = evaluator(data)
    sent = pickle.loads(pickle.dumps((own, parent)))
    assert dict(sent[0].scores(ARCH, parent=sent[1])) == dict(own.scores(ARCH, parent=parent))
    assert whole_network(ARCH).spec is ARCH
