"""The frame around a study's trials: what is left open when it is over."""

from __future__ import annotations

import signal
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from nas.engines import run
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
        prepare_scorer=lambda *_: None,
        progress=lambda *_: nullcontext(SimpleNamespace(on_trial=None)),
    )
    holders = []
    monkeypatch.setattr(RetryingStorage, "close", lambda _: holders.append(lease_holder(search.study)))
    kind: Any = SimpleNamespace(check_sources=lambda *_: None, prepare=lambda *_: session, conclude=lambda *_: None)
    assert run_study(plan, kind, Console()) is False
    assert holders == [None]


@pytest.mark.parametrize("interrupted", [("trials",), ("results",), ("trials", "results"), ("trials", "trials")])
def test_an_interrupt_is_answered_at_once(
    interrupted: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before anything else is done, and what follows is said with it."""
    search, plan = made_search(tmp_path, trials=1), make_plan(small_space(), runs_dir=tmp_path)
    session: Any = SimpleNamespace(
        plan=plan,
        find=lambda: search.study,
        is_complete=lambda _: True,
        total=lambda _: 1,
        prepare_scorer=lambda *_: None,
        progress=lambda *_: nullcontext(),
    )
    answers: list[str] = []

    def interrupt(where: str) -> None:
        for _ in range(interrupted.count(where)):
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                answers.append(capfd.readouterr().out)

    def run_trials(*_: object) -> None:
        try:
            interrupt("trials")
        except KeyboardInterrupt:
            if interrupted.count("trials") > 1:
                interrupt("trials")
            raise

    def conclude(*_: object) -> None:
        with suppress(KeyboardInterrupt):
            interrupt("results")
        answers.append("concluded")

    monkeypatch.setattr(run.trials, "run_local_trials", run_trials)
    kind: Any = SimpleNamespace(check_sources=lambda *_: None, prepare=lambda *_: session, conclude=conclude)
    assert run_study(plan, kind, Console()) is True
    twice = interrupted == ("trials", "trials")
    said = [line for text in answers for line in text.splitlines() if line.startswith("interrupted: ")]
    assert len(said) == len(interrupted)
    for where, line in zip(interrupted, said, strict=True):
        assert ("given back" in line) == (where == "trials" and line is said[0]), line
        assert ("what is not measured or fine-tuned yet is left out" in line) == (where == "results"), line
    assert ("leaving without results" in said[-1]) == twice
    assert (answers[-1] == "concluded") != twice
