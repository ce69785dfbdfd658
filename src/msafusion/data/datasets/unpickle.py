"""Pickles from strangers: numpy arrays and plain containers, and nothing else."""

import os
import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from msafusion.failures import DataError
from msafusion.files.numpy_file import read_header, read_npy
from msafusion.files.pickles import Machine
from msafusion.files.plain_data import Named, PickleError
from msafusion.files.reading import check_shape, error_text, reading

ADMITTED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")  # before numpy 2 and since
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
}
"""All that a pickle may name."""
PLAIN_TYPE = re.compile(r"[biufc?]\d{0,2}|[SUV]\d{0,9}|O8?")
ONLY = "numpy arrays and plain containers only"
REMEDY = "get the file again from its source, or convert it to .npz"
EMPTY: Any = np.zeros(1).__reduce__()[0]
"""numpy's own maker of an empty array, which its state fills."""


class _Type:
    """A type of numpy, which its state gives a byte order."""

    def __init__(self, code: str) -> None:
        if not PLAIN_TYPE.fullmatch(code):
            raise PickleError(f"an array has the type {code[:20]!r}")
        self.dtype = np.dtype(code)


class _ArrayMachine(Machine):
    def named(self, module: str, name: str) -> Named:
        return Named(module, name) if (module, name) in ADMITTED else super().named(module, name)

    def call(self, function: Any, arguments: tuple) -> Any:
        name = function.name if isinstance(function, Named) else ""
        match name, arguments:
            case "_reconstruct", (Named(name="ndarray"), (0,), "b" | b"b"):
                return EMPTY(np.ndarray, (0,), b"b")
            case "dtype", (str() as code, *_):
                return _Type(code)
            case "scalar", (_Type(dtype=dtype), data) if not dtype.hasobject:
                return np.frombuffer(self._content((), dtype, data), dtype)[0]
            case "_frombuffer", (data, _Type(dtype=dtype), tuple() as shape, "C" | "F" as order):
                return np.frombuffer(self._content(shape, dtype, data), dtype).reshape(shape, order=order)
            case "encode", (str() as text, "latin1"):
                self.charge(len(text))
                return text.encode("latin1")
            case "encode", (_, str() as codec):
                raise PickleError(f"codec {codec[:20]!r}")
        raise PickleError(f"it calls {function} in a way that arrays do not")

    def build(self, instance: Any, state: Any) -> None:
        match instance, state:
            case _Type(dtype=dtype), (int(), "<" | ">" | "|" | "=" as order, None, None, None, int(), int(), *_):
                instance.dtype = dtype.newbyteorder(order) if order in "<>" else dtype
            case np.ndarray(), (int(), tuple() as shape, _Type(dtype=dtype), bool() | 0 | 1 as fortran, data):
                content: Any = (1, shape, dtype, bool(fortran), self._content(shape, dtype, data))
                instance.__setstate__(content)
            case _:
                super().build(instance, state)

    def _content(self, shape: tuple, dtype: np.dtype, data: Any) -> Any:
        """What fills an array, checked to fill it exactly."""
        if isinstance(data, str):  # of Python 2
            data = data.encode("latin1")
        if not isinstance(data, list | bytes | bytearray):
            raise PickleError("an array is filled with what is neither bytes nor a list")
        needed = check_shape(shape, dtype.itemsize, self.size, "an array")
        given = len(data) * (dtype.itemsize if dtype.hasobject else 1)
        kinds = (list,) if dtype.hasobject else (bytes, bytearray)
        if type(data) not in kinds or given != needed:
            raise PickleError(f"an array {dtype} {str(shape)[:40]} is given {given:,} bytes, expected {needed:,}")
        self.charge(given)
        return data


def load_plain_pickle(file: IO[bytes], name: str) -> Any:
    """The object in a pickle that holds only numpy arrays, numbers, text, lists, tuples, sets and dicts.

    Nothing that the pickle names is called but what makes arrays; it takes no more memory than its size allows.

    Raises:
        DataError: the pickle names anything else (it could run code when loaded by `pickle`), or is broken.
    """
    with reading(name, ONLY, REMEDY):
        begin = file.tell()
        size = file.seek(0, os.SEEK_END) - begin
        file.seek(begin)
        try:
            return _ArrayMachine(file, size).run()
        except Exception as error:  # pickletools has its own, and damage makes numpy raise others
            raise DataError(
                f"'{name}' is not a pickle of plain arrays ({error_text(error)}), expected {ONLY}; {REMEDY}."
            ) from None


def load_plain_npy(path: Path) -> Any:
    """The object in an `.npy` file, also where numpy has pickled it; see `load_plain_pickle`.

    Raises:
        DataError: not an `.npy` file, or a pickle with anything but arrays and plain containers in it.
    """
    with reading(path, "an .npy file", "get it again from its source"), path.open("rb") as file:
        shape, _, dtype = read_header(file)
        if not dtype.hasobject:
            file.seek(0)
            return read_npy(file, path.stat().st_size, f"'{path}'")
        loaded = load_plain_pickle(file, str(path))
        return loaded.item() if shape == () and isinstance(loaded, np.ndarray) else loaded
