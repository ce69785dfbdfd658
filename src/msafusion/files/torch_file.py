"""Files of torch.save from strangers: their pickles are looked through before `torch.load` runs them.

`torch.load(weights_only=True)` runs no foreign code, but it nests as deeply as it is told, makes a byte array of any
length, and reads packed records of any size.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msafusion.failures import DataError
from msafusion.files.pickles import Machine
from msafusion.files.plain_data import Named, PickleError
from msafusion.files.reading import check_size
from msafusion.files.zip_file import members_of

OLD_PICKLES = 5
"""In files from before PyTorch 1.6: a mark, the version, the system, the object, the names of its storages."""
GROWING = ("bytearray", "Storage")
"""Endings of what takes memory when it is called with a number."""


class _Outline(Machine):
    """Follows a pickle without building what it names."""

    def named(self, module: str, name: str) -> Named:
        return Named(module, name)

    def call(self, function: Any, arguments: tuple) -> Any:
        if isinstance(function, Named) and function.name.endswith(GROWING) and arguments:
            raise PickleError(f"it calls {function}")
        return (
            {} if isinstance(function, Named) and function.name == "OrderedDict" else Named("a call of", str(function))
        )

    def build(self, instance: Any, state: Any) -> None:
        pass

    def persistent(self, name: Any) -> Any:
        return Named("a", "storage")

    def finished(self, result: Any) -> None:
        pass


def check_torch_file(path: Path, remedy: str = "get the file again") -> None:
    """Refuse a file that would take more memory than its size allows, or end the process.

    Raises:
        DataError: it would.
    """
    size = path.stat().st_size
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = members_of(archive)
                check_size(sum(member.file_size for member in members), size, f"'{path}'")
                for member in members:
                    if member.filename.endswith("data.pkl"):
                        with archive.open(member) as file:
                            _Outline(file, member.file_size).run()
            return
        with path.open("rb") as file:
            for _ in range(OLD_PICKLES):
                _Outline(file, size).run()
    except ValueError as error:  # also of pickletools
        raise DataError(f"'{path}' is not loaded: {error}, which weights do not; {remedy}.") from None


def check_tensor(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is more than its bytes: of strides that repeat them, sparse, or without any.

    Raises:
        DataError: it is.
    """
    plain = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type != "meta"
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise DataError(
            f"the tensor '{name}' of shape {tuple(tensor.shape)} is not stored whole, expected all of its values; "
            "save a state dict of plain tensors."
        )
