"""What a run tells a person: lines, warnings and progress bars; silent in the library unless asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Advance = Callable[[int], None]


class Reporter:
    """Says nothing. The base of :class:`ConsoleReporter`, and the default of library calls."""

    def say(self, text: str) -> None:
        """Tell a fact."""

    def warn(self, text: str) -> None:
        """Tell something that the user should act on."""

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Show a progress bar inside the block; call the yielded function with the number of steps done."""
        yield lambda done: None


class ConsoleReporter(Reporter):
    """Writes to the terminal through ``rich`` (to stderr, so that stdout stays clean for data)."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a line in yellow."""
        self.console.print(f"Warning: {text}", style="yellow", markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Show a bar with the time that is left."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("·"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.update(task, advance=done)
