"""Files of MATLAB 5 to 7: the numeric variables alone, unpacked as far as their size allows."""

import io
import struct
import zlib
from pathlib import Path

from msafusion.failures import DataError
from msafusion.files.reading import check_size, max_size

HEADER, TAG = 128, 8
MATRIX, COMPRESSED = 14, 15
NUMERIC = range(6, 16)
"""Classes of arrays of numbers, from double to uint64; cells and structures nest as deeply as a file likes."""
STORED = (*range(1, 8), 9, 12, 13, 16, 17, 18)
"""Types in which values are stored. SciPy looks up whatever number stands there, and trusts the length beside it."""


def numeric_part(path: Path, wanted: str) -> io.BytesIO:
    """The file with its numeric variables alone, none compressed.

    Raises:
        DataError: it would grow far beyond its size, ends early, or is of MATLAB 4 or 7.3.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or content[: len(b"MATLAB 7.3")] == b"MATLAB 7.3":
        raise DataError(
            f"'{path}' is not of MATLAB 5 to 7, expected {wanted} in such a file; download it again, or save it by "
            "save(..., '-v7')."
        )
    parts, place = [content[:HEADER]], HEADER
    while place + TAG <= len(content):
        kind, count = struct.unpack(order + "II", content[place : place + TAG])
        element = content[place : place + TAG + count]
        if len(element) < TAG + count:
            raise DataError(
                f"'{path}' ends after {len(content):,} bytes, expected {wanted} of {count:,} bytes at byte {place:,}; "
                "download it again."
            )
        place += TAG + count
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj()
            element = unpacked.decompress(element[TAG:], max_size(len(content)) + 1)
            check_size(sum(map(len, parts)) + len(element), len(content), f"'{path}'")
            kind = struct.unpack(order + "I", element[:4])[0] if len(element) >= TAG else 0
        # the flags come first: a tag of 8 bytes, then 4 of which the lowest is the class
        flags = element[2 * TAG : 2 * TAG + 4]
        if kind == MATRIX and len(flags) == 4 and struct.unpack(order + "I", flags)[0] & 0xFF in NUMERIC:
            if not _whole(element, order):
                raise DataError(f"'{path}' has a damaged array, expected {wanted}; download it again.")
            parts.append(element)
    return io.BytesIO(b"".join(parts))


def _whole(matrix: bytes, order: str) -> bool:
    """Whether the parts of an array (flags, sizes, name, values) are of known types and end within it."""
    place = TAG
    while place + TAG <= len(matrix):
        kind, count = struct.unpack(order + "II", matrix[place : place + TAG])
        if kind >> 16:  # up to 4 bytes stand in the tag itself, their number beside the type
            kind, count, taken = kind & 0xFFFF, kind >> 16, TAG
            if count > 4:
                return False
        else:
            taken = TAG + -(-count // 8) * 8
            if place + TAG + count > len(matrix):
                return False
        if kind not in STORED:
            return False
        place += taken
    return place >= TAG + 3 * TAG
