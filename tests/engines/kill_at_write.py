"""A command that is killed in the middle of a training."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from nas.arch.spec import ArchSpec
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.training.results import EpochResult


def kill_at_write(fatal: int, command: Callable[[list[str]], object], arguments: list[str]) -> None:
    """Run ``command``, and die by SIGKILL when its training number ``fatal``, from 1, has an epoch."""
    real, trainings = ProxyEvaluator.evaluate, itertools.count(1)

    def evaluate(
        self: ProxyEvaluator, arch: ArchSpec, *, on_epoch: Callable[[EpochResult], None], **how: Any
    ) -> Evaluation:
        is_fatal = next(trainings) == fatal

        def after(epoch: EpochResult) -> None:
            on_epoch(epoch)
            if is_fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        return real(self, arch, on_epoch=after, **how)

    ProxyEvaluator.evaluate = evaluate  # type: ignore[method-assign]
    command(arguments)
