"""What a recording's headers promise: whether the file is shorter than they say, or another recording lies behind."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from av.container import InputContainer

UNKNOWN_BYTES = 2**31 - 2**16
"""From here on a 32-bit size only says that the writer did not know it (a pipe)."""
EBML = b"\x1a\x45\xdf\xa3"
"""What Matroska begins with."""


def promised_duration(file: Path, container: "InputContainer", stream: Any) -> float:
    """Where a stream of a file that was cut off would end, on its own time stamps (seconds).

    A file is cut off where its outermost blocks are longer than itself: then, and only then, are durations and counts
    in headers believed. FLAC tells its number of samples. MPEG, mp3, Ogg and AAC promise nothing: what is left of one
    that was cut off counts as whole.

    Returns:
        seconds; 0 where nothing is promised that is not there.
    """
    name, start = container.format.name, float((stream.start_time or 0) * stream.time_base)
    if name == "flac" and stream.duration:
        return start + float(stream.duration * stream.time_base)
    with file.open("rb") as content:
        if name == "wav":
            size, rate = _wav_data(content)
            return size / rate if rate else 0.0
        if name == "avi":  # FFmpeg cuts the duration to what is there; the number of frames or blocks stays
            return start + float(stream.frames * stream.time_base) if _riff_lacks(content) else 0.0
        if name == "matroska,webm" and _segment_lacks(content) and container.duration:
            # the end of the longest stream; some writers count it from time 0, others from the first time stamp
            return container.duration / 1_000_000
        lacks = name.startswith("mov,") and _boxes_lack(content)
        return start + float(stream.duration * stream.time_base) if lacks and stream.duration else 0.0


def second_recording(file: Path, name: str) -> int:
    """Where a second recording begins (byte) in a file to which it was joined; 0: there is none, or stamps tell it.

    FFmpeg reads only the first one (WAV, MP4, FLV), restarts its time stamps (Ogg), or loses blocks in between (FLAC).
    Joined mp3, AAC and AVI it reads whole.

    Args:
        file: the recording.
        name: of its format, FFmpeg's.
    """
    with file.open("rb") as content:
        if name == "wav":
            data = next(((at, size) for name, at, size in _riff(content)[1] if name == b"data"), None)
            if data is None:
                return 0
            at = _found(content, (b"WAVEfmt ",), data[0] + (data[1] if _known(data[1]) else 0))
            return max(0, at - 8)
        if name == "flac":  # its mark and the header of its first block, which is the last one or not
            marks = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
            return _found(content, marks, _found(content, marks, _id3_end(content)) + 4)
        if name == "flv":  # its header, of sound, pictures or both
            return _found(content, tuple(b"FLV\x01%c\x00\x00\x00\x09" % kind for kind in (1, 4, 5)), 9)
        if name == "ogg":
            return _chained(content)
        if name.startswith("mov,"):
            return _second_movie(content)
        if name == "matroska,webm" and (end := _segment_end(content)) is not None:
            content.seek(end)
            return end if content.read(4) == EBML else 0
    return 0


def _id3_end(content: BinaryIO) -> int:
    """Where the ID3v2 tags end that some programs write before the recording itself; 0: there is none."""
    at = 0
    while True:
        content.seek(at)
        header = content.read(10)
        if len(header) < 10 or not header.startswith(b"ID3"):
            return at
        at += 10 + sum((byte & 127) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))


def _found(content: BinaryIO, marks: tuple[bytes, ...], start: int) -> int:
    """Where one of some marks is, from a byte on; 0: nowhere."""
    with mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return min((at for mark in marks if (at := mapped.find(mark, start)) > 0), default=0)


def _chained(content: BinaryIO) -> int:
    """RFC 3533: the pages with which streams begin come first; behind others, they begin the next link of a chain."""
    at, others = 0, False
    with mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        while (at := mapped.find(b"OggS", at)) >= 0 and at + 27 <= len(mapped):  # behind what is damaged
            begins = bool(mapped[at + 5] & 2)
            if begins and others:
                return at
            others = others or not begins
            segments = mapped[at + 26]
            at += 27 + segments + sum(mapped[at + 27 : at + 27 + segments])
    return 0


def _second_movie(content: BinaryIO) -> int:
    """ISO 14496-12: one `moov` describes all, but that of fragments, which may come with it again."""
    file_type, movies = 0, list[int]()
    for name, at, _ in _boxes(content):
        if name == b"moof":
            return 0
        if name == b"ftyp":
            file_type = at
        if name == b"moov":
            movies.append(at)
    return 0 if len(movies) < 2 else file_type or movies[1]


def _riff(content: BinaryIO) -> tuple[bytes, list[tuple[bytes, int, int]]]:
    """The form of a RIFF file and its chunks: (name, where the content starts, its size), as far as they are there."""
    length = content.seek(0, os.SEEK_END)
    content.seek(0)
    form = content.read(12)[8:]
    chunks, at, long_size = [], 12, 0
    while at + 8 <= length and len(chunks) < 1000:
        content.seek(at)
        name, size = content.read(4), int.from_bytes(content.read(4), "little")
        if name == b"ds64":  # RF64: the true sizes of the file and of the data
            long_size = int.from_bytes(content.read(16)[8:], "little")
        if name == b"data" and size == 2**32 - 1 and long_size:
            size = long_size
        chunks.append((name, at + 8, size))
        at += 8 + size + size % 2
    return form, chunks


def _wav_data(content: BinaryIO) -> tuple[int, int]:
    """Bytes of sound that lack and are there, and bytes a second; 0 bytes where none lack or the size is unknown."""
    length = content.seek(0, os.SEEK_END)
    rate = 0
    for name, at, size in _riff(content)[1]:
        if name == b"fmt ":
            content.seek(at + 8)
            rate = int.from_bytes(content.read(4), "little")
        if name == b"data":
            return (size, rate) if _known(size) and at + size > length else (0, rate)
    return 0, rate


def left_over(file: Path) -> float:
    """Seconds of a WAV file that lie behind the sound that its header tells, and are no other chunk.

    Recorders that were switched off leave them. FFmpeg reads what the header tells.
    """
    with file.open("rb") as content:
        length = content.seek(0, os.SEEK_END)
        rate, sound = 0, False
        for name, at, size in _riff(content)[1]:
            if name == b"fmt ":
                content.seek(at + 8)
                rate = int.from_bytes(content.read(4), "little")
            if sound and rate and (name == b"data" or not (name.isascii() and name.decode().isprintable())):
                return (min(size, length - at) if name == b"data" else length - at + 8) / rate
            sound = sound or (name == b"data" and _known(size) and size > 0)
    return 0.0


def _known(size: int) -> bool:
    return size < UNKNOWN_BYTES or size > 2**32


def _riff_lacks(content: BinaryIO) -> bool:
    length = content.seek(0, os.SEEK_END)
    return any(name == b"LIST" and length < at + size < UNKNOWN_BYTES for name, at, size in _riff(content)[1])


def _boxes(content: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """ISO 14496-12: (name, where it begins, its size) of the outermost boxes, up to one of unknown size."""
    length, at = content.seek(0, os.SEEK_END), 0
    while at + 8 <= length:
        content.seek(at)
        size, name = int.from_bytes(content.read(4), "big"), content.read(4)
        if size == 1:
            size = int.from_bytes(content.read(8), "big")
        if size < 8:  # 0: up to the end of the file
            return
        yield name, at, size
        at += size


def _boxes_lack(content: BinaryIO) -> bool:
    """Whether the box of the samples is longer than the file."""
    length = content.seek(0, os.SEEK_END)
    return any(name == b"mdat" and at + size > length for name, at, size in _boxes(content))


def _segment_end(content: BinaryIO) -> int | None:
    """EBML (RFC 8794): a header, then one segment whose size is unknown where it was written to a pipe (None)."""
    content.seek(4)
    header, _ = _ebml_size(content)
    content.seek(header, os.SEEK_CUR)
    if content.read(4) != b"\x18\x53\x80\x67":
        return None
    size, unknown = _ebml_size(content)
    return None if size == unknown else content.tell() + size


def _segment_lacks(content: BinaryIO) -> bool:
    length, end = content.seek(0, os.SEEK_END), _segment_end(content)
    return end is not None and end > length


def _ebml_size(content: BinaryIO) -> tuple[int, int]:
    """A number of 1 to 8 bytes, and what it is where the size is unknown."""
    first = content.read(1)
    if not first or not first[0]:
        return 0, 0
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(first + content.read(more), "big") & (2**bits - 1)
    return value, 2**bits - 1
