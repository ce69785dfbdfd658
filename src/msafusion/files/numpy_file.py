"""Files of numpy, `.npy` and `.npz`, of which no more memory is taken than their bytes fill."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from msafusion.failures import DataError
from msafusion.files.reading import check_shape, check_size
from msafusion.files.zip_file import members_of

BLOCK = 1 << 24
MAX_HEADER = 1 << 16
"""Bytes; numpy refuses longer ones, too, but only after it made room for as many as are declared, up to 4 GB."""


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran order, and type of the `.npy` that begins here."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version not in ((2, 0), (3, 0)):
        raise ValueError(f"its format has the version {version}, which does not exist")
    return np.lib.format.read_array_header_2_0(_Header(file))  # 3.0 is the same with other letters


class _Header:
    """A file of which little is read at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise ValueError(f"its header would have {size:,} bytes")
        return self.file.read(size)


def read_npy(file: IO[bytes], size: int, what: str) -> np.ndarray:
    """The array of a `.npy` stream.

    Args:
        file: where it begins.
        size: bytes that it has in all.
        what: it is, for messages.

    Raises:
        DataError: it holds Python objects, or is shorter than its header says.
    """
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects, expected numbers or text; save it with a type of its own.")
    needed = check_shape(shape, dtype.itemsize, size, what)
    if needed > size:
        raise DataError(f"{what} declares {needed:,} bytes and has {size:,}, expected all of them; get the file again.")
    values = np.empty(shape, dtype, order="F" if fortran else "C")
    # its bytes in the order in which they lie in memory, without a copy
    raw = values.reshape(-1, order="A").view(np.uint8) if needed else np.empty(0, np.uint8)
    done = 0
    while done < needed:
        block = file.read(min(BLOCK, needed - done))
        if not block:
            raise DataError(f"{what} ends after {done:,} of {needed:,} bytes, expected all; get the file again.")
        raw[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    return native(values)


def native(values: np.ndarray) -> np.ndarray:
    """In this machine's order of bytes, as PyTorch takes them."""
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


@contextmanager
def open_npz(path: Path) -> Iterator[dict[str, Any]]:
    """Name -> a call that reads the array, of the arrays in a `.npz`.

    Raises:
        DataError: the archive would grow far beyond its size (see `check_size`).
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = [member for member in members_of(archive) if not member.is_dir()]
        if odd := [m.filename for m in members if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]:
            raise DataError(f"'{path}' packs '{odd[0]}' in a way that numpy does not, expected deflate; save it again.")
        check_size(sum(member.file_size for member in members), size, f"'{path}'")

        def array(member: zipfile.ZipInfo) -> np.ndarray:
            with archive.open(member) as file:
                return read_npy(file, member.file_size, f"'{path}', '{member.filename.removesuffix('.npy')}'")

        yield {m.filename.removesuffix(".npy"): (lambda m=m: array(m)) for m in members}


def map_npy(path: Path) -> np.ndarray:
    """The array in a `.npy` file, mapped into memory.

    Raises:
        DataError: it declares more than the file has.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        shape, _, dtype = read_header(file)
    check_shape(shape, dtype.itemsize, size, f"'{path}'")
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise DataError(f"'{path}' holds an archive, expected one array; save it again.")
    return values
