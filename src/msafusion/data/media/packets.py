"""When the packets of a recording are shown and heard, read without decoding them: where its streams start and end."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msafusion.data.media.container import JUMP, decode, joined_error, open_container, origin
from msafusion.data.media.headers import promised_duration, second_recording
from msafusion.failures import DataError

if TYPE_CHECKING:
    from av.container import InputContainer

STATE = ("palette", "new_extradata", "param_change")
"""What a packet may carry that holds for all behind it too, and is lost on seeking."""
STEP_BACK = 0.25
"""Seconds that the stamps of decoding of a video may go back without a second recording: more than a few frames."""
UNORDERED = ("h264", "hevc", "vvc")
"""Encodings whose order of presentation FFmpeg cannot tell from their packets; AVI does not tell it either."""


@dataclass(frozen=True)
class Packets:
    """Those of one stream, on its own time stamps (seconds).

    Attributes:
        start: first moment that is shown.
        last: time stamp of the last packet in the order of presentation.
        end: where that one ends.
        keys: (n,) moments of the key frames, ascending.
        seekable: decoding may begin at any key frame: all packets tell when they are presented and none carries what
            holds for others.
        stamps: (n,) of the frames in the order of presentation where packets only tell when they are decoded (AVI with
            B-frames): these in ascending order, from the first frame's on. None: frames tell it themselves.
        back: where time stamps go back for the first time: from when, to when.
    """

    start: float
    last: float
    end: float
    keys: np.ndarray
    seekable: bool
    stamps: np.ndarray | None = None
    back: tuple[float, float] | None = None


def counts_packets(container: "InputContainer", stream: Any) -> bool:
    """Whether samples have no time stamps but are counted, and any part decodes to what the whole has there.

    Linear PCM and FLAC. All others are decoded from their start: ADPCM and G.722 are coded in blocks or carry over
    from all before, AAC's decoder makes up noise, other noise after a seek. Ten minutes of AAC take about a second.
    """
    name, codec = container.format.name, stream.codec_context.name
    return (name == "wav" and codec.startswith("pcm_")) or (name == codec == "flac")


def end_of(file: Path, container: "InputContainer", stream: Any) -> float:
    """Where a stream ends (seconds from the recording's start), by the time stamps of its packets.

    Of a recording that was cut off it is the end that its header tells, so that readers miss what is not there.

    Raises:
        DataError: a second recording lies behind the first one, of which readers would see nothing.
    """
    _check_single(file, container)
    header = float(((stream.start_time or 0) + (stream.duration or 0)) * stream.time_base)
    if counts_packets(container, stream) and stream.duration:
        end = header
    else:
        packets = packets_of(file, stream)
        # sound codecs fill up their last block: the header's end within it is exact
        if not stream.duration and container.duration:  # Matroska tells where the last of its tracks ends
            header = origin(container) + container.duration / 1_000_000
        end = header if stream.type == "audio" and packets.last < header < packets.end else packets.end
    return max(end, promised_duration(file, container, stream)) - origin(container)


def packets_of(file: Path, stream: Any) -> Packets:
    """What the packets of one stream tell; the file is read once, also for its other streams.

    Raises:
        DataError: the stream has no packets, or their time stamps go back.
    """
    scanned = _scanned(file, *state_of(file))
    if stream.index not in scanned:
        raise DataError(f"'{file}' holds no {stream.type} data, expected a recording; copy or download it again.")
    found = scanned[stream.index]
    if found is None:
        raise DataError(
            f"'{file}' has {stream.type} data without time stamps, expected a recording that has them; put it into a "
            "container first (ffmpeg -framerate <its rate> -i <file> -c copy x.mkv)."
        )
    if found.back is not None:
        before, after = (time - origin(stream.container) for time in found.back)
        raise joined_error(file, "video" if stream.type == "video" else "sound", before, after)
    return found


def _check_single(file: Path, container: "InputContainer") -> None:
    if at := _second(file, container.format.name, *state_of(file)):
        raise DataError(
            f"'{file}' holds a second recording from byte {at:,} on, expected one (they were joined byte by byte); "
            "split it there."
        )


def state_of(file: Path) -> tuple[int, int]:
    """What tells a changed file apart."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=64)
def _second(file: Path, name: str, _modified: int, _size: int) -> int:
    return second_recording(file, name)


@lru_cache(maxsize=64)  # predicting window by window asks again and again
def _scanned(file: Path, modified: int, size: int) -> Mapping[int, Packets | None]:
    """Stream index -> its packets, None where no packet has a time stamp.

    `modified` and `size` tell a changed file apart.
    """
    from av.error import FFmpegError

    with open_container(file) as container:
        found: defaultdict[int, _Scan] = defaultdict(lambda: _Scan(container.format.name))
        packets = container.demux()
        while True:
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError):
                break
            found[packet.stream_index].add(packet)
        done = {
            index: scan.done(container.streams[index]) if scan.any else None
            for index, scan in found.items()
            if scan.any or scan.unstamped
        }
    for index, packets in done.items():
        # alone, its first frame is where the recording starts
        if packets is not None and packets.stamps is not None and len(done) > 1:
            done[index] = _as_decoded(packets, _first_shown(file, index))
    return done


def _first_shown(file: Path, index: int) -> float | None:
    """The time stamp of decoding (seconds) with which the first frame of a stream leaves the decoder."""
    with open_container(file) as container:
        container.streams[index].thread_type = "NONE"  # pyright: ignore[reportAttributeAccessIssue]
        frame: Any = next(decode(container, container.streams[index], []), None)
        return None if frame is None or frame.dts is None else float(frame.dts * frame.time_base)


def _as_decoded(packets: Packets, first: float | None) -> Packets:
    """With the stamps that players give: each frame's is that of the packet with which the decoder lets it go.

    That is later than its own by the frames that the decoder holds back to put them in order.
    """
    stamps = packets.stamps
    assert stamps is not None
    held = 0 if first is None else int(np.searchsorted(stamps, first))
    if not held or len(stamps) < 2:
        return packets
    step = float(np.median(np.diff(stamps)))
    stamps = np.concatenate([stamps[held:], stamps[-1] + step * np.arange(1, held + 1)])
    start, last = float(stamps[0]), float(stamps[-1])
    return replace(packets, start=start, last=last, end=last + packets.end - packets.last, stamps=stamps)


class _Scan:
    def __init__(self, container_format: str) -> None:
        self.start, self.last, self.end = math.inf, -math.inf, -math.inf
        self.keys, self.decoding, self.presenting = list[float](), list[float](), list[float]()
        self.moments = list[float]()
        self.any, self.seekable, self.avi = False, True, container_format == "avi"
        self.latest, self.back = -math.inf, None
        self.unstamped = 0  # behind the last that has a stamp

    def add(self, packet: Any) -> None:
        if not packet.size or packet.is_discard:  # the one for the end; what edits leave out, trailing ones of Ogg
            return
        if any(packet.has_sidedata(kind) for kind in STATE):
            self.seekable = False
        stamp = packet.pts
        if packet.stream.type == "video":
            if self.avi and packet.dts is not None:
                self.decoding.append(float(packet.dts * packet.time_base))
                self.presenting += [] if stamp is None else [float(stamp * packet.time_base)]
            self.seekable = self.seekable and stamp is not None
        stamp = packet.dts if stamp is None else stamp
        if stamp is None:
            self.unstamped += 1
            return
        self.unstamped = 0
        if packet.dts is not None:
            self._follow(float(packet.dts * packet.time_base), packet.stream.type)
        time, duration = float(stamp * packet.time_base), packet.duration or 0
        if duration >= 2**31:  # FFmpeg's Ogg reader writes a negative number of 32 bits here: the end is cut
            duration -= 2**32
        if time >= self.last:
            self.last, self.end = time, time + float(duration * packet.time_base)
        self.start, self.any = min(self.start, time), True
        self.moments.append(time)
        if packet.is_keyframe:
            self.keys.append(time)

    def _follow(self, time: float, kind: str) -> None:
        """In the order of decoding stamps go on; sound notes what overlaps a little."""
        if self.back is None and time < self.latest - (JUMP if kind == "audio" else STEP_BACK):
            self.back = self.latest, time
        self.latest = max(self.latest, time)

    def done(self, stream: Any) -> Packets:
        palette = stream.type == "video" and getattr(stream.codec_context, "pix_fmt", None) == "pal8"
        keys = np.sort(np.array(self.keys)) if stream.type == "video" else np.zeros(0)
        moments = np.array(self.moments)
        if stream.type == "video" and (np.diff(moments) < 0).any():
            # durations are of decoding, in another order: the last one says little of how long that frame is shown
            self.end = min(self.end, self.last + float(np.median(np.diff(np.sort(moments)))))
        if stream.type == "video" and self.unstamped and stream.average_rate:  # MPEG stamps some packets only
            self.end = max(self.end, self.last + float((1 + self.unstamped) / stream.average_rate))
        if not self.avi or self.presenting == self.decoding or stream.codec_context.name not in UNORDERED:
            return Packets(self.start, self.last, self.end, keys, self.seekable and not palette, back=self.back)
        stamps = np.sort(np.array(self.decoding))
        start, last = float(stamps[0]), float(stamps[-1])
        return Packets(start, last, last + self.end - self.last, keys, False, stamps, self.back)
