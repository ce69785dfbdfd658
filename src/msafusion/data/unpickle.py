"""Reading pickles that come from strangers: numpy arrays and plain containers, and nothing else."""

import io
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msafusion.samples import DataError


def _encode(text: str, encoding: str) -> bytes:
    """How pickle's protocol 2 stores bytes; the one codec it uses."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


NDARRAY = object()
"""Stands for numpy.ndarray, which a sound pickle only names for `_reconstruct`: calling it could take all memory."""
_empty_array: Any = np.zeros(1).__reduce__()[0]


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which its state fills; numpy pickles begin with no other."""
    if kind is not NDARRAY or shape != (0,):
        raise pickle.UnpicklingError(f"an array begins with the shape {shape}")
    return _empty_array(np.ndarray, shape, code)


ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # before numpy 2 and since
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", np.float64(0).__reduce__()[0]),
            ("numeric", "_frombuffer", np.zeros(1).__reduce_ex__(5)[0]),
        )
    },
}
"""All that a pickle may name."""
BROKEN = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, AttributeError, KeyError),
    *(MemoryError, OverflowError, RecursionError),
)
"""What the bytes of a pickle can make the machine raise."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return ADMITTED[module, name]


def load_plain_pickle(file: BinaryIO, name: str) -> Any:
    """The object in a pickle that holds only numpy arrays, numbers, text, lists, tuples, sets and dicts.

    Raises:
        DataError: the pickle names anything else (it could run code when loaded by `pickle`), or is broken.
    """
    try:
        return _PlainUnpickler(file).load()
    except BROKEN as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"'{name}' is not a pickle of plain arrays ({said}), expected numpy arrays and plain containers only; "
            "get the file again from its source, or convert it to .npz."
        ) from None


def load_plain_npy(path: Path) -> Any:
    """The object in an `.npy` file, also where numpy has pickled it; see `load_plain_pickle`.

    Raises:
        DataError: not an `.npy` file, or a pickle with anything but arrays and plain containers in it.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
        except ValueError as error:
            raise DataError(f"'{path}' is not an .npy file ({error}); get it again from its source.") from None
        if not dtype.hasobject:
            file.seek(0)
            try:
                return np.load(io.BytesIO(file.read()), allow_pickle=False)
            except (ValueError, MemoryError, OverflowError) as error:
                raise DataError(f"'{path}' is a torn .npy file ({error}); get it again from its source.") from None
        loaded = load_plain_pickle(file, str(path))
    return loaded.item() if shape == () and isinstance(loaded, np.ndarray) else loaded
