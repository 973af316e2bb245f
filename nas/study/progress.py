"""Progress of a running study: a bar, or plain lines when output is piped.

The bar shows the best so far and the time left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nas.arch.heads.task_scores import TASK_SCORES
from nas.core.console import print_lines
from nas.core.formatting import escape_controls, percent
from nas.study.trial_record import COUNTED, Outcome, TrialRecord

_WITH_ACCURACY: Final = (Outcome.TRAINED, Outcome.SCORED)


class TrialProgress:
    """Progress of a study, updated record by record.

    ``done`` of ``total`` trials may have ended before.

    The best row has the highest ``score``; ``describe`` puts a trained row into a few words. ``best``: what the bar
    calls that row.
    """

    def __init__(
        self,
        console: Console,
        score: Callable[[TrialRecord], float],
        describe: Callable[[TrialRecord], str] | None = None,
        *,
        total: int,
        done: int,
        best: str = "best",
    ) -> None:
        self._console = console
        self._score = score
        self._describe = describe or accuracy_at_latency
        self._total = total
        self._done = done
        self._turned_down = 0
        self._best: TrialRecord | None = None
        self._best_word = best
        self._bar = Progress(
            TextColumn("trials"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> TrialProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_trial(self, row: TrialRecord) -> None:
        """Show one more candidate."""
        if row.outcome in COUNTED:
            self._done += 1
            self._total = max(self._total, self._done)  # which is an estimate where trials depend on results
        else:
            self._turned_down += 1
        if row.outcome in _WITH_ACCURACY and (self._best is None or self._score(row) > self._score(self._best)):
            self._best = row
        self._bar.update(self._task, total=self._total, completed=self._done, description=self._summary())
        if row.outcome not in COUNTED:
            return
        if not self._console.is_terminal:
            self.say(f"{self._done}/{self._total} {self._line(row)}")
        elif row.outcome is Outcome.FAILED:  # the bar says all else
            self.say(self._line(row))

    def say(self, text: str) -> None:
        """Print a line beside the bar."""
        print_lines(self._console, text)

    def _line(self, row: TrialRecord) -> str:
        if row.outcome in _WITH_ACCURACY:
            return self._describe(row)
        if row.outcome is Outcome.STOPPED:
            return f"trial {row.number}: stopped at {row.reason}"
        return f"trial {row.number} failed: {row.reason}"

    def _summary(self) -> str:
        best = f"{self._best_word} {self._describe(self._best)}" if self._best else "no result yet"
        return escape_controls(best) + (f", {self._turned_down} screened out" if self._turned_down else "")


def accuracy_at_latency(row: TrialRecord) -> str:
    """A trained or scored row in a few words."""
    accuracy = percent(row.ranked_accuracy or 0, row.ranked_error, digits=1)
    name = TASK_SCORES[row.task].name
    kind = f"estimated {name}" if row.accuracy is None else name
    return f"trial {row.number}{f' ({row.role})' if row.role else ''}: {kind} {accuracy} at {row.latency_ms:.2f} ms"
