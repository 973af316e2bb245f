"""The frame around a study's trials: what is left open when it is over."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from nas.engines.run import run_study
from nas.study.storage.lease import lease_holder
from nas.study.storage.retrying_storage import RetryingStorage
from tests.reporting.dashboard_study import made_search
from tests.study.fakes import make_plan, small_space


def test_a_storage_is_closed_once_its_study_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search, plan = made_search(tmp_path, trials=1), make_plan(small_space(), runs_dir=tmp_path)
    session: Any = SimpleNamespace(
        plan=plan,
        evaluator=search.evaluator,
        find=lambda: search.study,
        is_complete=lambda _: True,
        total=lambda _: 1,
        ask_tell=lambda _: search,
        progress=lambda *_: nullcontext(SimpleNamespace(on_trial=None)),
    )
    holders = []
    monkeypatch.setattr(RetryingStorage, "close", lambda _: holders.append(lease_holder(search.study)))
    kind: Any = SimpleNamespace(prepare=lambda *_: session, conclude=lambda *_: None)
    assert run_study(plan, kind, Console()) is False
    assert holders == [None]
