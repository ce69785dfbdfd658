"""The boundary around work on one item: whatever it raises becomes one line, so that the other items go on.

`attempt` runs the work, in whatever process; a `TraceLog` keeps the tracebacks of errors that nobody foresaw.
"""

import contextlib
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msafusion.text import one_line, printable

Result = TypeVar("Result")

ENDING = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends the process or the loop rather than one item."""
MAX_SAID = 500
"""Characters of an error's text."""
MAX_CALLS = 50
"""Calls in a traceback that is kept."""


class DataError(ValueError):
    """The data are not what the reader expects; the message says which file, what was expected and what to do."""


@dataclass(frozen=True)
class Failure:
    """Why work on one item failed.

    Attributes:
        line: what, where and what to do.
        trace: the traceback, where the error is of a kind that nobody foresaw; else empty.
    """

    line: str
    trace: str = ""


class TraceLog:
    """A file for tracebacks, made when the first one comes; earlier ones in it are kept."""

    def __init__(self, file: Path | None = None) -> None:
        """Args: file: None: a new one in the folder for temporary files."""
        self.file = file

    def line(self, failure: Failure) -> str:
        """The line of a failure; the traceback, if there is one, goes into the file, which the line names."""
        if not failure.trace:
            return failure.line
        entry = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {failure.line}\n{failure.trace}\n"
        for file in (self.file, _temporary()):
            with contextlib.suppress(OSError):  # a full or read-only folder
                if file is not None and not file.is_symlink():  # which would lead somewhere else
                    with file.open("a", encoding="utf-8", errors="backslashreplace") as opened:
                        opened.write(entry)
                    self.file = file
                    return f"{failure.line} The traceback is in '{file}'."
        return failure.line


def attempt(work: Callable[[], Result], files: Iterable[Path | str] = ()) -> Result | Failure:
    """The result of work on one item, or why it failed.

    Args:
        work: may raise anything; only what ends the whole process passes (Ctrl-C, an exit).
        files: of the item; the line names them where the error does not name one.
    """
    try:
        return work()
    except ENDING:
        raise
    except BaseException as error:  # panics of libraries in Rust are not an Exception
        return failure_of(error, files)


def failure_of(error: BaseException, files: Iterable[Path | str] = ()) -> Failure:
    """What an error says, in one line.

    Args:
        error: foreseen are what this package raises as ValueError, the system's errors about files, and a lack of
            memory.
        files: what was being worked on.
    """
    named = [*dict.fromkeys(map(str, files))]
    paths = [file.partition("#")[0] for file in named]  # `#key` is an array in a file
    said = one_line(str(error), [*named, *paths, *(Path(path).name for path in paths)])
    if len(said) > MAX_SAID:
        said = said[:MAX_SAID] + " ..."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        why = f" ({said})" if said else ""
        return Failure(_named(f"not enough memory{why}; free some, or run fewer things at once.", named))
    cause, file = getattr(error, "strerror", None), getattr(error, "filename", None)
    if cause:  # of the system, or of FFmpeg
        return Failure(_named(f"'{printable(str(file))}': {cause}; check it." if file else f"{said}; check it.", named))
    if said and _foreseen(error):
        return Failure(_named(said, named))
    places = traceback.extract_tb(error.__traceback__, limit=-1)
    if places and "/torch/distributed/" in Path(places[-1].filename).as_posix():  # a collective got no answer
        return Failure(
            "another process of this run ended or cannot be reached; see what it said, and start the command again "
            f"(`train --resume` continues from where it was). Here: {said}"
        )
    where = f" in {Path(places[-1].filename).name}, line {places[-1].lineno}" if places else ""
    line = f"unexpected {type(error).__name__}{where} ({said or 'without a text'}); please report it."
    # a RecursionError has a thousand calls, of which the last say enough
    return Failure(_named(line, named), "".join(traceback.format_exception(error, limit=-MAX_CALLS)))


def _foreseen(error: BaseException) -> bool:
    if not isinstance(error, ValueError) or isinstance(error, UnicodeError):
        return False
    calls = traceback.extract_tb(error.__traceback__, limit=-1)
    ours = bool(calls) and Path(calls[0].filename).is_relative_to(Path(__file__).parent)
    return ours or type(error).__module__.partition(".")[0] == __name__.partition(".")[0]


def _named(line: str, files: Sequence[str]) -> str:
    """The line, with the files before it where it names none of them."""
    paths = [printable(file.partition("#")[0]) for file in files]
    if not files or any(f"'{path}" in line or f"{Path(path).name}'" in line for path in paths):
        return line
    return ", ".join(f"'{printable(file)}'" for file in files) + f": {line}"


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"msafusion-{time.strftime('%Y%m%d-%H%M%S')}.log"
