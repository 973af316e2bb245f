"""A command that is killed: ``python -m tests.engines.kill_at_write 2 nas.search ...`` in the second training."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from nas.arch.spec import ArchSpec
from nas.estimators.proxy.evaluator import Evaluation, ProxyEvaluator
from nas.training.results import EpochResult


def main(fatal: int, module: str, arguments: list[str]) -> None:
    """Run the command of ``module``, and die by SIGKILL when its training number ``fatal``, from 1, has an epoch."""
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
    import_module(module).command(arguments)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
