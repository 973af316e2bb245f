"""Console output of commands: plain lines and progress bars."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from nas.core.formatting import escape_controls
from nas.core.progress import ProgressCallback
from nas.core.streams import write_error


class StudyConsole(Console):
    """The console of a study, which is interrupted when its output is closed."""

    def on_broken_pipe(self) -> None:
        """Be silent from now on, and interrupt the main thread as Ctrl-C does.

        rich would raise ``SystemExit`` wherever the line was printed, amid a trial or in a thread that then ends.
        """
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
        write_error("nobody reads the output any more: interrupted")
        signal.raise_signal(signal.SIGINT)


def plain_text_of(text: str) -> Text:
    """``text`` as rich prints it verbatim: no markup, control characters escaped."""
    return Text(escape_controls(text))


def print_lines(console: Console, *lines: str) -> None:
    """Print lines verbatim, above an active progress bar if there is one."""
    for line in lines:
        console.print(plain_text_of(line), soft_wrap=True)


def label_column(text: str) -> TextColumn:
    """The column of a progress bar that shows ``text`` verbatim."""
    return TextColumn(escape_controls(text).replace("{", "{{").replace("}", "}}"), markup=False)


@contextmanager
def progress_bar(console: Console, text: str) -> Iterator[ProgressCallback]:
    """Context manager of a progress bar; yields a callback ``report(done, total)``.

    The bar appears with the first report. When output is piped, one plain line is printed instead.
    """
    columns = (
        label_column(text),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("", total=None)
    started = False

    def report(done: int, total: int) -> None:
        nonlocal started
        if not started:
            started = True
            progress.start()
            if not console.is_terminal:
                print_lines(console, f"{text} ...")
        progress.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        progress.stop()


@contextmanager
def announced(console: Console, text: str) -> Iterator[None]:
    """Context manager that says what is being done.

    It shows a spinner, or prints one line when output is piped.
    """
    if not console.is_terminal:
        print_lines(console, f"{text} ...")
        yield
        return
    with console.status(plain_text_of(text), spinner="line" if console.options.ascii_only else "dots"):
        yield
