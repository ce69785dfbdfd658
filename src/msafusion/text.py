"""What people and programs write in tables: numbers, and names that look alike; and notes on what was changed."""

import logging
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

log = logging.getLogger(__name__)

PLAIN = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
"""A number as people write it."""
SCIENTIFIC = re.compile(PLAIN.pattern + r"([eE][+-]?[0-9]+)?")
"""A number as programs may write it, too."""
INVISIBLE = dict.fromkeys(map(ord, "\N{ZERO WIDTH SPACE}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}\N{SOFT HYPHEN}"))
MISSING = {"nan", "NaN", "NaT", "NA", "N/A", "#N/A", "<NA>", "None", "NULL", "null"}
"""What programs write where a value is missing; each may be a name, too."""

BREAK = re.compile(r"\s*[\n\r\v\f\t\x1c-\x1e\x85\u2028\u2029]\s*")
"""What begins another line, or a column, with the blanks around it."""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that control a terminal, change the writing direction or begin a line, and halves of characters."""

_said: set[str] = set()


def printable(name: str) -> str:
    """A name with a backslash form for whatever would break a line or steer a terminal."""
    return CONTROL.sub(lambda letter: letter[0].encode("unicode_escape").decode(), name)


def one_line(text: str, names: Iterable[str] = ()) -> str:
    """A text as one line of what can be printed.

    Args:
        text: of a library maybe, whose lines are put behind each other.
        names: of files in it, which are `printable`: their line breaks count.
    """
    for name in names:
        if name and printable(name) != name:
            text = text.replace(name, printable(name))
    return printable(BREAK.sub(" ", text).strip())


def note(text: str) -> None:
    """Say once in this process what was left out, guessed or changed."""
    text = one_line(text)
    if text not in _said:
        _said.add(text)
        log.warning("%s", text)


def number(text: str, pattern: re.Pattern[str] = SCIENTIFIC) -> float | None:
    """The finite number that a text is; None: it is something else (such as `1_0`, which Python would take for 10)."""
    if not pattern.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def texts_of(values: Iterable[Any]) -> list[str]:
    """Values of a column as text, as Python writes them (0.0 stays "0.0"); empty where missing (None, NaN).

    Raises:
        ValueError: one has no text of its own: a list, a mapping, a complex number, bytes that are not UTF-8. What
            Python would write for these is neither a name nor a number.
    """
    texts = []
    for row, value in enumerate(values, start=1):
        try:
            texts.append(_text_of(value))
        except UnicodeDecodeError:
            raise ValueError(f"row {row} holds {value[:40]!r}, expected text in UTF-8; write it as such") from None
        except TypeError:
            raise ValueError(
                f"row {row} holds {str(value)[:40]}, expected a number or a string; store one value per row"
            ) from None
    return texts


def _text_of(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, complex | list | tuple | dict | set):
        raise TypeError
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def note_missing(names: Iterable[str], where: str) -> None:
    """Note a name that may stand for a missing value; it stays a name."""
    for name in sorted(MISSING & set(names)):
        note(f"{where}: '{name}' is taken for a name; leave it empty where it stands for a missing value.")


def clean(text: str) -> str:
    """A name without blanks around it, with one plain blank for each run of blanks, and composed (NFC) characters."""
    return " ".join(unicodedata.normalize("NFC", text).translate(INVISIBLE).split())


def clean_all(texts: Sequence[str], where: str) -> list[str]:
    """Names, each `clean`; a note says how many were changed.

    Args:
        texts: as they are written.
        where: file and column, for the note.
    """
    names = [clean(text) for text in texts]
    if changed := [text for text, name in zip(texts, names, strict=True) if text != name]:
        note(f"{where}: {len(changed)} of {len(texts)} entries lost blanks or invisible characters, as {changed[0]!r}.")
    return names


def alike(names: Iterable[str], where: str) -> None:
    """Note names that differ only in case, width or form, or as numbers in how they are written; they stay apart."""
    seen: dict[str, str] = {}
    for name in sorted(set(names)):
        value = number(name, PLAIN)
        folded = unicodedata.normalize("NFKC", name).casefold() if value is None else repr(value + 0.0)  # -0.0 is 0.0
        if (other := seen.setdefault(folded, name)) != name:
            note(f"{where}: '{other}' and '{name}' are taken for two; write them alike if they are one.")
