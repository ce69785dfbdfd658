"""Files of named arrays: `.npz`, `.safetensors` and `.h5`, whole arrays or row by row."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msafusion.failures import DataError
from msafusion.files.hdf5 import member, part
from msafusion.files.numpy_file import native, open_npz
from msafusion.files.reading import reading
from msafusion.text import note, texts_of

REMEDY = "write the file again"
OF_NUMPY = (torch.float16, torch.float32, torch.float64)


class ArrayFile:
    """Named arrays in one file; rows of `.h5` and `.safetensors` are read when they are asked for.

    It is opened once per process, so that loader processes do not share a file handle.

    Attributes:
        path: the file.
        names: of the arrays, in the file's order.

    Raises:
        DataError: no such file, an unknown ending, a broken file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.suffix not in (".npz", ".safetensors", ".h5", ".hdf5"):
            raise DataError(f"'{path}' ends in '{self.path.suffix}', expected .npz, .safetensors or .h5; convert it.")
        if not self.path.is_file():
            raise DataError(f"no file '{path}', expected arrays; check the path.")
        self._arrays: Any = None
        self._process = os.getpid()
        self.names = self._opened_names()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}

    def _open(self) -> Any:
        if self._process != os.getpid() and self.path.suffix != ".npz":  # a forked process opens its own
            self._arrays, self._process = None, os.getpid()
        if self._arrays is None:
            if self.path.suffix == ".npz":
                with open_npz(self.path) as arrays:
                    self._arrays = {name: read() for name, read in arrays.items()}
            elif self.path.suffix == ".safetensors":
                from safetensors import safe_open

                self._arrays = safe_open(self.path, framework="pt")  # NumPy has no bfloat16 and no float8
            else:
                import h5py

                self._arrays = h5py.File(self.path, "r")
        return self._arrays

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, "arrays", REMEDY)

    @property
    def _hdf5(self) -> bool:
        return self.path.suffix in (".h5", ".hdf5")

    def _opened_names(self) -> list[str]:
        with self._reading():
            arrays = self._open()
            if self.path.suffix == ".safetensors":
                for name in list(arrays.keys()):
                    if (kind := arrays.get_slice(name).get_dtype()).startswith(("BF", "F8")):
                        note(f"'{self.path}': '{name}' holds {kind}, read as float32.")
            return [name for name in list(arrays.keys()) if not self._hdf5 or member(arrays, name) is not None]

    def _array(self, name: str) -> Any:
        arrays = self._open()
        if self.path.suffix == ".safetensors":
            return arrays.get_slice(name)
        return member(arrays, name) if self._hdf5 else arrays[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an array, without reading it."""
        with self._reading():
            array = self._array(name)
            return tuple(array.get_shape() if self.path.suffix == ".safetensors" else getattr(array, "shape", ()) or ())

    def numeric(self, name: str) -> bool:
        """Whether an array holds real numbers."""
        return self._kind(name) in "biuf"

    def complex(self, name: str) -> bool:
        """Whether an array holds complex numbers."""
        return self._kind(name) == "c"

    def _kind(self, name: str) -> str:
        """Of an array's type, as NumPy has it; O: it has none."""
        if self.path.suffix == ".safetensors":
            with self._reading():
                return "c" if self._array(name).get_dtype().startswith("C") else "f"
        with self._reading():
            dtype = getattr(self._array(name), "dtype", None)
        return "O" if dtype is None else dtype.kind

    def row(self, name: str, index: int) -> np.ndarray:
        """One row, as numbers."""
        with self._reading():
            return _as_numpy(self._array(name)[index])

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows from `start` to before `stop`, or the last."""
        with self._reading():
            array = self._array(name)
            return part(array, start, stop) if self._hdf5 else _as_numpy(array[start:stop])

    def spread(self, name: str, number: int, values: int) -> list[np.ndarray]:
        """Some rows, evenly spread: at most so many, and of so many values in all, but one at least."""
        each, there = self.row(name, 0).size, self.shape(name)[0]
        some = max(1, min(number, there, values // max(1, each)))
        return [self.row(name, int(index)) for index in np.linspace(0, there - 1, some)]

    def whole(self, name: str) -> np.ndarray:
        """A whole array."""
        with self._reading():
            array = self._array(name)
            return part(array) if self._hdf5 else _as_numpy(array[:])

    def texts(self, name: str) -> list[str]:
        """A whole array of one axis as text: names, or numbers, see `texts_of`.

        Raises:
            DataError: it has more axes, or holds what has no text, or text in another coding than UTF-8.
        """
        values = self.whole(name)
        if values.ndim != 1:
            raise DataError(f"'{self.path}': '{name}' has shape {values.shape}, expected (n,); {REMEDY}.")
        with self._reading():
            if values.dtype.kind in "mM":  # as text first: NumPy gives dates of nanoseconds as numbers
                entries = [None if text == "NaT" else text for text in values.astype(str).tolist()]
            else:
                entries = values.tolist()
        try:
            return texts_of(entries)
        except ValueError as error:
            raise DataError(f"'{self.path}', {name}: {error}.") from None


def _as_numpy(values: Any) -> np.ndarray:
    """An array; of PyTorch a copy, as the file is mapped, and float32 of types that NumPy lacks."""
    if not isinstance(values, torch.Tensor):
        return native(np.asarray(values))
    lacking = values.is_floating_point() and values.dtype not in OF_NUMPY
    return values.float().numpy() if lacking else values.numpy().copy()
