"""What all readers of foreign files share: the one line about a broken file, and the bounds on what it may take."""

import errno
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msafusion.failures import DataError
from msafusion.text import one_line

MAX_RATIO, UNSUSPICIOUS = 100, 100_000_000
"""A file that grows more than so many times, to more than so many bytes, is refused."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of the disk that is written to, which say nothing about the file that is read."""
MAX_TEXT = 120
"""Characters of a library's own words that an error repeats."""


@contextmanager
def reading(
    path: Path | str, expected: str, remedy: str = "get it again", refused: type[Exception] = DataError
) -> Iterator[None]:
    """Turn whatever is raised inside into one line that names the file.

    Libraries promise nothing about what a damaged file makes them raise: struct.error, zlib.error, KeyError,
    RecursionError, MemoryError and their own. Errors that are one line already pass, with the file's name added where
    they lack it; so do interrupts, and modules that are not installed.

    Args:
        path: the file.
        expected: what it should be, as "an array".
        remedy: what to do.
        refused: class of the error.

    Raises:
        DataError: or `refused`: the file is not there, is a pipe or device, or cannot be read.
    """
    found = Path(path)
    if found.is_fifo() or found.is_socket() or found.is_char_device() or found.is_block_device():
        raise refused(f"'{path}' is a pipe, socket or device, expected {expected} in a file; save it as one.")
    try:
        yield
    except ModuleNotFoundError:
        raise
    except FileNotFoundError:
        raise refused(f"no file '{path}', expected {expected}; check the path.") from None
    except Exception as error:
        if getattr(error, "errno", None) in NO_ROOM:
            raise
        if type(error).__module__.partition(".")[0] == __name__.partition(".")[0]:  # one of ours: a line already
            kept = type(error) if isinstance(error, refused) or issubclass(refused, type(error)) else refused
            if kept is type(error) and str(path) in str(error):
                raise
            raise kept(str(error) if str(path) in str(error) else f"'{path}': {error}") from None
        raise refused(f"'{path}' cannot be read ({error_text(error)}), expected {expected}; {remedy}.") from None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":  # a panic of a library in Rust; all others are meant for Python
            raise
        raise refused(f"'{path}' cannot be read ({error_text(error)}), expected {expected}; {remedy}.") from None


def error_text(error: BaseException) -> str:
    """A library's words in one short line; of errors whose words mean nothing alone, with their kind."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return f"it is not text in {error.encoding}, at byte {error.start}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "there is not enough memory for what it declares"
    words = one_line(str(error))[:MAX_TEXT]
    plain = isinstance(error, ValueError | OSError | RuntimeError)
    return words if plain and words else f"{type(error).__name__}: {words}" if words else type(error).__name__


def max_size(size: int) -> int:
    """Bytes of memory that a file of `size` bytes may take."""
    return max(UNSUSPICIOUS, MAX_RATIO * size)


def check_size(declared: int, size: int, what: str) -> None:
    """Refuse what a file declares where it goes beyond what its own size makes likely.

    Args:
        declared: bytes that reading would take.
        size: of the file (bytes).
        what: of the file, for the message.

    Raises:
        DataError: it does.
    """
    if declared > max_size(size):
        raise DataError(
            f"{what} would take {declared / 1e9:,.2f} GB from {size:,} bytes, expected at most {MAX_RATIO} times the "
            f"file's size or {UNSUSPICIOUS // 10**6} MB; get the file again, or store it uncompressed."
        )


def check_shape(shape: Sequence[int], itemsize: int, size: int, what: str) -> int:
    """The bytes that an array declares, checked by `check_size`; axes beside an empty one count, too.

    Raises:
        DataError: too many bytes, or no shape that an array can have.
    """
    if any(not isinstance(length, int) or length < 0 for length in shape) or len(shape) > 32:
        raise DataError(f"{what} has the shape {str(tuple(shape))[:80]}, expected lengths from 0; get the file again.")
    check_size(math.prod(length for length in shape if length) * max(1, itemsize), size, what)
    return math.prod(shape) * itemsize


def read_json(path: Path, remedy: str = "get it again", refused: type[Exception] = DataError) -> Any:
    """What a JSON file in UTF-8 holds.

    Raises:
        DataError: or `refused`: it is not there or is not JSON.
    """
    with reading(path, "JSON", remedy, refused):
        return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """What a text in JSON says; Python's own reading takes NaN, and the last of several values of one key.

    Raises:
        ValueError: it is not JSON, or does so.
    """
    return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)


def _no_constant(constant: str) -> None:
    raise ValueError(f"it has no {constant}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key}' occurs twice in one object")
        found[key] = value
    return found
