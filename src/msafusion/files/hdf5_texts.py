"""Texts of any length in HDF5 files from strangers, looked through before HDF5 reads them.

A data set of such texts holds an entry for each: its length, and where it lies in a collection ("global heap")
elsewhere in the file. HDF5 takes memory for the length that an entry declares before it looks for the text, and goes
round in circles in a collection whose objects have no size. The format: HDF5 File Format Specification, III.E.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msafusion.failures import DataError

ENTRY = np.dtype([("length", "<u4"), ("collection", "<u8"), ("index", "<u4")])
"""What stands for a text, where addresses have 8 bytes."""
DEFLATE, SHUFFLE, LZF = 1, 2, 32000
"""Filters of HDF5 that h5py and PyTables use for texts; others do not work with them."""
COLLECTION, OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HHIQ")
"""What a collection begins with: signature, version, its size; and each object in it: index, users, nothing, size."""


def check_texts(values: Any) -> None:
    """Refuse a data set of texts that HDF5 would read endlessly, or take more memory for than the file has bytes.

    Raises:
        DataError: it is one, or its entries lie in a form that h5py does not write.
    """
    path = Path(values.file.filename)
    size, what = path.stat().st_size, f"'{path}', '{values.name}'"
    collections = set[int]()
    for stored in _stored(values, size, what):
        entries = np.frombuffer(stored[: len(stored) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
        if len(entries) and (longest := int(entries["length"].max())) > size:
            raise DataError(f"{what} declares a text of {longest:,} bytes in a file of {size:,}; get the file again.")
        collections.update(entries["collection"][entries["length"] > 0].tolist())
    left = size  # they do not overlap
    with path.open("rb") as file:
        for place in collections:
            left -= _checked(file, place, left, what)


def _checked(file: BinaryIO, place: int, most: int, what: str) -> int:
    """The size of the collection at a place (bytes), after looking through its objects."""
    file.seek(min(place, 2**62))
    header = file.read(COLLECTION.size)
    signature, version, size = COLLECTION.unpack(header) if len(header) == COLLECTION.size else (b"", 0, 0)
    if signature != b"GCOL" or version != 1 or not COLLECTION.size <= size <= most:
        raise DataError(f"{what} has texts where there are none, at byte {place:,}; get the file again.")
    content, at = file.read(size - COLLECTION.size), 0
    while at + OBJECT.size <= len(content):
        index, _, _, length = OBJECT.unpack_from(content, at)
        step = OBJECT.size + -(-length // 8) * 8 if index else length  # number 0 is what is free, with its header
        if not OBJECT.size <= step <= len(content) - at:
            raise DataError(f"{what}: a text at byte {place + at:,} has a wrong size; get the file again.")
        at += step
    return size


def _stored(values: Any, size: int, what: str) -> Iterator[bytes]:
    """The bytes of a data set as they are before HDF5 converts them, block by block."""
    kept, path = values.id, values.file.filename
    if values.file.id.get_create_plist().get_sizes()[0] != 8:
        raise DataError(f"{what} has addresses of another size than 8 bytes, expected these; save it again.")
    if not values.chunks:
        if (place := kept.get_offset()) is None:
            if kept.get_storage_size():
                raise DataError(f"{what} keeps texts in its header, expected them as data; save it again.")
            return
        with open(path, "rb") as file:
            file.seek(place)
            yield file.read(min(kept.get_storage_size(), size))
        return
    plan = kept.get_create_plist()
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if odd := set(filters) - {DEFLATE, SHUFFLE, LZF}:
        raise DataError(f"{what} packs texts by the filter {min(odd)}, expected gzip, LZF or none; save it again.")
    room = ENTRY.itemsize * int(np.prod(values.chunks))
    for number in range(kept.get_num_chunks()):
        skipped, packed = kept.read_direct_chunk(kept.get_chunk_info(number).chunk_offset)
        for place, kind in reversed(list(enumerate(filters))):
            if skipped >> place & 1:
                continue
            if kind == DEFLATE:
                packed = zlib.decompressobj().decompress(packed, room)
            elif kind == LZF:
                packed = _without_lzf(packed, room)
            else:  # all first bytes of the entries, then all second ones
                packed = np.frombuffer(packed, np.uint8).reshape(ENTRY.itemsize, -1).T.tobytes()
        yield packed


def _without_lzf(packed: bytes, room: int) -> bytes:
    """What LZF makes of a block, by h5py's own code, as bytes that stand for nothing."""
    import h5py

    with h5py.File("lzf", "w", driver="core", backing_store=False) as scratch:  # in memory
        values = scratch.create_dataset("block", (room,), np.uint8, chunks=(room,), compression="lzf")
        values.id.write_direct_chunk((0,), packed)
        return values[:].tobytes()
