"""Opening recordings: what video and sound share. PyAV, whose libraries read nearly every format there is."""

import math
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msafusion.files.reading import reading
from msafusion.preprocessing import DataError

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEOS = (".mp4", ".avi", ".mpg", ".mpeg", ".mov", ".mkv", ".webm", ".m4v")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".opus")
"""Endings of files that show, and of those that only sound."""
ENOUGH = 0.9
"""Least part of what is asked for that must be there; below, a recording counts as cut off."""
MOST_BYTES = 2**31 - 2**16
"""From here on the size in a .wav's header only says that the writer did not know it."""


@contextmanager
def opened(file: Path) -> Iterator["InputContainer"]:
    """The recording, open for reading; its libraries stay silent (PyAV's default), errors tell what is wrong.

    Raises:
        DataError: there is no such file, it is empty, cut off before its index, or no recording.
    """
    import av
    from av.error import FFmpegError

    if not file.is_file():
        raise DataError(f"no file '{file}', expected a recording; check the path.")
    if not file.stat().st_size:
        raise DataError(f"'{file}' is empty (0 bytes), expected a recording; copy or download it again.")
    try:
        # an absolute path, so that no file name is taken for a protocol ("concat:...")
        container = av.open(str(file.absolute()), metadata_errors="ignore")
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or "no known format"
        raise DataError(
            f"'{file}' cannot be read as a recording ({reason}): it is cut off, broken or of another kind; "
            "copy or download it again."
        ) from None
    with reading(file, "a recording", "copy or download it again"), container:
        yield container


def decoded(container: "InputContainer", stream: Any, problems: list[str]) -> Iterator[Any]:
    """The frames of one stream from the current position on, in the order in which they are presented.

    Packets that cannot be decoded are passed over, as players do; each adds a line to `problems`.
    """
    from av.error import FFmpegError, InvalidDataError

    packets = container.demux(stream)
    while True:
        try:
            frames = next(packets).decode()
        except StopIteration:
            return
        except InvalidDataError as error:
            problems.append(error.strerror or "unknown")
            continue
        except FFmpegError as error:  # reading itself fails: there is nothing behind
            problems.append(error.strerror or "unknown")
            return
        yield from frames


def origin(container: "InputContainer") -> float:
    """Where the recording's time 0 is on its streams' time stamps (seconds)."""
    return (container.start_time or 0) / 1_000_000


def end_of(file: Path, container: "InputContainer", stream: Any) -> float:
    """Where a stream ends (seconds from the recording's start).

    Formats that count their frames know it (mp4, avi, wav); in all others (MPEG, Matroska) headers are guesses, and
    the time stamps of the packets are read, without decoding them. Of a recording that was cut off it is the end that
    its header tells, so that readers miss what is not there. MPEG, mp3, ogg and aac tell none: what is left of one that
    was cut off counts as whole.
    """
    start = origin(container)
    if stream.duration and (stream.frames or container.format.name in ("wav", "flac")):
        duration = stream.duration * stream.time_base
        if container.format.name == "wav":  # there too
            duration = max(duration, _wav_duration(file))
        if container.format.name == "avi" and stream.type == "video":  # there the duration is cut with the file
            duration = max(duration, stream.frames / stream.average_rate)
        return float((stream.start_time or 0) * stream.time_base + duration) - start
    ends = _last_stamps(file, file.stat().st_mtime_ns)
    if stream.index not in ends:
        raise DataError(f"'{file}' holds no {stream.type} data, expected a recording; copy or download it again.")
    # Matroska's duration is its longest stream's; without pictures FFmpeg may have guessed it from a bit rate
    if container.format.name == "matroska,webm" and container.streams.video and container.duration:
        told = container.duration / 1_000_000
        if max(ends.values()) - start < ENOUGH * told:
            return told
    return ends[stream.index] - start


def _wav_duration(file: Path) -> float:
    """Seconds that the header of PCM sound tells; 0 where it tells none, as of sound that was written to a pipe."""
    try:
        with wave.open(str(file)) as header:
            frames, rate, width = header.getnframes(), header.getframerate(), header.getsampwidth()
            return frames / rate if frames * width * header.getnchannels() < MOST_BYTES else 0.0
    except (wave.Error, EOFError):  # of another encoding, whose header FFmpeg itself believes
        return 0.0


@lru_cache(maxsize=64)  # predicting window by window asks again and again
def _last_stamps(file: Path, modified: int) -> dict[int, float]:
    """Stream index -> end of its last packet on its time stamps (seconds); `modified` tells a changed file apart."""
    ends: dict[int, float] = {}
    with opened(file) as container:
        for packet in container.demux():
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                ends[packet.stream_index] = max(ends.get(packet.stream_index, -math.inf), end)
    return ends


def undecoded(problems: list[str]) -> list[str]:
    """A note about packets that were passed over, if there were any."""
    if not problems:
        return []
    return [f"{len(problems)} {'packets' if len(problems) > 1 else 'packet'} could not be decoded ({problems[0]})"]
