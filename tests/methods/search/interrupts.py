"""Interrupts of trainings at a chosen point."""

from __future__ import annotations

from typing import Any

import pytest

from nas.training.run import TrainingRun


def interrupt_training(monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    """Epochs of all trainings from now on; in the one at place ``at``, from 1, Ctrl-C."""
    begun: list[int] = []
    original = TrainingRun._train_epoch

    def train_epoch(run: TrainingRun, *hooks: Any) -> float:
        begun.append(run.epoch)
        if len(begun) == at:
            raise KeyboardInterrupt
        return original(run, *hooks)

    monkeypatch.setattr(TrainingRun, "_train_epoch", train_epoch)
    return begun
