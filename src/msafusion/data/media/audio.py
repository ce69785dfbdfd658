"""Sound of a recording, whether a sound file or the track of a video, and its MFCCs."""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from msafusion.data.media.ahead import Heard, heard
from msafusion.data.media.container import (
    ENOUGH,
    SOUNDS,
    VIDEOS,
    decode,
    open_container,
    origin,
    track,
    undecoded_notes,
)
from msafusion.data.media.extraction import WHOLE, Extracted, Extractor, Span, StreamMissing
from msafusion.data.media.headers import left_over, promised_duration
from msafusion.data.media.packets import counts_packets, end_of, state_of
from msafusion.data.media.placing import Placed, at_rate
from msafusion.data.preprocessing import Layout
from msafusion.failures import DataError
from msafusion.streams import check_count, check_option

EXACT = ("wav", "flac", "ogg", "mov,mp4,m4a,3gp,3g2,mj2")
"""Formats that tell where the sound ends, to the sample."""
JITTER = {"avi": math.inf, **dict.fromkeys(("wav", "flac", "mp3", "aac"), 0.1)}
"""Seconds that stamps may be off in formats that have none of the sound: FFmpeg works them out from numbers of bytes
or blocks, in AVI by a header that is often wrong, so that its blocks follow each other whatever they say."""
RUN_UP = 0.5
"""Seconds decoded before what is wanted after a seek."""
BLOCK = 0.1
"""Seconds that codecs may leave out or add at the end."""


def read_audio(file: Path, rate: int, span: Span = WHOLE) -> tuple[np.ndarray, list[str]]:
    """The sound as one channel, the mean of all, cut to the sample and resampled where its rate is another.

    Each decoded block lies where its time stamp says, counted from the recording's start, which is the start of the
    track that begins first; holes are silent. Resampling is librosa's default (soxr_hq), after cutting, as
    `librosa.load` does it; at equal rates samples stay as they are. Of formats that do not tell their length (mp3, ogg,
    MPEG), what is left of a file that was cut off counts as whole.

    Args:
        file: a sound file, or a video with sound, of which the default track is read.
        rate: of the samples returned (Hz).
        span: the part to read; it ends where the sound ends.

    Returns:
        samples: float32 (samples,) in -1 to 1; `round(span.seconds * rate)` of them unless the sound ends earlier.
        notes: what a user should know: tracks that were not read, holes that were filled, rates that change midway.

    Raises:
        StreamMissing: no sound track, or one that ends before the span starts.
        DataError: the file is missing, broken or cut off, its time stamps jump or its samples are not finite.
    """
    with open_container(file) as container:
        stream, notes = track(file, container, "audio")
        wanted, asked = None, span
        if span.seconds is not None:  # as many samples as give those that are wanted
            wanted = round(span.seconds * rate)
            native = stream.rate or rate  # unknown of damaged ones
            asked = Span(span.start, -(-wanted * native // rate) / native)
        end, name = end_of(file, container, stream), container.format.name
        if counts_packets(container, stream):
            sound = _decoded(file, container, stream, asked, end)
        else:
            which = (*state_of(file), stream.index)
            sound = heard(file, which, asked, stream.rate, lambda part: _decoded_anew(file, part, end))
        if sound.ends is None:
            reason = f" ({sound.problems[0]})" if sound.problems else ""
            raise DataError(f"'{file}' has a sound track without samples{reason}; copy or download it again.")
        if JITTER.get(name) == math.inf and not sound.problems:  # nothing lacks but what a cut off file promises
            end = promised_duration(file, container, stream) - origin(container)
        expected = end if asked.seconds is None else min(end, asked.start + asked.seconds)
        missing = expected - sound.ends
        if missing > max(BLOCK, (1 - ENOUGH) * (expected - span.start)) and expected > span.start:
            raise DataError(
                f"'{file}' is cut off or broken: its sound ends after {sound.ends:.2f} s, expected {expected:.2f} s; "
                "copy or download it again."
            )
        samples = at_rate(sound.pieces, rate, wanted)
        if not len(samples):
            raise StreamMissing(
                f"'{file}' has sound of {sound.ends:.2f} s, expected some after {span.start:.2f} s; ask for an "
                "earlier part or record longer."
            )
        if not np.isfinite(samples).all():
            raise DataError(f"'{file}' has samples that are NaN or infinite, expected values from -1 to 1; convert it.")
        if name == "wav" and (seconds := left_over(file)) > BLOCK:
            notes.append(f"{seconds:.2f} s behind the sound are not read, as its header tells a shorter one")
        return samples, [*notes, *sound.notes, *undecoded_notes(sound.problems)]


def _decoded_anew(file: Path, span: Span, end: float) -> Heard:
    with open_container(file) as container:
        return _decoded(file, container, track(file, container, "audio")[0], span, end)


def _decoded(file: Path, container: Any, stream: Any, span: Span, end: float) -> Heard:
    name, problems = container.format.name, list[str]()
    placed = Placed(file, origin(container), span, end if name in EXACT else None, JITTER.get(name))
    placed.add_all(_frames(container, stream, span.start, problems))
    return Heard(span, placed.pieces(), placed.ends, placed.notes(), problems)


def _frames(container: Any, stream: Any, start: float, problems: list[str]) -> Iterator[Any]:
    """Decoded frames from before `start` on: after a seek where that is exact and landed well, else all of them."""
    if start > RUN_UP and counts_packets(container, stream):
        from av.error import FFmpegError

        with suppress(FFmpegError):  # FLAC in large blocks has places that are not found
            container.seek(round((start - RUN_UP + origin(container)) / stream.time_base), stream=stream)
            frames = decode(container, stream, problems)
            first = next(frames, None)
            if first is not None and first.pts is not None and float(first.pts * first.time_base) <= start:
                return chain([first], frames)
        container.seek(0, stream=stream)
    return decode(container, stream, problems)


@dataclass(frozen=True)
class Mfcc(Extractor):
    """Mel-frequency cepstral coefficients, as `librosa.feature.mfcc` computes them.

    Attributes:
        rate: to which sound is resampled (Hz).
        offset: what is left out at the start of a clip, or of a span of it (seconds).
        seconds: how much is taken; shorter sounds get zeros at their end, with a note. None: all up to the end.
        num_coefficients: channels.
        window, hop: length of the analysed frames and distance of their starts (samples).

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from scipy.io import wavfile
        >>> from msafusion.data.media import Mfcc
        >>> with TemporaryDirectory() as folder:
        ...     wavfile.write(f"{folder}/a.wav", 16000, np.zeros(32000, np.int16))
        ...     Mfcc(rate=16000, offset=0.0, seconds=None)(Path(folder, "a.wav")).values.shape
        (63, 13)
    """

    suffixes: ClassVar = (*VIDEOS, *SOUNDS)
    rate: int = 44100
    offset: float = 0.5
    seconds: float | None = 2.45
    num_coefficients: int = 13
    window: int = 2048
    hop: int = 512

    def __post_init__(self) -> None:
        for name in ("rate", "num_coefficients", "window", "hop"):
            check_count(name, getattr(self, name))
        check_option("offset", self.offset, 0.0, math.inf, open_above=True)
        if self.seconds is not None:
            check_option("seconds", self.seconds, 1 / self.rate, math.inf, open_above=True)

    @property
    def layout(self) -> Layout:
        """A map (coefficients, steps) of a fixed time, a sequence (steps, coefficients) of a whole clip."""
        return "sequence" if self.seconds is None else "map"

    @property
    def channels(self) -> int:
        """Coefficients."""
        return self.num_coefficients

    def probe(self, file: Path) -> float | None:
        """The sound's duration (seconds); see `Extractor.probe`."""
        with open_container(file) as container:
            return end_of(file, container, track(file, container, "audio")[0])

    def __call__(self, file: Path, *, span: Span = WHOLE, companion: Path | None = None) -> Extracted:
        """float32 (num_coefficients, 1 + samples // hop), or its transpose for a whole clip; see `Extractor`."""
        seconds, available = self.seconds, None if span.seconds is None else span.seconds - self.offset
        if available is not None and (seconds is None or available < seconds):
            if available <= 0:
                raise DataError(
                    f"'{file}': a span of {span.seconds:.2f} s, expected more than the offset of {self.offset:.2f} s; "
                    "ask for a longer one."
                )
            seconds = available
        samples, notes = read_audio(file, self.rate, Span(span.start + self.offset, seconds))
        wanted = self.window if self.seconds is None else round(self.seconds * self.rate)
        if len(samples) < wanted:
            if wanted - len(samples) > self.rate // 1000:  # less comes of cutting at another rate
                notes.append(f"sound of {len(samples) / self.rate:.2f} s, zeros up to {wanted / self.rate:.2f} s")
            samples = np.pad(samples, (0, wanted - len(samples)))
        if not samples.any():
            notes.append("the sound is silent throughout")
        import librosa  # seconds: it compiles some of its functions

        values = librosa.feature.mfcc(
            y=samples, sr=self.rate, n_mfcc=self.num_coefficients, n_fft=self.window, hop_length=self.hop
        )
        return Extracted(np.ascontiguousarray(values.T if self.seconds is None else values, np.float32), notes)
