"""How far long work is, on stderr: a line that keeps changing on a terminal, lines one below the other elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from autogroup.errors import printable
from autogroup.progress import Progress, silent


@contextmanager
def shown(wanted: bool | None, title: str) -> Generator[Progress]:
    """Yield the function to call while the work in the block goes on; nothing of it is left on a terminal.

    Args:
        wanted: whether to show anything; ``None``: only if stderr is a terminal.
        title: what is being worked on.

    Example:
        >>> with shown(False, "net.pt2") as progress:
        ...     progress("analyze", 0, 1)
    """
    on_terminal = sys.stderr.isatty()
    if wanted is False or (wanted is None and not on_terminal):
        yield silent
    elif on_terminal:
        with _line(title) as progress:
            yield progress
    else:
        yield _Lines(title)


class _Lines:
    """Writes a line whenever something else is being done, for a log."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.last = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.last:
            count = f" ({done} of {total})" if total > 1 else ""
            print(printable(f"{self.title}: {stage}{count}"), file=sys.stderr, flush=True)
            self.last = stage


@contextmanager
def _line(title: str) -> Generator[Progress]:
    """Draw one line on the terminal, a few times a second, from a thread of its own."""
    # Imported here: where nothing is shown, nothing needs it.
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Display
    from rich.table import Column

    from autogroup.render.console import PipeConsole

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
    )
    console = PipeConsole(stderr=True, highlight=False, markup=False, emoji=False)
    display = Display(*columns, console=console, transient=True, refresh_per_second=5, redirect_stdout=False)
    task = display.add_task(title, total=None, count="")

    def progress(stage: str, done: int, total: int) -> None:
        counts = total > 1
        count = f"{done} of {total}" if counts else ""
        # Without a total the bar moves to and fro.
        display.update(
            task, description=f"{title}: {stage}", completed=done, total=total if counts else None, count=count
        )

    with display:
        yield progress
