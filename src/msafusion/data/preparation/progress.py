"""How far a long job is: a bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

SECONDS_BETWEEN_LINES = 10.0


class Tell(Protocol):
    """Called after every item."""

    def __call__(self, done: int, total: int, failed: int = 0) -> None:
        """Items done (failed ones included), items in all, items that failed."""
        ...


@contextmanager
def progress_on(console: Any, what: str) -> Iterator[Tell]:
    """Show how far `what` is.

    Args:
        console: rich's Console; None shows nothing.
        what: the job, such as "preparing".
    """
    if console is None:
        yield _silent
    elif console.is_terminal:
        with _bar(console, what) as tell:
            yield tell
    else:
        yield _Lines(console, what)


def _silent(done: int, total: int, failed: int = 0) -> None:
    pass


@contextmanager
def _bar(console: Any, what: str) -> Iterator[Tell]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
    start = time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(what, total=None, facts="")

        def tell(done: int, total: int, failed: int = 0) -> None:
            rate = done / (time.perf_counter() - start)
            progress.update(task, completed=done, total=total, facts=f"{failed} failed, {rate:.1f}/s")

        yield tell


class _Lines:
    def __init__(self, console: Any, what: str) -> None:
        self.console, self.what = console, what
        self.start = self.last = time.perf_counter()

    def __call__(self, done: int, total: int, failed: int = 0) -> None:
        now = time.perf_counter()
        if now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last, rate = now, done / (now - self.start)
        minutes, seconds = divmod(round((total - done) / rate), 60)
        self.console.print(
            f"{self.what}: {done}/{total}, {failed} failed, {rate:.1f}/s, {minutes}:{seconds:02} left", highlight=False
        )
