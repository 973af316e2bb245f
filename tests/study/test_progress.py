"""What is said of trials as they end: a count of those that the study is to have, however each of them ended."""

from __future__ import annotations

import io

from rich.console import Console

from nas.study.progress import TrialProgress
from nas.study.trial_record import Outcome, TrialRecord

ROWS = (
    TrialRecord(number=0, outcome=Outcome.TRAINED, accuracy=0.5, latency_ms=2.0),
    TrialRecord(number=1, outcome=Outcome.INFEASIBLE, reason="latency_ms 9 > 4"),
    TrialRecord(number=2, outcome=Outcome.STOPPED, reason="10.0% after epoch 1, behind others there"),
    TrialRecord(number=3, outcome=Outcome.DUPLICATE, accuracy=0.5, reason="same as trial 0"),
    TrialRecord(number=4, outcome=Outcome.FAILED, reason="ValueError: [no] such kernel"),
)


def said_of(*rows: TrialRecord, is_terminal: bool = False) -> str:
    out = io.StringIO()
    with TrialProgress(
        Console(file=out, width=100, force_terminal=is_terminal), lambda row: row.accuracy or 0.0, total=3, done=0
    ) as progress:
        for row in rows:
            progress.on_trial(row)
    return out.getvalue()


def test_a_log_counts_every_trial_that_the_study_is_to_have() -> None:
    assert said_of(*ROWS).splitlines() == [
        "1/3 trial 0: accuracy 50.0% at 2.00 ms",
        "2/3 trial 2: stopped at 10.0% after epoch 1, behind others there",
        "3/3 trial 4 failed: ValueError: [no] such kernel",
    ]


def test_a_terminal_has_failures_beside_its_bar() -> None:
    said = said_of(*ROWS, is_terminal=True)
    assert "trial 4 failed: ValueError: [no] such kernel" in said and "3/3" in said
    assert "stopped at" not in said and "trial 0: accuracy" in said  # the best so far, in the bar
