"""Decoded sound on the recording's time line: each block where its time stamp says, silence where there is none."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msafusion.data.media.container import JUMP, joined_error
from msafusion.data.media.extraction import Span
from msafusion.failures import DataError

FULL_SCALE = {"uint8": 128.0, "int16": 2.0**15, "int32": 2.0**31, "int64": 2.0**63}
JITTER = 0.015
"""Seconds that a time stamp may be off without a hole or an overlap: less than half a frame of 30 a second."""
PLANES_OF_FRAME = 8
"""FFmpeg keeps so many in a frame itself; PyAV looks for one that is not there behind the last."""
MAX_HOLE = 600.0
"""Seconds of silence that are filled in at most."""
FASTEST = 192_000
"""Hz, of sound; of higher rates fewer seconds are filled in."""
MAX_UPSAMPLED = 50
"""Times that a sample rate is raised at most: few samples, of which each stands for thousands, are no sound."""


@dataclass(frozen=True)
class Piece:
    """Sound of one sample rate: float32 (samples,), the mean of the channels."""

    rate: int
    samples: np.ndarray


class Placed:
    """The sound of a span, block by block.

    Args:
        file: for errors.
        zero: the recording's time 0 on the time stamps (seconds).
        span: the part that is kept.
        end: where the sound ends, if that is known to the sample (seconds): what codecs add behind is cut.
        jitter: seconds that time stamps may be off where a format has none of its own and they are worked out; None:
            they are its own.

    Attributes:
        ends: where the sound that was added ends (seconds); None: none was.
    """

    def __init__(self, file: Path, zero: float, span: Span, end: float | None, jitter: float | None = None) -> None:
        self.file, self.zero, self.span, self.end = file, zero, span, end
        self.jitter, self.worked_out = JITTER if jitter is None else jitter, jitter is not None
        self.rate, self.position, self.channels = 0, 0, set[int]()
        self.ends: float | None = None
        self._parts: list[tuple[int, list[np.ndarray]]] = []
        self._holes, self._overlaps, self._alone = list[float](), list[float](), 0

    def add_all(self, frames: Iterable[Any]) -> None:
        """Lay decoded frames down until the span is full.

        Raises:
            DataError: their time stamps jump.
        """
        for frame, following in _pairs(frames):
            self._at_rate(frame.sample_rate)
            at = self._stamp(frame)
            if at is None:
                at = self.position
            elif self.ends is not None and self._off(at) and self._lone(frame, following):
                at, self._alone = self.position, self._alone + 1
            self._lay(frame, at)
            first, last = self._bounds()
            if last is not None and self.position >= max(last, first):
                return

    def pieces(self) -> list[Piece]:
        """The sound, in order; of several sample rates only where the rate changes midway."""
        joined = [(rate, np.concatenate(parts)) for rate, parts in self._parts if parts]
        return [Piece(rate, samples) for rate, samples in joined if len(samples)]

    def notes(self) -> list[str]:
        """What was filled in, left out or changes midway."""
        notes = []
        for what, done, found in (
            ("hole", "filled with silence", self._holes),
            ("overlap", "cut", self._overlaps),
        ):
            if found:
                several = f"{len(found)} {what}s" if len(found) > 1 else f"1 {what}"
                notes.append(f"{several} of {sum(found):.2f} s in the sound's time stamps, {done}")
        if self._alone:
            notes.append(f"{self._alone} of the sound's time stamps passed over, the ones behind do not follow them")
        if len(self._parts) > 1:
            rates = ", ".join(str(rate) for rate, _ in self._parts)
            notes.append(f"the sample rate changes midway ({rates} Hz), each part is resampled")
        if len(self.channels) > 1:
            notes.append(f"the number of channels changes midway ({', '.join(map(str, sorted(self.channels)))})")
        return notes

    def _at_rate(self, rate: int) -> None:
        if rate != self.rate:
            if self.rate and self.worked_out:  # they were counted at the first rate
                self.jitter = math.inf
            self.position = round(self.position * rate / self.rate) if self.rate else 0
            self.rate = rate
            self._parts.append((rate, []))

    def _bounds(self) -> tuple[int, int | None]:
        """The samples that are kept, at the present rate."""
        first = round(self.span.start * self.rate)
        last = None if self.span.seconds is None else first + round(self.span.seconds * self.rate)
        if self.end is not None:
            total = round(self.end * self.rate)
            last = total if last is None else min(last, total)
        return first, last

    def _stamp(self, frame: Any) -> int | None:
        return None if frame.pts is None else round((float(frame.pts * frame.time_base) - self.zero) * self.rate)

    def _off(self, at: int) -> bool:
        return abs(at - self.position) > self.jitter * self.rate

    def _lone(self, frame: Any, following: Any) -> bool:
        """Whether the next time stamp does not follow this one, but the sound before it."""
        at = None if following is None or following.sample_rate != self.rate else self._stamp(following)
        return at is not None and not self._off(at - frame.samples)

    def _lay(self, frame: Any, at: int) -> None:
        skip = 0
        if self.ends is None:  # it may start before or after the pictures do
            self.position = min(at, 0)
            self._silence(max(at, 0))
            self.position = at
        elif self._off(at):
            seconds = (at - self.position) / self.rate
            if seconds < -JUMP:
                raise joined_error(self.file, "sound", self.position / self.rate, at / self.rate)
            if seconds > 0:
                self._silence(at)
                self._holes.append(seconds)
            else:
                skip = min(self.position - at, frame.samples)
                self._overlaps.append(skip / self.rate)
        first, last = self._bounds()
        begin, stop = self.position, self.position + frame.samples - skip
        if stop > first and (last is None or begin < last):
            values = mean(frame)[skip:]
            self._parts[-1][1].append(values[max(0, first - begin) : None if last is None else last - begin])
        self.channels.add(len(frame.layout.channels))
        self.position = stop
        self.ends = stop / self.rate

    def _silence(self, up_to: int) -> None:
        first, last = self._bounds()
        begin, stop = max(self.position, first), up_to if last is None else min(up_to, last)
        if stop - begin > MAX_HOLE * min(self.rate, FASTEST):
            raise joined_error(self.file, "sound", self.position / self.rate, up_to / self.rate)
        self._parts[-1][1].append(np.zeros(max(0, stop - begin), np.float32))
        self.position = up_to


def _pairs(frames: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each frame with the one behind it, None for the last."""
    before = None
    for frame in frames:
        if before is not None:
            yield before, frame
        before = frame
    if before is not None:
        yield before, None


def mean(frame: Any) -> np.ndarray:
    """float32 (samples,) of one decoded frame; integers are divided by 2 to the power of their bits less one."""
    if frame.format.is_planar and len(frame.layout.channels) >= PLANES_OF_FRAME:
        frame = _packed(frame)
    values = frame.to_ndarray()
    scale = FULL_SCALE.get(values.dtype.name)
    channels = len(frame.layout.channels)
    values = values.astype(np.float32 if scale is None or values.dtype.itemsize < 4 else np.float64)
    if scale is not None:
        values = values / scale - (1.0 if frame.format.name.startswith("u8") else 0.0)
    values = values if frame.format.is_planar else values.reshape(-1, channels).T
    return (values[0] if channels == 1 else values.mean(axis=0)).astype(np.float32)


def _packed(frame: Any) -> Any:
    """The frame with its channels in one plane: of eight planes or more PyAV (18.1) reads some that are not there."""
    import av

    return av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate).resample(frame)[0]


def at_rate(pieces: list[Piece], rate: int, wanted: int | None) -> np.ndarray:
    """The pieces as one sound of one rate, by librosa's default (soxr_hq); at equal rates samples stay as they are.

    Raises:
        DataError: a rate is far below the wanted one.
    """
    if slow := next((piece.rate for piece in pieces if piece.rate * MAX_UPSAMPLED < rate), None):
        raise DataError(
            f"the sound has {slow:,} samples a second, expected at least {-(-rate // MAX_UPSAMPLED):,} to make "
            f"{rate:,} of them; convert it first."
        )
    parts = [piece.samples if piece.rate == rate else _resampled(piece, rate) for piece in pieces]
    return np.concatenate(parts)[:wanted] if parts else np.zeros(0, np.float32)


def _resampled(piece: Piece, rate: int) -> np.ndarray:
    import librosa

    count = -(-len(piece.samples) * rate // piece.rate)  # librosa's may be one more, of floating point
    return librosa.resample(piece.samples, orig_sr=piece.rate, target_sr=rate, res_type="soxr_hq")[:count]
