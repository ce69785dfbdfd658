"""Sound of a recording, whether a sound file or the track of a video, and its MFCCs."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from msafusion.media.container import ENOUGH, SOUNDS, VIDEOS, decoded, end_of, opened, origin, undecoded
from msafusion.media.extraction import WHOLE, Extracted, Extractor, Span, StreamMissing
from msafusion.preprocessing import DataError, Layout
from msafusion.streams import check_count, check_option

SEEKABLE = ("wav", "flac")
"""Formats in which any part decodes to what the whole has there. All others are decoded from their start: AAC's decoder
makes up noise, other noise after a seek. Ten minutes of AAC take about a second."""
EXACT = (*SEEKABLE, "mov,mp4,m4a,3gp,3g2,mj2")
"""Formats that tell where the sound ends, to the sample."""
RUN_UP = 0.5
"""Seconds decoded before what is wanted, until codecs that carry over from block to block give what they always do."""
FULL_SCALE = {"uint8": 128.0, "int16": 2.0**15, "int32": 2.0**31, "int64": 2.0**63}


def read_audio(file: Path, rate: int, span: Span = WHOLE) -> tuple[np.ndarray, list[str]]:
    """The sound as one channel, the mean of all, cut to the sample and resampled where its rate is another.

    Resampling is librosa's default (soxr_hq), after cutting, as `librosa.load` does it; at equal rates samples stay as
    they are. Of formats that do not tell their length (mp3, ogg, MPEG), what is left of a file that was cut off counts
    as whole.

    Args:
        file: a sound file, or a video with sound.
        rate: of the samples returned (Hz).
        span: the part to read; it ends where the sound ends.

    Returns:
        samples: float32 (samples,) in -1 to 1; `round(span.seconds * rate)` of them unless the sound ends earlier.
        notes: what a user should know.

    Raises:
        StreamMissing: no sound track, or one that ends before the span starts.
        DataError: the file is missing, broken or cut off.
    """
    with opened(file) as container:
        if not container.streams.audio:
            raise StreamMissing(f"'{file}' has no sound track, expected one; give a recording with sound.")
        stream: Any = container.streams.audio[0]
        first = round(span.start * stream.rate)
        last = None if span.seconds is None else first + round(span.seconds * stream.rate)
        if container.format.name in EXACT:  # codecs of blocks add silence behind the end
            total = round(end_of(file, container, stream) * stream.rate)
            last = total if last is None else min(last, total)
        if container.format.name in SEEKABLE and span.start > RUN_UP:
            container.seek(round((span.start - RUN_UP + origin(container)) / stream.time_base), stream=stream)
        problems: list[str] = []
        samples, ends = _cut(container, stream, first, last, problems)
        if ends == 0:
            reason = f" ({problems[0]})" if problems else ""
            raise DataError(f"'{file}' has a sound track without samples{reason}; copy or download it again.")
        if last is None or ends < last:
            expected = round(end_of(file, container, stream) * stream.rate)
            expected = expected if last is None else min(expected, last)
            if first < expected and expected - ends > (1 - ENOUGH) * (expected - first):
                raise DataError(
                    f"'{file}' is cut off or broken: its sound ends after {ends / stream.rate:.2f} s, expected "
                    f"{expected / stream.rate:.2f} s; copy or download it again."
                )
        if not len(samples):
            raise StreamMissing(
                f"'{file}' has sound of {ends / stream.rate:.2f} s, expected some after {span.start:.2f} s; ask for an "
                "earlier part or record longer."
            )
        if stream.rate != rate:
            import librosa

            count = -(-len(samples) * rate // stream.rate)  # librosa's may be one more, of floating point
            samples = librosa.resample(samples, orig_sr=stream.rate, target_sr=rate, res_type="soxr_hq")[:count]
        return samples, undecoded(problems)


def _cut(container: Any, stream: Any, first: int, last: int | None, problems: list[str]) -> tuple[np.ndarray, int]:
    """Samples `first` to `last` of the recording, the mean of the channels, and the number of that where it ended."""
    parts: list[np.ndarray] = []
    position = None
    for frame in decoded(container, stream, problems):
        if position is None:  # later frames follow without a gap: their own time stamps may be rounded
            time = 0.0 if frame.pts is None else float(frame.pts * frame.time_base) - origin(container)
            position = round(time * stream.rate)
            parts.append(np.zeros(max(0, position - first), np.float32))  # the sound may start after the pictures
        if position + frame.samples > first:
            parts.append(_mean(frame)[max(0, first - position) :])
        position += frame.samples
        if last is not None and position >= last:
            break
    count = None if last is None else max(0, last - first)
    return np.concatenate(parts)[:count] if parts else np.zeros(0, np.float32), position or 0


def _mean(frame: Any) -> np.ndarray:
    """float32 (samples,) of one decoded frame; integers are divided by 2 to the power of their bits less one."""
    values = frame.to_ndarray()
    scale = FULL_SCALE.get(values.dtype.name)
    channels = len(frame.layout.channels)
    values = values.astype(np.float32 if scale is None or values.dtype.itemsize < 4 else np.float64)
    if scale is not None:
        values = values / scale - (1.0 if frame.format.name.startswith("u8") else 0.0)
    values = values if frame.format.is_planar else values.reshape(-1, channels).T
    return (values[0] if channels == 1 else values.mean(axis=0)).astype(np.float32)


@dataclass(frozen=True)
class Mfcc(Extractor):
    """Mel-frequency cepstral coefficients, as `librosa.feature.mfcc` computes them.

    Attributes:
        rate: to which sound is resampled (Hz).
        offset: what is left out at the start of a clip, or of a span of it (seconds).
        seconds: how much is taken; shorter sounds get zeros at their end, with a note. None: all up to the end.
        num_coefficients: channels.
        window, hop: length of the analysed frames and distance of their starts (samples).
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
        with opened(file) as container:
            if not container.streams.audio:
                raise StreamMissing(f"'{file}' has no sound track, expected one; give a recording with sound.")
            return end_of(file, container, container.streams.audio[0])

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
