"""Training loop: accuracy, determinism, restored global state, errors."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm.optim
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.training.evaluation import evaluate
from nas.training.results import EpochResult, TrainingError
from nas.training.runtime import fast_training, fused_update, seeded
from nas.training.settings import OPTIMIZERS, TrainSettings
from nas.training.trainer import train
from tests.training.nets import first_images, make_net

SHORT = TrainSettings(epochs=1, batch_size=16, lr=0.01, device="cpu", warmup_epochs=0.2)


def test_a_small_net_learns_real_digits(digits: ImageData) -> None:
    seen: list[EpochResult] = []
    result = train(make_net(), digits, replace(SHORT, epochs=3, warmup_epochs=0.5), seed=0, on_epoch=seen.append)
    assert result.accuracy > 0.8
    assert tuple(seen) == result.epochs
    assert [epoch.epoch for epoch in seen] == [1, 2, 3]
    assert seen[-1].train_loss < seen[0].train_loss
    assert result.images_per_cpu_s > 0
    assert result.duration_s > 0


def test_results_are_determined_by_the_seed(digits: ImageData) -> None:
    data = first_images(digits, 200)
    settings = replace(SHORT, mixup=0.2, ema=0.9)
    losses = []
    for seed in (1, 1, 2):
        torch.rand(3), np.random.rand(3)  # earlier draws must not matter
        losses.append([(e.train_loss, e.val_loss) for e in train(make_net(), data, settings, seed=seed).epochs])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_model_ends_with_the_scored_weights(digits: ImageData, ema: float | None) -> None:
    model, data = make_net(), first_images(digits, 200)
    settings = replace(SHORT, ema=ema)
    result = train(model, data, settings, seed=0)
    assert evaluate(model, data, settings).loss == pytest.approx(result.loss, rel=1e-6)


def test_global_random_state_and_settings_are_restored(digits: ImageData) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    threads = torch.get_num_threads()
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.SiLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    torch.manual_seed(5)
    with fast_training(model, torch.device("cpu"), threads + 1):
        assert torch.get_num_threads() == threads + 1
        assert not model[1].inplace
    assert model[1].inplace
    train(model, first_images(digits, 20), SHORT, seed=0)
    assert torch.get_num_threads() == threads
    assert (torch.rand(1), np.random.rand()) == expected


def test_out_of_place_activations_are_bitwise_equal(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    data = first_images(digits, 100)
    fast = train(make_net(), data, SHORT, seed=0)
    monkeypatch.setattr("nas.training.runtime._COPYING_IN_PLACE", ())
    plain = train(make_net(), data, SHORT, seed=0)
    assert fast.epochs[0].train_loss == plain.epochs[0].train_loss
    assert fast.loss == plain.loss


@pytest.mark.parametrize("channels_last", [True, False])
def test_fast_layers_differ_by_rounding_only(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch, channels_last: bool
) -> None:
    """With SGD: AdamW would enlarge the rounding errors of gradients that are zero."""
    settings = replace(SHORT, optimizer="sgd", channels_last=channels_last, ema=0.9)
    models = [make_net(), make_net()]
    fast = train(models[0], first_images(digits, 64), settings, seed=0)
    assert not any("forward" in module.__dict__ for module in models[0].modules())
    monkeypatch.setattr("nas.training.runtime.fast_layers", lambda model: nullcontext())
    plain = train(models[1], first_images(digits, 64), settings, seed=0)
    assert fast.epochs[0].train_loss == pytest.approx(plain.epochs[0].train_loss, rel=1e-5)
    for name, ours in models[0].state_dict().items():
        torch.testing.assert_close(ours, models[1].state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_fused_update_is_that_of_single_parameters(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Of one step: the rounding of one step changes the gradients of the next."""
    models, data = [make_net(), make_net()], first_images(digits, 16)
    train(models[0], data, replace(SHORT, optimizer=optimizer, schedule="constant"), seed=0)
    assert fused_update(optimizer, torch.device("cpu")) == {"fused": True}
    monkeypatch.setattr("nas.training.optimization.fused_update", lambda optimizer, device: {})
    train(models[1], data, replace(SHORT, optimizer=optimizer, schedule="constant"), seed=0)
    for name, ours in models[0].state_dict().items():
        torch.testing.assert_close(ours, models[1].state_dict()[name], rtol=1e-5, atol=1e-7, msg=name)


def test_scores_match_a_plain_loop(digits: ImageData) -> None:
    model = make_net().eval()
    score = evaluate(model, digits, SHORT)
    images = (digits.val_images / 255 - digits.mean[0]) / digits.std[0]
    with torch.no_grad():
        logits = torch.cat([model(images[i : i + 7]) for i in range(0, len(images), 7)])
    assert score.accuracy == pytest.approx((logits.argmax(1) == digits.val_labels).double().mean().item())
    for label, correct in enumerate(score.class_correct):
        chosen = digits.val_labels == label
        assert correct == int((logits.argmax(1) == digits.val_labels)[chosen].sum())
        assert digits.val_class_images[label] == int(chosen.sum())
    assert len(score.class_correct) == digits.classes
    assert score.loss == pytest.approx(nn.functional.cross_entropy(logits, digits.val_labels).item(), rel=1e-4)
    assert not model.training


def test_linear_model_matches_logistic_regression(digits: ImageData) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    result = train(model, digits, replace(SHORT, epochs=8, shift=0.0, lr=0.005, warmup_epochs=0.5), seed=0)
    flat = [part.reshape(len(part), -1).numpy() / 255 for part in (digits.train_images, digits.val_images)]
    oracle = LogisticRegression(max_iter=2000).fit(flat[0], digits.train_labels.numpy())
    expected = oracle.score(flat[1], digits.val_labels.numpy())
    # Two estimates on the same 360 images, each with a standard error of about 0.01 at 0.96.
    assert result.accuracy == pytest.approx(expected, abs=0.03)


def test_every_image_is_trained_on_once_per_epoch_in_even_batches(digits: ImageData) -> None:
    sizes: list[int] = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])) if module.training else None)
    train(model, first_images(digits, 131), replace(SHORT, batch_size=64), seed=0)
    assert sizes == [44, 44, 43]


@pytest.mark.parametrize("count", [2, 3, 65])
def test_small_remainders_do_not_break_batch_norm(digits: ImageData, count: int) -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 10))
    train(model, first_images(digits, count), replace(SHORT, batch_size=2, mixup=0.1 if count == 65 else 0.0), seed=0)


def test_diverging_loss_names_epoch_and_step(digits: ImageData) -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps, self.linear = 0, nn.Linear(256, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.steps += self.training
            return self.linear(x.flatten(1)) * (float("nan") if self.steps == 5 else 1.0)

    with pytest.raises(TrainingError, match=r"loss became nan at epoch 2, step 2: lower proxy\.lr"):
        train(Breaks(), first_images(digits, 9), replace(SHORT, epochs=2, batch_size=4), seed=0)
    net = make_net()
    net.register_forward_hook(lambda _module, _images, logits: logits * 1e20)  # gradients that float32 cannot hold
    with pytest.raises(NasError, match="loss became"):
        train(net, first_images(digits, 64), replace(SHORT, optimizer="sgd", lr=1000.0, batch_size=8), seed=0)


def test_out_of_memory_and_pruning_pass_through(digits: ImageData) -> None:
    class Full(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        train(Full(1, 1), first_images(digits, 9), SHORT, seed=0)

    def stop(result: EpochResult) -> None:
        raise KeyError(result.epoch)

    with pytest.raises(KeyError, match="1"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(256, 10)), first_images(digits, 9), SHORT, seed=0, on_epoch=stop)


@pytest.mark.parametrize("field", ["mixup", "cutmix", "ema", "clip_grad"])
def test_optional_parts_run(digits: ImageData, field: str) -> None:
    settings = replace(SHORT, **{field: 0.5}, schedule="constant", channels_last=False)  # type: ignore[arg-type]
    assert 0 <= train(make_net(stem_stride=2), first_images(digits, 64), settings, seed=0).accuracy <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("amp", ["none", "bfloat16", "float16"])
def test_cuda_learns_digits(digits: ImageData, amp: Any) -> None:
    assert train(make_net(), digits, replace(SHORT, epochs=3, device="cuda", amp=amp), seed=0).accuracy > 0.8


def test_cuda_is_refused_where_there_is_none(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NasError, match=r"proxy\.device: cuda is not available"):
        train(make_net(), digits, TrainSettings(device="cuda"), seed=0)


def test_seeded_yields_a_generator_of_that_seed() -> None:
    with seeded(3, torch.device("cpu")) as generator:
        inside = torch.rand(2)
        assert torch.equal(torch.rand(2, generator=generator), inside)


def test_optimizers_exist_in_timm() -> None:
    assert set(OPTIMIZERS) <= set(timm.optim.list_optimizers())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, r"proxy\.epochs 0: must be a whole number of at least 1"),
        ({"epochs": 1.5}, r"proxy\.epochs"),
        ({"batch_size": 1}, r"proxy\.batch_size 1:"),
        ({"lr": 0.0}, r"proxy\.lr 0\.0: must be a number above 0"),
        ({"lr": float("nan")}, r"proxy\.lr nan:"),
        ({"label_smoothing": 1.0}, r"proxy\.label_smoothing 1\.0: .* at least 0 and below 1"),
        ({"warmup_epochs": 9}, r"proxy\.warmup_epochs 9:"),
        ({"optimizer": "adamww"}, r"proxy\.optimizer 'adamww'.*adamw"),
        ({"amp": False}, r"proxy\.amp"),
        ({"ema": 1.0}, r"proxy\.ema 1\.0:"),
    ],
)
def test_invalid_settings_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        TrainSettings(**fields)
