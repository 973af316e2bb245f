"""A search of which one worker process is killed in the middle of a training, however fast the machine is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from nas.arch.spec import ArchSpec
from nas.estimators.base import Evaluation
from nas.estimators.proxy.evaluator import ProxyEvaluator
from nas.methods.search.kind import SearchKind
from nas.methods.search.session import SearchSession
from nas.training.results import EpochResult


@dataclass(frozen=True, slots=True, kw_only=True)
class FatalEvaluator(ProxyEvaluator):
    """Kills its process by SIGKILL after the first epoch of a training; only the first to make ``marker`` does so."""

    marker: Path

    def evaluate(
        self, arch: ArchSpec, *, repeat: int = 0, on_epoch: Callable[[EpochResult], None] | None = None
    ) -> Evaluation:
        def after(result: EpochResult) -> None:
            if on_epoch:
                on_epoch(result)
            if result.epoch == 1 and _is_first(self.marker):
                os.kill(os.getpid(), signal.SIGKILL)

        return ProxyEvaluator.evaluate(self, arch, repeat=repeat, on_epoch=after)


class FatalSearch(SearchKind):
    """A search whose workers have ``FatalEvaluator``."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def prepare(self, plan: Any, console: Console) -> SearchSession:
        session = super().prepare(plan, console)
        assert isinstance(session, SearchSession)
        known = {field.name: getattr(session.evaluator, field.name) for field in fields(ProxyEvaluator)}
        return replace(session, evaluator=FatalEvaluator(**known, marker=self.marker))


def _is_first(marker: Path) -> bool:
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
