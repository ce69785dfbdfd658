"""HDF5 files from strangers: no other file is opened, and no data set grows beyond what the file's size allows."""

from pathlib import Path
from typing import Any

import numpy as np

from msafusion.failures import DataError
from msafusion.files.hdf5_texts import check_texts
from msafusion.files.numpy_file import native
from msafusion.files.reading import check_shape, max_size

ROWS_OF_TEXT = 64
"""Rows of texts of any length that are read at once: each may be the same long one."""


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


def _kind_of_text(values: Any) -> Any:
    import h5py

    return h5py.check_string_dtype(values.dtype)


def part(values: Any, first: int = 0, last: int | None = None) -> np.ndarray:
    """Some rows of a data set; texts of any length are read block by block, as long as they fit.

    Raises:
        DataError: the texts grow beyond what the file's size allows; see `check_texts`.
    """
    if values.dtype.kind != "O":
        return native(np.asarray(values[first:last]))
    size = Path(values.file.filename).stat().st_size
    check_texts(values)
    total, blocks = 0, []
    for start in range(*slice(first, last).indices(len(values))[:2], ROWS_OF_TEXT):
        block = np.asarray(values[start : min(start + ROWS_OF_TEXT, len(values) if last is None else last)])
        total += sum(len(text) for text in block.ravel())
        if total > max_size(size):
            raise DataError(
                f"'{values.file.filename}': the texts of '{values.name}' expand beyond the limit; get the file again."
            )
        blocks.append(block)
    return np.concatenate(blocks) if blocks else np.empty((0, *values.shape[1:]), object)
