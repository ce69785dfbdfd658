"""Frames of a video, evenly spaced in time, upright, decoding as little as that needs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msafusion.data.media.container import (
    ENOUGH,
    JUMP,
    decode,
    joined_error,
    open_container,
    origin,
    track,
    undecoded_notes,
)
from msafusion.data.media.extraction import WHOLE, Span, StreamMissing
from msafusion.data.media.packets import end_of, packets_of
from msafusion.data.media.upright import display, upright
from msafusion.failures import DataError

if TYPE_CHECKING:
    from av import VideoFrame

ROUNDING = 1e-3
"""Time stamps may be this much off (seconds): Matroska rounds them to milliseconds."""
UNINDEXED_GAP = 5.0
"""Seconds between two frames from which on seeking is tried in formats without an index of key frames (MPEG)."""
INDEXED = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "avi")
FEWEST_BETWEEN_FAULTS = 8
"""Frames for each time stamp that goes back; damage makes single ones go back, stamps of another kind every third."""
MAX_LEADING = 64
"""Frames shown before the key frame to which a seek led; they lack those that they refer to."""


@dataclass(frozen=True)
class VideoInfo:
    """What a quick look at a video tells.

    Attributes:
        duration: of the video track (seconds).
        frame_rate: on average (Hz).
        width, height: of the upright frames (pixels).
        rotation: clockwise turn that makes the stored frames upright: 0, 90, 180 or 270 (degrees).
        mirrored: they are then exchanged left and right too.
        has_audio: there is a sound track.
    """

    duration: float
    frame_rate: float
    width: int
    height: int
    rotation: int
    mirrored: bool
    has_audio: bool


def probe_video(file: Path) -> VideoInfo:
    """Duration, size and so on, after decoding the first frame.

    Raises:
        StreamMissing: the file has no video track.
        DataError: the file is missing or broken.
    """
    with ExitStack() as stack:
        reading = _Reading(file, stack)
        first = next(reading.frames(), None)
        if first is None:
            raise reading.nothing()
        turn, mirrored, _ = display(first[1])
        width, height = first[1].width, first[1].height
        return VideoInfo(
            duration=end_of(file, reading.container, reading.stream),
            frame_rate=1 / reading.step,
            width=height if turn % 180 else width,
            height=width if turn % 180 else height,
            rotation=turn,
            mirrored=mirrored,
            has_audio=bool(reading.container.streams.audio),
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
    with ExitStack() as stack:
        reading = _Reading(file, stack)
        end = end_of(file, reading.container, reading.stream)
        start = max(span.start, reading.starts)
        if start >= end:
            raise (StreamMissing if span.start > 0 else DataError)(
                f"'{file}' ends after {end:.2f} s, expected frames after {start:.2f} s; ask for an earlier part."
            )
        if span.seconds is not None:
            end = min(end, max(span.start + span.seconds, start + reading.step))
        wanted = start + (np.arange(num_frames) + 0.5) * (end - start) / num_frames
        shown = reading.shown(wanted.tolist(), change)
        notes = [*reading.notes, *undecoded_notes(reading.problems)]
        if reading.out_of_order:
            notes.append("time stamps of the frames are out of order, those of decoding are taken")
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


class _OutOfOrder(Exception):
    """Decoded frames are in the order in which they are shown, their time stamps are not."""


class _Reading:
    """Decodes one video track, forwards, jumping to key frames where that saves decoding and is exact."""

    def __init__(self, file: Path, stack: ExitStack) -> None:
        self.file, self.stack = file, stack
        self.restart()
        self.packets = packets_of(file, self.stream)
        self.step = 1 / float(self.stream.average_rate or self.stream.guessed_rate or 25)
        self.tick = float(self.stream.time_base or 1)
        self.starts = self.packets.start - origin(self.container)
        self.ends = np.inf
        self.rounding = min(ROUNDING, self.step / 4)
        self.problems: list[str] = []
        self.out_of_order = False

    def restart(self) -> None:
        """Back to the very start, where nothing that was read before counts: more than a seek to time 0 promises."""
        self.container = self.stack.enter_context(open_container(self.file))
        self.stream, self.notes = track(self.file, self.container, "video")
        self.stream.thread_type = "AUTO"  # whole frames and slices: the fastest of four on H.264 720p and on MPEG-1

    def nothing(self) -> DataError:
        """The error where no frame can be decoded."""
        reason = f" ({self.problems[0]})" if self.problems else ""
        return DataError(
            f"'{self.file}' has a video track of which no frame can be decoded{reason}; copy or download it again."
        )

    def frames(self) -> Iterator[tuple[float, "VideoFrame"]]:
        """(time, frame) from the current position on; a frame without time stamp follows the one before it.

        Raises:
            DataError: time stamps go back, as of a second recording.
            _OutOfOrder: many go back a little, and it is not yet known that they do.
        """
        start, time = origin(self.container), self.starts - self.step
        latest, count, faults = -np.inf, 0, 0
        stamps = self.packets.stamps  # where there are, all is decoded from the start
        for number, frame in enumerate(decode(self.container, self.stream, self.problems)):
            before, stamp = time, frame.pts
            if stamps is None and stamp is not None:
                count, faults, latest = count + 1, faults + (stamp < latest), stamp
                if faults * FEWEST_BETWEEN_FAULTS >= count and faults:
                    if not self.out_of_order:
                        raise _OutOfOrder
                    stamp = frame.dts
            if stamps is not None and number < len(stamps):
                time = float(stamps[number]) - start
            elif stamps is not None or stamp is None:
                time += self.step
            else:
                time = float(stamp * frame.time_base) - start
            if time < before - JUMP:
                raise joined_error(self.file, "video", before, time)
            yield time, frame

    def shown(self, wanted: list[float], change: Callable[[np.ndarray], np.ndarray] | None) -> list[_Shown]:
        """For each time (ascending) the frame that is on the screen then, the first one before there is any.

        Programs that copy the packets of an AVI elsewhere write when they are decoded instead of when they are shown.
        A frame of theirs counts as shown when it leaves the decoder, as players have it.
        """
        try:
            return self._shown(wanted, change)
        except _OutOfOrder:
            self.out_of_order = True
            self.problems.clear()
            self.restart()
            return self._shown(wanted, change)

    def _shown(self, wanted: list[float], change: Callable[[np.ndarray], np.ndarray] | None) -> list[_Shown]:
        coming = self._from(wanted[0]) if self._saves(0.0, wanted[0]) else self.frames()
        current = following = next(coming, None)
        if current is None:
            raise self.nothing()
        chosen: list[_Shown] = []
        for moment in wanted:
            if following is not None and following[0] <= moment + self.rounding and self._saves(following[0], moment):
                coming = self._from(moment)
                following = next(coming, None) or following
            while following is not None and following[0] <= moment + self.rounding:
                current, following = following, next(coming, None)
            if chosen and current[0] == chosen[-1].time:
                chosen.append(chosen[-1])
                continue
            picture, remark = upright(current[1])
            self.notes += [remark] if remark and remark not in self.notes else []
            size, damaged = picture.shape, bool(current[1].is_corrupt)
            chosen.append(_Shown(current[0], picture if change is None else change(picture), size, damaged))
        if following is None:
            last = self.packets.last - origin(self.container)
            whole = current[0] >= last - self.rounding
            length = max((current[1].duration or 0) * self.tick, self.step)
            self.ends = self.packets.end - origin(self.container) if whole else current[0] + length
        return chosen

    def _ticks(self, time: float) -> int:
        return round((time + origin(self.container)) / self.tick)

    def _saves(self, now: float, time: float) -> bool:
        """Whether seeking is exact and a key frame lies between; far enough in formats without an index (MPEG)."""
        indexed = self.stream.frames or self.container.format.name in INDEXED
        if self.out_of_order or not self.packets.seekable or (time - now <= UNINDEXED_GAP and not indexed):
            return False
        zero = origin(self.container)
        key = np.searchsorted(self.packets.keys, time + zero, side="right") - 1
        return bool(key >= 0 and self.packets.keys[key] > now + zero)

    def _from(self, time: float) -> Iterator[tuple[float, Any]]:
        """Frames from a key frame at or before `time` on, which is checked: some formats land too late, or between."""
        back = 0.0
        while back < time:
            self.container.seek(self._ticks(time - back), stream=self.stream, backward=True)
            frames = self.frames()
            for number, (at, frame) in enumerate(frames):
                if at > time + self.rounding or number > MAX_LEADING:
                    break
                if frame.key_frame and np.abs(self.packets.keys - at - origin(self.container)).min() < self.tick:
                    return chain([(at, frame)], frames)
            back = 2 * back + 1
        self.restart()
        return self.frames()
