"""What commands print to a console: plain lines and progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas.core.progress import ProgressCallback


def print_lines(console: Console, *lines: str) -> None:
    """Lines as they are, above a bar where there is one."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(console: Console, text: str) -> Iterator[ProgressCallback]:
    """A bar for a task that reports (done, total), from its first report on; one plain line when output is piped."""
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
