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


ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # before numpy 2 and since
        for module, name, function in (
            ("multiarray", "_reconstruct", np.zeros(1).__reduce__()[0]),
            ("multiarray", "scalar", np.float64(0).__reduce__()[0]),
            ("numeric", "_frombuffer", np.zeros(1).__reduce_ex__(5)[0]),
        )
    },
}
"""All that a pickle may name."""


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
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
        raise DataError(
            f"'{name}' is not a pickle of plain arrays ({error}), expected numpy arrays and plain containers only; "
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
            return np.load(io.BytesIO(file.read()), allow_pickle=False)
        loaded = load_plain_pickle(file, str(path))
    return loaded.item() if shape == () and isinstance(loaded, np.ndarray) else loaded
