"""Zero-cost scorer: proxies, seeds, its batch of images, errors; its settings."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.arch import zoo
from nas.arch.complexity import complexity
from nas.arch.spec import ArchSpec
from nas.core.errors import NasError
from nas.data.images import ImageData
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.estimators.proxy.settings import ProxySettings
from nas.estimators.zero_cost import ZeroCostScorer, ZeroCostSettings
from nas.model.build import build
from nas.training.results import OutOfMemoryError, TrainingError

TINY = ProxySettings(width_multiplier=0.1, resolution_px=8, device="cpu")
ARCH = zoo.get("mobilenetv1_100")


@pytest.fixture
def scorer(digits: ImageData) -> ZeroCostScorer:
    return ZeroCostScorer(data=digits, settings=TINY, largest_kernel=3, seed=0, names=("naswot", "zen"), batch_size=16)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Record model, images and labels of the scores instead of computing them."""
    recorded: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record(model: nn.Module, images: Tensor, labels: Tensor, *_: Any, **__: Any) -> dict[str, float]:
        recorded.append((model, images, labels))
        return {}

    monkeypatch.setattr("nas.estimators.zero_cost.scorer.zero_cost_scores", record)
    return recorded


def test_scores_depend_on_seed_and_network_alone(scorer: ZeroCostScorer) -> None:
    first = dict(scorer.scores(ARCH))
    assert list(first) == ["naswot", "zen"]
    other = dict(scorer.scores(zoo.get("mobilenetv1_050")))
    torch.manual_seed(123)
    expected = torch.rand(1)
    torch.manual_seed(123)
    assert dict(pickle.loads(pickle.dumps(scorer)).scores(ARCH)) == first
    assert torch.rand(1) == expected  # global random state and threads are the caller's
    seeded = dict(replace(scorer, seed=1).scores(ARCH))
    assert all(len({first[name], other[name], seeded[name]}) == 3 for name in first)


def test_networks_are_those_of_proxy_training(
    scorer: ZeroCostScorer, calls: list[tuple[nn.Module, Tensor, Tensor]], digits: ImageData
) -> None:
    scorer = replace(scorer, base_resolution_px=448)
    evaluator = ProxyEvaluator(data=digits, settings=TINY, largest_kernel=3, seed=0, base_resolution_px=448)
    scorer.scores(ARCH)
    ((model, images, labels),) = calls
    proxy = evaluator.proxy(ARCH).spec
    assert images.shape == (16, 1, 4, 4)  # 8 px * 224 / 448
    assert proxy.resolution_px == 4
    assert sum(parameter.numel() for parameter in model.parameters()) == complexity(proxy).params
    assert labels.shape == (16,)


def test_all_networks_get_the_same_different_images(
    scorer: ZeroCostScorer, calls: list[tuple[nn.Module, Tensor, Tensor]], digits: ImageData
) -> None:
    rows = torch.arange(20).repeat(30)
    data = replace(digits, train_images=digits.train_images[rows], train_labels=digits.train_labels[rows])
    scorer = replace(scorer, data=data, settings=replace(TINY, resolution_px=digits.resolution_px))
    scorer.scores(ARCH)
    scorer.scores(zoo.get("mobilenetv1_050"))
    replace(scorer, batch_size=64).scores(ARCH)
    (_, first, labels), (_, second, _), (_, all_images, _) = calls
    assert torch.equal(first, second)
    assert len(torch.unique(first, dim=0)) == len(first) == 16
    assert len(torch.unique(all_images, dim=0)) == len(all_images) == 20
    mean, std = data.mean[0], data.std[0]
    pixels = (first * std + mean) * 255
    match = (pixels[:, None] - data.train_images[:20].float()).abs().amax(dim=(2, 3, 4)) < 1e-3
    assert torch.equal(labels, data.train_labels[match.int().argmax(dim=1)])


def test_errors_name_network_and_settings(scorer: ZeroCostScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(scorer.data, train_images=torch.zeros_like(scorer.data.train_images))
    with pytest.raises(NasError, match=r"^data: all train images are equal"):
        replace(scorer, data=data).scores(ARCH)

    def blank(spec: ArchSpec) -> nn.Module:
        model = build(spec)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        return model

    monkeypatch.setattr("nas.estimators.zero_cost.scorer.build", blank)
    with pytest.raises(TrainingError, match=rf"zero_cost jacob_cov: nan for mobilenetv1_100 \({ARCH.arch_id}\); leave"):
        replace(scorer, names=("jacob_cov",)).scores(ARCH)

    def fail(*_: object) -> nn.Module:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("nas.estimators.zero_cost.scorer.build", fail)
    with pytest.raises(OutOfMemoryError, match=r"out of memory at estimator\.zero_cost_batch_size 16: lower it"):
        scorer.scores(ARCH)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": ("naswt",)}, r"unknown estimator\.zero_cost 'naswt': choose from naswot, .*Did you mean 'naswot'\?"),
        ({"names": ()}, r"estimator\.zero_cost \(\): must be a list of at least one of naswot, synflow"),
        ({"names": "zen"}, r"estimator\.zero_cost 'zen': must be a list"),
        ({"names": ("zen", "zen")}, r"estimator\.zero_cost \['zen', 'zen'\]: must name each score once"),
        ({"batch_size": 1}, r"estimator\.zero_cost_batch_size 1: must be a whole number of at least 2"),
    ],
)
def test_invalid_settings_are_named(scorer: ZeroCostScorer, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        ZeroCostSettings(**fields)
    with pytest.raises(NasError, match=message):
        replace(scorer, **fields)
