"""Telling a person how long work is going: a live line on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Protocol

__all__ = ["PlainProgress", "Progress", "Quiet", "TerminalProgress", "progress_for"]

PLAIN_INTERVAL_S = 10.0


class Progress(Protocol):
    """Where steps say what they do."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def advance(self, done: int, total: int | None) -> None:
        """So much of the stage is done."""


class Quiet:
    """Says nothing."""

    def stage(self, text: str) -> None:
        """Says nothing."""

    def advance(self, done: int, total: int | None) -> None:
        """Says nothing."""


class PlainProgress:
    """Lines on standard error: one a stage, and one every ten seconds within a long one."""

    def __init__(self) -> None:
        self._text = ""
        self._said = 0.0

    def stage(self, text: str) -> None:
        """Prints the stage."""
        self._text, self._said = text, monotonic()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def advance(self, done: int, total: int | None) -> None:
        """Prints how far the stage is, at most every ten seconds."""
        if monotonic() - self._said >= PLAIN_INTERVAL_S:
            self._said = monotonic()
            sys.stderr.write(f"{self._text}: {done}{f' of {total}' if total else ''}\n")
            sys.stderr.flush()


class TerminalProgress:
    """One live line a stage, with a bar and a clock."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._task: Any = None

    def stage(self, text: str) -> None:
        """Finishes the line of the last stage and starts another."""
        self.finish()
        self._task = self._live.add_task(text, total=None)

    def advance(self, done: int, total: int | None) -> None:
        """Moves the bar."""
        if self._task is not None:
            self._live.update(self._task, completed=done, total=total)

    def finish(self) -> None:
        """Marks the last stage as done."""
        if self._task is not None:
            task = next(task for task in self._live.tasks if task.id == self._task)
            total = task.total or 1
            self._live.update(self._task, total=total, completed=total)
            self._live.stop_task(self._task)


@contextmanager
def progress_for(quiet: bool = False) -> Iterator[Progress]:
    """The progress that suits standard error: live on a terminal, plain lines otherwise."""
    if quiet:
        yield Quiet()
        return
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Live

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Live(*columns, console=Console(stderr=True)) as live:
        progress = TerminalProgress(live)
        yield progress
        progress.finish()
