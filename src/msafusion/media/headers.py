"""What a recording's headers promise: whether the file is shorter than they say, and where its streams would end."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from av.container import InputContainer

UNKNOWN_BYTES = 2**31 - 2**16
"""From here on a 32-bit size only says that the writer did not know it (a pipe)."""


def promised(file: Path, container: "InputContainer", stream: Any) -> float:
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
        if name == "avi" and _riff_lacks(content) and stream.type == "video" and stream.average_rate:
            return start + float(stream.frames / stream.average_rate)
        if name == "matroska,webm" and _segment_lacks(content) and container.duration:
            # the end of the longest stream; some writers count it from time 0, others from the first time stamp
            return container.duration / 1_000_000
        lacks = (name.startswith("mov,") and _boxes_lack(content)) or (name == "avi" and _riff_lacks(content))
        return start + float(stream.duration * stream.time_base) if lacks and stream.duration else 0.0


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
            known = size < UNKNOWN_BYTES or size > 2**32
            return (size, rate) if known and at + size > length else (0, rate)
    return 0, rate


def _riff_lacks(content: BinaryIO) -> bool:
    length = content.seek(0, os.SEEK_END)
    return any(name == b"LIST" and length < at + size < UNKNOWN_BYTES for name, at, size in _riff(content)[1])


def _boxes_lack(content: BinaryIO) -> bool:
    """ISO 14496-12: boxes of a size and a name; that of the samples is `mdat`."""
    length, at = content.seek(0, os.SEEK_END), 0
    while at + 8 <= length:
        content.seek(at)
        size, name = int.from_bytes(content.read(4), "big"), content.read(4)
        if size == 1:
            size = int.from_bytes(content.read(8), "big")
        if size < 8:  # 0: up to the end of the file
            return False
        at += size
        if name == b"mdat" and at > length:
            return True
    return False


def _segment_lacks(content: BinaryIO) -> bool:
    """EBML (RFC 8794): a header, then one segment whose size is unknown where it was written to a pipe."""
    length = content.seek(0, os.SEEK_END)
    content.seek(4)
    header, _ = _ebml_size(content)
    content.seek(header, os.SEEK_CUR)
    if content.read(4) != b"\x18\x53\x80\x67":
        return False
    size, unknown = _ebml_size(content)
    return size != unknown and content.tell() + size > length


def _ebml_size(content: BinaryIO) -> tuple[int, int]:
    """A number of 1 to 8 bytes, and what it is where the size is unknown."""
    first = content.read(1)
    if not first or not first[0]:
        return 0, 0
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(first + content.read(more), "big") & (2**bits - 1)
    return value, 2**bits - 1
