"""Frames of a video, evenly spaced in time, upright, decoding as little as that needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msafusion.media.container import ENOUGH, decoded, end_of, opened, origin, undecoded
from msafusion.media.extraction import WHOLE, Span, StreamMissing
from msafusion.preprocessing import DataError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

ROUNDING = 1e-3
"""Time stamps may be this much off (seconds): Matroska rounds them to milliseconds."""
UNINDEXED_GAP = 5.0
"""Seconds between two frames from which on seeking is tried in formats without an index of key frames (MPEG)."""


@dataclass(frozen=True)
class VideoInfo:
    """What a quick look at a video tells.

    Attributes:
        duration: of the video track (seconds).
        frame_rate: on average (Hz).
        width, height: of the upright frames (pixels).
        rotation: clockwise turn that makes the stored frames upright: 0, 90, 180 or 270 (degrees).
        has_audio: there is a sound track.
    """

    duration: float
    frame_rate: float
    width: int
    height: int
    rotation: int
    has_audio: bool


def probe_video(file: Path) -> VideoInfo:
    """Duration, size and so on, after decoding the first frame.

    Raises:
        StreamMissing: the file has no video track.
        DataError: the file is missing or broken.
    """
    with opened(file) as container:
        reading = _Reading(file, container)
        first = next(reading.frames(), None)
        if first is None:
            raise reading.nothing()
        turn = _turn(first[1])
        width, height = first[1].width, first[1].height
        return VideoInfo(
            duration=end_of(file, container, reading.stream),
            frame_rate=1 / reading.step,
            width=height if turn % 180 else width,
            height=width if turn % 180 else height,
            rotation=turn,
            has_audio=bool(container.streams.audio),
        )


def read_frames(
    file: Path, num_frames: int, span: Span = WHOLE, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The frames shown in the middle of `num_frames` equal parts of the span, by their time stamps.

    Where frames are fewer than parts, some come several times; all are filled. Of a video that ends early (cut off
    while copying, sound longer than pictures) the last frame is repeated if 90 % of the span are there.

    Args:
        file: the video.
        num_frames: how many.
        span: the part to read; what lies beyond the end of the video is not asked for.
        change: called with each upright frame uint8 (height, width, 3) once it is decoded; what it gives, always of one
            shape, is returned instead. Shrinking frames there saves memory.

    Returns:
        frames: uint8 (num_frames, height, width, 3), RGB, upright as the file's rotation says, or as changed.
        times: (num_frames,) when they start to be shown (seconds from the start of the recording).
        notes: what a user should know.

    Raises:
        StreamMissing: no video track.
        DataError: the file is missing or broken, or has less than 90 % of the span.
    """
    with opened(file) as container:
        reading = _Reading(file, container)
        end = end_of(file, container, reading.stream)
        start = max(span.start, reading.starts)
        if start >= end:
            raise (StreamMissing if span.start > 0 else DataError)(
                f"'{file}' ends after {end:.2f} s, expected frames after {start:.2f} s; ask for an earlier part."
            )
        if span.seconds is not None:
            end = min(end, max(span.start + span.seconds, start + reading.step))
        wanted = start + (np.arange(num_frames) + 0.5) * (end - start) / num_frames
        shown = reading.shown(wanted.tolist(), change)
        notes = undecoded(reading.problems)
        missing = end - reading.ends
        if missing > (1 - ENOUGH) * (end - start):
            raise DataError(
                f"'{file}' is cut off or broken: its frames end after {reading.ends:.2f} s, expected {end:.2f} s; copy "
                "or download it again."
            )
        if damaged := sum(frame.damaged for frame in {id(frame): frame for frame in shown}.values()):
            notes.append(f"{damaged} of the frames taken {'are' if damaged > 1 else 'is'} damaged")
        if missing > 1.5 * reading.step:
            notes.append(f"frames end after {reading.ends:.2f} s of {end:.2f} s, the last one is repeated")
        times = np.array([frame.time for frame in shown])
        if num_frames > 1 and (times == times[0]).all():
            notes.append(f"a single frame in {end - start:.2f} s, repeated {num_frames} times")
        if len({frame.size for frame in shown}) > 1:
            raise DataError(f"'{file}' changes its frame size midway, expected one size; convert it first.")
        return np.stack([frame.picture for frame in shown]), times, notes


@dataclass(frozen=True)
class _Shown:
    time: float
    picture: np.ndarray
    size: tuple[int, ...]  # of the frame, before it was changed
    damaged: bool


class _Reading:
    """Decodes one video track, forwards, jumping to key frames where that saves decoding."""

    def __init__(self, file: Path, container: "InputContainer") -> None:
        # the cover picture of a sound file is no video
        tracks = [track for track in container.streams.video if not track.disposition & track.disposition.attached_pic]
        if not tracks:
            raise StreamMissing(f"'{file}' has no video track, expected one; give a video.")
        self.file, self.container, self.stream = file, container, tracks[0]
        self.stream.thread_type = "AUTO"  # whole frames and slices: the fastest of four on H.264 720p and on MPEG-1
        self.step = 1 / float(self.stream.average_rate or self.stream.guessed_rate or 25)
        self.tick = float(self.stream.time_base or 1)
        self.starts = (self.stream.start_time or 0) * self.tick - origin(container)
        self.ends = np.inf
        self.problems: list[str] = []

    def nothing(self) -> DataError:
        """The error where no frame can be decoded."""
        reason = f" ({self.problems[0]})" if self.problems else ""
        return DataError(
            f"'{self.file}' has a video track of which no frame can be decoded{reason}; copy or download it again."
        )

    def frames(self) -> Iterator[tuple[float, "VideoFrame"]]:
        """(time, frame) from the current position on; a frame without time stamp follows the one before it."""
        start, time = origin(self.container), -self.step
        for frame in decoded(self.container, self.stream, self.problems):
            time = time + self.step if frame.pts is None else float(frame.pts * frame.time_base) - start
            yield time, frame

    def shown(self, wanted: list[float], change: Callable[[np.ndarray], np.ndarray] | None) -> list[_Shown]:
        """For each time (ascending) the frame that is on the screen then, the first one before there is any."""
        coming = self._from(wanted[0]) if self._saves(0.0, wanted[0]) else self.frames()
        current = following = next(coming, None)
        if current is None:
            raise self.nothing()
        chosen: list[_Shown] = []
        for moment in wanted:
            if following is not None and following[0] <= moment + ROUNDING and self._saves(following[0], moment):
                coming = self._from(moment)
                following = next(coming, None) or following
            while following is not None and following[0] <= moment + ROUNDING:
                current, following = following, next(coming, None)
            if chosen and current[0] == chosen[-1].time:
                chosen.append(chosen[-1])
                continue
            picture = _upright(current[1])
            size, damaged = picture.shape, bool(current[1].is_corrupt)
            chosen.append(_Shown(current[0], picture if change is None else change(picture), size, damaged))
        if following is None:
            self.ends = current[0] + max((current[1].duration or 0) * self.tick, self.step)
        return chosen

    def _ticks(self, time: float) -> int:
        return round((time + origin(self.container)) / self.tick)

    def _saves(self, now: float, time: float) -> bool:
        """Whether a key frame lies between: by the index of formats that have a whole one, else by the distance."""
        if not self.stream.frames:
            return time - now > UNINDEXED_GAP
        index = self.stream.index_entries
        key = index.search_timestamp(self._ticks(time))
        return key >= 0 and index[key].timestamp > self._ticks(now)

    def _from(self, time: float) -> Iterator[tuple[float, Any]]:
        """Frames from a key frame at or before `time` on. MPEG lands too late at times: then further back."""
        back = 0.0
        while back < time:
            self.container.seek(self._ticks(time - back), stream=self.stream, backward=True)
            frames = self.frames()
            first = next(frames, None)
            if first is not None and first[0] <= time:
                return _again(first, frames)
            back = 2 * back + 1
        if self.stream.frames:
            self.container.seek(self.stream.start_time or 0, stream=self.stream, backward=True)
        else:  # even time 0 is missed there
            self.container.seek(0, unsupported_byte_offset=True)
        return self.frames()


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _turn(frame: "VideoFrame") -> int:
    """Clockwise turn to upright (degrees); the display matrix counts the other way."""
    return -round(frame.rotation / 90) * 90 % 360


def _upright(frame: "VideoFrame") -> np.ndarray:
    # one thread: starting threads for each frame takes several times as long as converting it
    return np.rot90(frame.to_ndarray(format="rgb24", threads=1), -_turn(frame) // 90)
