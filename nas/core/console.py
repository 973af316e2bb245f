"""Console output of commands: plain lines and progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas.core.progress import ProgressCallback


def print_lines(console: Console, *lines: str) -> None:
    """Print lines verbatim, above an active progress bar if there is one."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(console: Console, text: str) -> Iterator[ProgressCallback]:
    """Context manager of a progress bar; yields a callback ``report(done, total)``.

    The bar appears with the first report. When output is piped, one plain line is printed instead.
    """
    columns = (
        TextColumn(text),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(text, total=None)
    started = False

    def report(done: int, total: int) -> None:
        nonlocal started
        if not started:
            started = True
            progress.start()
            if not console.is_terminal:
                console.print(f"{text} ...", highlight=False, markup=False)
        progress.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        progress.stop()
