"""Tests of the loss with a teacher: closed formulas, the paper's limit, settings."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor

from nas.core.errors import NasError
from nas.training.distillation import Distillation, DistillationSettings, soft_target_loss


def test_two_classes_have_the_loss_of_the_formula() -> None:
    # Teacher: softmax([2, 0] / 2) is (p, 1 - p), student: (1/2, 1/2); KL = p ln 2p + (1 - p) ln 2(1 - p), times T^2.
    p = exp(1) / (exp(1) + 1)
    expected = 4 * (p * log(2 * p) + (1 - p) * log(2 * (1 - p)))
    logits, targets = torch.zeros(3, 2), torch.tensor([[2.0, 0.0]]).expand(3, 2)
    assert float(soft_target_loss(logits, targets, 2.0)) == pytest.approx(expected, rel=1e-6)
    assert float(soft_target_loss(targets, targets, 2.0)) == pytest.approx(0, abs=1e-7)


def test_at_a_high_temperature_the_gradient_is_the_difference_of_logits() -> None:
    # arXiv:1503.02531, equation 4, for logits of mean 0: (z - v) / N / T^2, here times T^2, mean over 2 images. The
    # next term of the expansion is smaller by |logit| / T.
    draw = torch.Generator().manual_seed(0)
    logits, targets = (torch.randn(2, 5, generator=draw) for _ in range(2))
    logits, targets = (values - values.mean(1, keepdim=True) for values in (logits, targets))
    logits.requires_grad_()
    soft_target_loss(logits, targets, 500.0).backward()
    torch.testing.assert_close(logits.grad, ((logits - targets) / 5 / 2).detach(), rtol=0.01, atol=1e-3)


class Constant:
    """A teacher with the same outputs for all images."""

    def identity(self) -> list[Any]:
        return ["constant"]

    def targets(self, rows: Tensor, images: Tensor) -> Tensor:
        return torch.tensor([[2.0, 0.0]]).expand(len(rows), 2)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_share_weighs_soft_targets_and_labels(share: float) -> None:
    distillation = Distillation(Constant(), DistillationSettings(temperature=2.0, share=share))
    logits, rows = torch.zeros(3, 2), torch.arange(3)
    soft = float(soft_target_loss(logits, torch.tensor([[2.0, 0.0]]).expand(3, 2), 2.0))
    loss = distillation.loss(torch.tensor(0.7), logits, rows, torch.zeros(3, 1, 4, 4))
    assert float(loss) == pytest.approx((1 - share) * 0.7 + share * soft)
    assert distillation.identity() == ["distillation", 2.0, share, "constant"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0}, r"distillation\.temperature 0: must"),
        ({"share": 1.5}, r"distillation\.share 1\.5: must"),
    ],
)
def test_wrong_settings_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        DistillationSettings(**fields)
