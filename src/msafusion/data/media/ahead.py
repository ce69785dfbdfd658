"""Sound of a span, decoded beyond its end where decoding begins at the file's start, for the spans that follow."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from msafusion.data.media.extraction import Span
from msafusion.data.media.placing import Piece
from msafusion.failures import DataError

MIN_START = 10.0
"""Seconds; what lies before is decoded soon enough."""
MAX_SAMPLES = 2**24
"""Of one track that are kept, 64 MiB; five minutes at 48 kHz."""
MAX_TRACKS = 2


@dataclass(frozen=True)
class Heard:
    """The sound of a span.

    Attributes:
        span: what was asked for.
        pieces: of one sample rate each.
        ends: where the sound ends of what was decoded (seconds); None: there was none.
        notes: what was filled in or left out.
        problems: of packets that could not be decoded.
    """

    span: Span
    pieces: list[Piece]
    ends: float | None
    notes: list[str]
    problems: list[str]

    @property
    def plain(self) -> bool:
        """Nothing in it depends on how much was decoded."""
        return len(self.pieces) == 1 and not self.notes and not self.problems

    def part(self, span: Span) -> "Heard | None":
        """The sound of a shorter span, sample by sample what decoding that one alone gives; None: it is not in here."""
        mine, theirs = self.span.seconds, span.seconds
        if mine is None or theirs is None or span.start < self.span.start:
            return None
        if span.start + theirs > self.span.start + mine:
            return None
        (piece,) = self.pieces
        first = round(span.start * piece.rate) - round(self.span.start * piece.rate)
        samples = piece.samples[first : first + round(theirs * piece.rate)]
        return replace(self, span=span, pieces=[Piece(piece.rate, samples)] if len(samples) else [])


_kept: OrderedDict[tuple[object, ...], Heard | None] = OrderedDict()
"""Track -> what was last decoded of it; None: it has holes or damage, which are told span by span."""


def heard(file: Path, track: tuple[object, ...], span: Span, rate: int, decode: Callable[[Span], Heard]) -> Heard:
    """The sound of a span, of what is kept or decoded now.

    Windows of a long recording are asked for one after the other; decoding from the start for each takes a time that
    grows with the square of its length.

    Args:
        file: the recording.
        track: tells its tracks, and another state of the file, apart.
        span: what is wanted.
        rate: of the track (Hz).
        decode: decodes a span from the file's start.

    Raises:
        DataError: what `decode` raises for that span.
    """
    key = (file, *track)
    if span.seconds is None or span.start < MIN_START or (key in _kept and _kept[key] is None):
        return decode(span)
    if (known := _kept.get(key)) is not None and (part := known.part(span)) is not None:
        _kept.move_to_end(key)
        return part
    wide = replace(span, seconds=span.seconds + min(span.start, MAX_SAMPLES / max(rate, 1)))
    try:
        found = decode(wide)
    except DataError:  # behind the span maybe
        found = None
    _kept[key] = found if found is not None and found.plain else None
    while len(_kept) > MAX_TRACKS:
        _kept.popitem(last=False)
    part = found.part(span) if found is not None and found.plain else None
    return decode(span) if part is None else part
