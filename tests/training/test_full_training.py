"""Full trainings: bitwise resume at any step, recipes in timm's terms, weights of classes."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch.nn import functional

from nas.arch import zoo
from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.model.build import build
from nas.training.batches import InMemorySource
from nas.training.distributed import ProcessGroup
from nas.training.optimization import make_loss, make_optimizer, make_scheduler
from nas.training.recipe import RecipeSettings
from nas.training.results import TrainingError, TrainResult
from nas.training.run import TrainingRun
from nas.training.trainer import TrainingHooks, train_network
from tests.training.nets import first_images
from tests.training.test_distributed import in_group

# Batches of 16, 16 and 15 of 47 images: the last one is odd, which mixup has to leave an image out of.
ALWAYS = RecipeSettings(epochs=3, batch_size=16, lr=0.01, device="cpu", warmup_epochs=0.5, checkpoint_s=0)
CPU = torch.device("cpu")


class Net(nn.Module):
    """Convolution, batch norm, dropout and a classifier as timm's networks name it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.body(images))


def run(
    data: ImageData, settings: RecipeSettings, *, checkpoint: Path | None = None, hooks: TrainingHooks | None = None
) -> tuple[TrainResult, dict[str, torch.Tensor]]:
    model = Net()
    source = InMemorySource(data, settings, seed=1, device=CPU)
    result = train_network(model, source, settings, seed=1, checkpoint=checkpoint, hooks=hooks)
    return result, model.state_dict()


def interrupt(at: int) -> Callable[[int, int], None]:
    def on_step(done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    return on_step


def figures(result: TrainResult) -> list[tuple[Any, ...]]:
    return [(epoch.train_loss, epoch.val_loss, epoch.accuracy, epoch.class_correct) for epoch in result.epochs]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ema": 0.9, "mixup": 0.3, "cutmix": 0.5},
        {"optimizer": "rmsproptf", "optimizer_eps": 0.001, "lr": 1e-3, "schedule": "step", "decay_epochs": 0.4},
        {"body_lr": 0.1, "class_weights": "balanced", "clip_grad": 0.5},
        {"amp": "float16", "schedule": "constant"},
    ],
    ids=str,
)
def test_a_training_interrupted_at_any_step_ends_bitwise_as_an_unbroken_one(
    digits: ImageData, tmp_path: Path, fields: dict[str, Any]
) -> None:
    data, settings = first_images(digits, 47), replace(ALWAYS, **fields)
    expected, weights = run(data, settings)
    path, begun = tmp_path / "checkpoint.pt", []
    for at in (2, 3, 4, 5, 7, 9):  # within, at the end and at the beginning of epochs of 3 steps
        hooks = TrainingHooks(on_step=interrupt(at), on_start=lambda run: begun.append(run.steps_done))
        with pytest.raises(KeyboardInterrupt):
            run(data, settings, checkpoint=path, hooks=hooks)
    result, resumed = run(data, settings, checkpoint=path)
    # A step is saved after its report: each run loses the one in which it was interrupted.
    assert begun == [0, 1, 2, 3, 4, 6]
    assert figures(result) == figures(expected)
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert weights.keys() == resumed.keys()


def test_a_finished_training_is_restored_whole(digits: ImageData, tmp_path: Path) -> None:
    data, path, seen = first_images(digits, 47), tmp_path / "checkpoint.pt", []
    expected, weights = run(data, ALWAYS, checkpoint=path)
    result, restored = run(
        data, ALWAYS, checkpoint=path, hooks=TrainingHooks(on_epoch=lambda run: seen.append(run.epoch))
    )
    assert result == expected and seen == []
    assert all(torch.equal(weights[name], restored[name]) for name in weights)


def test_a_checkpoint_is_not_passed_over_where_none_are_written(digits: ImageData, tmp_path: Path) -> None:
    data, path = first_images(digits, 47), tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        run(data, ALWAYS, checkpoint=path, hooks=TrainingHooks(on_step=interrupt(4)))
    with pytest.raises(NasError, match=r"recipe\.checkpoint_s null: does not resume from .*checkpoint\.pt; give a"):
        run(data, replace(ALWAYS, checkpoint_s=None), checkpoint=path)


@pytest.mark.parametrize("change", ["images", "labels"])
def test_a_checkpoint_of_other_images_is_refused(digits: ImageData, tmp_path: Path, change: str) -> None:
    """Of the same shapes, mean and deviation, as after a file is renamed or moved to another class."""
    data, path = first_images(digits, 47), tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        run(data, ALWAYS, checkpoint=path, hooks=TrainingHooks(on_step=interrupt(4)))
    other = replace(data, **{f"train_{change}": getattr(data, f"train_{change}").roll(1, 0)})
    with pytest.raises(NasError, match=r"cannot be resumed: damaged, or begun with other images"):
        run(other, ALWAYS, checkpoint=path)


def test_no_checkpoint_holds_a_loss_that_is_not_finite(digits: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    data = first_images(digits, 47)
    original = TrainingRun._train_step

    def broken(self: TrainingRun, batch: Any) -> torch.Tensor:
        return original(self, batch) * (float("nan") if self.steps_done == 4 else 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "_train_step", broken)
        with pytest.raises(TrainingError, match=r"loss became nan at epoch 2, step 2: lower recipe\.lr"):
            run(data, ALWAYS, checkpoint=path)
    begun: list[int] = []
    run(data, ALWAYS, checkpoint=path, hooks=TrainingHooks(on_start=lambda run: begun.append(run.steps_done)))
    assert begun == [4]  # the last good step: the fifth one was lost


def test_learning_rates_of_the_step_schedule_are_those_of_the_formula() -> None:
    """Exponential decay in a staircase with linear warm-up, of the published EfficientNet code."""
    settings = replace(
        ALWAYS,
        epochs=20, optimizer="rmsproptf", lr=0.256, lr_batch_size=4096, batch_size=256, warmup_epochs=5,
        schedule="step", decay_epochs=2.4, decay_rate=0.97, warmup_lr=0.0, body_lr=0.25,
    )  # fmt: skip
    optimizer = make_optimizer(Net(), settings)
    scheduler, steps = make_scheduler(optimizer, settings, 10), 10
    base = 0.256 * 256 / 4096
    assert base == pytest.approx(0.016)  # the published rate for 256 images
    for step in (0, 1, 25, 49, 50, 71, 72, 73, 95, 96, 199):
        scheduler.step_update(step)
        warm = base * step / (5 * steps)
        expected = warm if step < 5 * steps else base * 0.97 ** (step // (2.4 * steps))
        rates = {(group["lr_scale"], group["lr"]) for group in optimizer.param_groups}
        assert {scale for scale, _ in rates} == {1.0, 0.25}
        assert all(lr == pytest.approx(scale * expected) for scale, lr in rates), step


def test_only_the_classifier_has_the_full_learning_rate() -> None:
    for schedule in ("constant", "cosine"):
        settings = replace(ALWAYS, body_lr=0.1, schedule=schedule, warmup_epochs=0)
        model = Net()
        optimizer = make_optimizer(model, settings)
        make_scheduler(optimizer, settings, 3)
        names = {id(weight): name for name, weight in model.named_parameters()}
        rates = {names[id(weight)]: group["lr"] for group in optimizer.param_groups for weight in group["params"]}
        assert rates.keys() == set(names.values())
        for name, lr in rates.items():
            assert lr == pytest.approx(0.01 if name.startswith("classifier") else 0.001), name
        decays = {names[id(w)]: group["weight_decay"] for group in optimizer.param_groups for w in group["params"]}
        assert {name for name, decay in decays.items() if decay} == {"body.0.weight", "classifier.1.weight"}


def test_optimizers_get_the_recipe_s_constants() -> None:
    settings = replace(ALWAYS, optimizer="rmsproptf", momentum=0.8, rms_alpha=0.7, optimizer_eps=0.001)
    (group, _) = make_optimizer(Net(), settings).param_groups
    assert (group["momentum"], group["alpha"], group["eps"]) == (0.8, 0.7, 0.001)
    (group, _) = make_optimizer(Net(), replace(ALWAYS, optimizer="sgd", momentum=0.5)).param_groups
    assert group["momentum"] == 0.5 and group["nesterov"]


def test_class_weights_weigh_the_loss() -> None:
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 0, 1, 2])
    settings = replace(ALWAYS, class_weights="balanced", label_smoothing=0.0)
    loss = make_loss(settings, has_soft_targets=False, class_images=(4, 1, 1), device=CPU)(logits, labels)
    # Balanced weights make the weighted mean over images the mean over classes.
    each = functional.cross_entropy(logits, labels, reduction="none")
    assert float(loss) == pytest.approx(float((each[:4].mean() + each[4] + each[5]) / 3), rel=1e-5)
    soft = make_loss(
        replace(settings, class_weights=[1, 2, 4]), has_soft_targets=True, class_images=(4, 1, 1), device=CPU
    )
    chances = torch.tensor([[0.5, 0.5, 0.0]] * 6)
    terms = -(chances * torch.tensor([1.0, 2.0, 4.0]) * logits.log_softmax(1)).sum(1)
    assert float(soft(logits, chances)) == pytest.approx(float(terms.mean()), rel=1e-5)


def test_a_network_gets_the_rates_and_the_resolution_of_the_recipe() -> None:
    mixnet = zoo.get("mixnet_s")
    trained = replace(ALWAYS, dropout=0.4, drop_path=0.32, resolution_px=96).network(mixnet)
    model = build(trained)
    assert model.drop_rate == 0.4
    # timm lets the rate grow from block to block; the last of the 16 has 15/16 of it.
    assert max(module.drop_prob for module in model.modules() if isinstance(module, DropPath)) == pytest.approx(0.3)
    assert trained.arch_id == replace(mixnet, resolution_px=96).arch_id
    assert ALWAYS.network(mixnet) == mixnet


def test_smoothing_of_the_running_statistics_is_that_of_the_recipe(digits: ImageData) -> None:
    states = [run(first_images(digits, 16), replace(ALWAYS, epochs=1, bn_momentum=share))[1] for share in (1.0, 0.25)]
    full, quarter = (state["body.1.running_mean"] for state in states)
    assert torch.allclose(quarter, 0.25 * full, rtol=1e-4)  # of one batch, beginning at 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "stp"}, r"unknown recipe\.schedule 'stp': choose from cosine, .*, step\. Did you mean 'step'"),
        ({"lr": 0}, r"recipe\.lr 0: must be a number above 0"),
        ({"optimizer": "sgd", "optimizer_eps": 0.1}, r"recipe\.optimizer_eps 0\.1: recipe\.optimizer sgd has none"),
        ({"decay_rate": 1.5}, r"recipe\.decay_rate 1\.5: .* at most 1"),
        ({"drop_path": 1.0}, r"recipe\.drop_path 1\.0: .* below 1, or null"),
        ({"class_weights": "blanced"}, r"recipe\.class_weights 'blanced': must be balanced, a list"),
        ({"class_weights": [1, -2]}, r"recipe\.class_weights -2: must be a number above 0"),
        ({"class_weights": [1, 0]}, r"recipe\.class_weights 0: must be a number above 0"),
        ({"class_weights": []}, r"recipe\.class_weights: must have a number per class"),
        ({"auto_augment": "random"}, r"recipe\.auto_augment 'random': must be a policy in timm's notation"),
    ],
)
def test_wrong_values_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        replace(ALWAYS, **fields)


@pytest.mark.parametrize(
    ("weights", "counts", "message"),
    [
        ([1.0, 2.0], (4, 4, 4), "has 2 numbers, the images have 3 classes"),
        ("balanced", (4, 0, 4), "class 1 of 3 has no train image"),
    ],
)
def test_class_weights_must_fit_the_images(weights: Any, counts: tuple[int, ...], message: str) -> None:
    with pytest.raises(NasError, match=message):
        replace(ALWAYS, class_weights=weights).loss_weights(counts)


def test_a_group_of_processes_trains_as_one_on_the_whole_batches(digits: ImageData) -> None:
    """Without batch norm and dropout, whose figures are of a share. Batches of 47 images: shares are unequal."""
    data, settings = first_images(digits, 47), replace(ALWAYS, epochs=2, optimizer="sgd", mixup=0.0, ema=0.5)
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))

    def trained(processes: ProcessGroup) -> tuple[list[Any], dict[str, torch.Tensor]]:
        model = deepcopy(linear)
        source = InMemorySource(data, settings, seed=1, device=CPU, processes=processes)
        run = TrainingRun(model, source, settings, CPU, processes)
        results = [run.next_epoch() for _ in range(2)]
        run.load_scored_weights()
        return [(one.train_loss, one.val_loss, one.class_correct) for one in results], model.state_dict()

    (expected, weights), *others = trained(ProcessGroup()), *in_group(2, trained)
    for found, state in others:
        for before, after in zip(expected, found, strict=True):
            assert after[:2] == pytest.approx(before[:2], rel=1e-4) and after[2] == before[2]
        assert all(torch.allclose(state[name], weights[name], atol=1e-5) for name in weights)
