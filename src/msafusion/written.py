"""What people and programs write in tables: numbers, and names that look alike; and notes on what was changed."""

import logging
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

log = logging.getLogger(__name__)

PLAIN = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
"""A number as people write it."""
SCIENTIFIC = re.compile(PLAIN.pattern + r"([eE][+-]?[0-9]+)?")
"""A number as programs may write it, too."""
INVISIBLE = dict.fromkeys(map(ord, "\N{ZERO WIDTH SPACE}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}\N{SOFT HYPHEN}"))

_said: set[str] = set()


def note(text: str) -> None:
    """Say once in this process what was left out, guessed or changed."""
    if text not in _said:
        _said.add(text)
        log.warning("%s", text)


def number(text: str, pattern: re.Pattern[str] = SCIENTIFIC) -> float | None:
    """The finite number that a text is; None: it is something else (such as `1_0`, which Python would take for 10)."""
    if not pattern.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def clean(text: str) -> str:
    """A name without blanks around it, with one plain blank for each run of blanks, and composed (NFC) characters."""
    return " ".join(unicodedata.normalize("NFC", text).translate(INVISIBLE).split())


def cleaned(texts: Sequence[str], where: str) -> list[str]:
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
        folded = unicodedata.normalize("NFKC", name).casefold() if value is None else repr(value)
        if (other := seen.setdefault(folded, name)) != name:
            note(f"{where}: '{other}' and '{name}' are taken for two; write them alike if they are one.")
