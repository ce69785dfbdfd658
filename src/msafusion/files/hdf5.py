"""HDF5 files from strangers: no other file is opened, and no data set grows beyond what the file's size allows."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msafusion.files.reading import allowed, check_shape
from msafusion.preprocessing import DataError

ROWS_OF_TEXT = 64
"""Rows of texts of any length that are read at once: each may be the same long one."""
ENTRY = np.dtype([("length", "<u4"), ("place", "V12")])
"""What stands in a data set for a text of any length, where addresses have 8 bytes."""
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
"""Filters of HDF5 that h5py and PyTables use for texts."""


def member(group: Any, name: str) -> Any:
    """A group or a data set in a group; None where there is none.

    Raises:
        DataError: a link leads to it, which may leave the file or go in a circle, or `check_dataset` refuses it.
    """
    import h5py

    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or (link := group.get(part, getlink=True)) is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise DataError(
                f"'{group.file.filename}': '{part}' is a link to '{getattr(link, 'path', '')}', expected the data "
                "itself; copy them into the file."
            )
        group = group[part]
    if isinstance(group, h5py.Dataset):
        check_dataset(group)
    return group


def check_dataset(values: Any) -> None:
    """Refuse a data set whose values lie in other files, or that declares more than its file can hold.

    Raises:
        DataError: it is such a one.
    """
    path = values.file.filename
    if values.external or values.is_virtual:
        raise DataError(f"'{path}': '{values.name}' keeps its values in other files, expected them here; copy them in.")
    if values.dtype.kind == "O" and _kind_of_text(values) is None:
        raise DataError(f"'{path}': '{values.name}' holds {values.dtype} of any length, expected numbers or text.")
    size, what = Path(path).stat().st_size, f"'{path}', '{values.name}'"
    check_shape(values.shape or (), values.dtype.itemsize, size, what)
    if values.chunks:
        check_shape(values.chunks, values.dtype.itemsize, size, f"one chunk of {what}")


def _check_texts(values: Any, size: int, what: str) -> None:
    """Refuse texts longer than the file: HDF5 takes memory for the length that an entry declares, then looks for it.

    Raises:
        DataError: there is one, or the entries lie in a form that h5py does not write.
    """
    for entries in _stored(values, size, what):
        lengths = np.frombuffer(entries[: len(entries) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)["length"]
        if len(lengths) and (longest := int(lengths.max())) > size:
            raise DataError(f"{what} declares a text of {longest:,} bytes in a file of {size:,}; get the file again.")


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
    if odd := set(filters) - {DEFLATE, SHUFFLE, FLETCHER32}:
        raise DataError(f"{what} packs texts by the filter {min(odd)}, expected gzip or none; save it again.")
    room = ENTRY.itemsize * int(np.prod(values.chunks)) + 4  # with a checksum
    for number in range(kept.get_num_chunks()):
        skipped, packed = kept.read_direct_chunk(kept.get_chunk_info(number).chunk_offset)
        for place, kind in reversed(list(enumerate(filters))):
            if skipped >> place & 1:
                continue
            if kind == DEFLATE:
                packed = zlib.decompressobj().decompress(packed, room)
            elif kind == FLETCHER32:
                packed = packed[:-4]
            else:  # all first bytes of the entries, then all second ones
                packed = np.frombuffer(packed, np.uint8).reshape(ENTRY.itemsize, -1).T.tobytes()
        yield packed


def _kind_of_text(values: Any) -> Any:
    import h5py

    return h5py.check_string_dtype(values.dtype)


def part(values: Any, first: int = 0, last: int | None = None) -> np.ndarray:
    """Some rows of a data set; texts of any length are read block by block, as long as they fit.

    Raises:
        DataError: the texts grow beyond what the file's size allows; see `_check_texts`.
    """
    if values.dtype.kind != "O":
        return np.asarray(values[first:last])
    size = Path(values.file.filename).stat().st_size
    _check_texts(values, size, f"'{values.file.filename}', '{values.name}'")
    total, blocks = 0, []
    for start in range(*slice(first, last).indices(len(values))[:2], ROWS_OF_TEXT):
        block = np.asarray(values[start : min(start + ROWS_OF_TEXT, len(values) if last is None else last)])
        total += sum(len(text) for text in block.ravel())
        if total > allowed(size):
            raise DataError(f"'{values.file.filename}': the texts of '{values.name}' grow absurdly; get it again.")
        blocks.append(block)
    return np.concatenate(blocks) if blocks else np.empty((0, *values.shape[1:]), object)
