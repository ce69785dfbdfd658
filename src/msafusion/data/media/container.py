"""Opening recordings: what video and sound share. PyAV, whose libraries read nearly every format there is."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msafusion.data.media.extraction import StreamMissing
from msafusion.failures import DataError
from msafusion.files.reading import check_size, max_size, reading

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEOS = (".mp4", ".avi", ".mpg", ".mpeg", ".mov", ".mkv", ".webm", ".m4v")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".opus")
"""Endings of files that show, and of those that only sound."""
ENOUGH = 0.9
"""Least part of what is asked for that must be there; below, a recording counts as cut off."""
JUMP = 1.0
"""Seconds by which time stamps that go back tell that several recordings were joined."""

OTHERS_NAMED = {
    *("applehttp", "avisynth", "concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp"),
    *("vapoursynth", "webm_dash_manifest"),
}
"""Formats that only name other files or addresses, and those that are programs."""
BYTES_OF_PIXEL = 3
"""Red, green, blue. 7680 x 4320 of them are within what any file may take."""
MAX_PIXELS = 2**31 - 1
"""FFmpeg's option takes no larger bound."""


@contextmanager
def open_container(file: Path) -> Iterator["InputContainer"]:
    """The recording, open for reading; its libraries stay silent (PyAV's default), errors tell what is wrong.

    Raises:
        DataError: the file does not exist, is empty, is cut off before its index, or is not a recording.
    """
    import av
    from av.error import FFmpegError

    if not file.is_file():
        raise DataError(f"no file '{file}', expected a recording; check the path.")
    if not file.stat().st_size:
        raise DataError(f"'{file}' is empty (0 bytes), expected a recording; copy or download it again.")
    options = {**_pixels(file), "format_whitelist": _formats()}
    try:
        # an absolute path, so that no file name is taken for a protocol ("concat:...")
        container = av.open(str(file.absolute()), metadata_errors="ignore", options=options)
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or "no known format"
        raise DataError(
            f"'{file}' cannot be read as a recording ({reason}): it is cut off, broken or of another kind; "
            "copy or download it again."
        ) from None
    with reading(file, "a recording", "copy or download it again"), container:
        yield container


def _pixels(file: Path) -> dict[str, str]:
    """FFmpeg's bound on the size of frames, for those that change it midway or tell it late."""
    return {"max_pixels": str(min(max_size(file.stat().st_size) // BYTES_OF_PIXEL, MAX_PIXELS))}


@lru_cache(maxsize=1)
def _formats() -> str:
    """The formats that hold their own pictures and sound, with commas between."""
    import av

    return ",".join(sorted(av.formats_available - OTHERS_NAMED))


def track(file: Path, container: "InputContainer", kind: Literal["video", "audio"]) -> tuple[Any, list[str]]:
    """The track that players take: the first one that is marked as the default, else the first.

    Cover pictures and previews do not count as video.

    Returns:
        stream: PyAV's.
        notes: which of several it is.

    Raises:
        StreamMissing: there is none.
        DataError: its encoding is unknown, or its frames are larger than the limit.
    """
    streams: Any = container.streams.video if kind == "video" else container.streams.audio
    found = [
        stream
        for stream in streams
        if not stream.disposition & (stream.disposition.attached_pic | stream.disposition.timed_thumbnails)
    ]
    name = "video" if kind == "video" else "sound"
    if not found:
        what = "a video" if kind == "video" else "a recording with sound"
        raise StreamMissing(f"'{file}' has no {name} track, expected one; give {what}.")
    chosen = next((stream for stream in found if stream.disposition & stream.disposition.default), found[0])
    if chosen.codec_context is None:
        raise DataError(f"'{file}' has a {name} track in an unknown encoding; convert it first.")
    if kind == "video":
        width, height = chosen.codec_context.width, chosen.codec_context.height
        pixels = f"one frame of '{file}', {width} x {height} pixels,"
        check_size(width * height * BYTES_OF_PIXEL, file.stat().st_size, pixels)
        chosen.codec_context.options = _pixels(file)
    if len(found) == 1:
        return chosen, []
    number = found.index(chosen) + 1
    return chosen, [f"number {number} of {len(found)} {name} tracks is read, the one marked as the default"]


def decode(container: "InputContainer", stream: Any, problems: list[str]) -> Iterator[Any]:
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
    """Where the recording's time 0 is on its streams' time stamps (seconds): one moment for pictures and sound."""
    return (container.start_time or 0) / 1_000_000


def joined_error(file: Path, kind: str, before: float, after: float) -> DataError:
    """The error about time stamps that jump."""
    return DataError(
        f"'{file}': the time stamps of its {kind} jump from {before:.2f} s to {after:.2f} s, expected one clock "
        "throughout (recordings that were joined byte by byte have several); split or convert it first."
    )


def undecoded_notes(problems: list[str]) -> list[str]:
    """A note about packets that were passed over, if there were any."""
    if not problems:
        return []
    return [f"{len(problems)} {'packets' if len(problems) > 1 else 'packet'} could not be decoded ({problems[0]})"]
