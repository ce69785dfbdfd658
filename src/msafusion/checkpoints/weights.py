"""Reading weights without running code, and telling exactly how they do not fit a module."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from msafusion.files.reading import reading
from msafusion.files.saved_model import ModelError, Shapes
from msafusion.files.torch_file import check_tensor, check_torch_file

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Entries under which checkpoints keep their weights beside epoch, optimizer and such."""


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """The tensors in a file of weights, read without running any code that it may hold.

    Raises:
        ModelError: the file is missing or broken, holds other things than tensors, or would need to run code.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> from msafusion.checkpoints import read_weights
        >>> with TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": torch.nn.Linear(3, 2).state_dict()}, f"{folder}/weights.pth")
        ...     weights = read_weights(f"{folder}/weights.pth")
        >>> {name: tuple(tensor.shape) for name, tensor in weights.items()}
        {'weight': (2, 3), 'bias': (2,)}
    """
    path = Path(file)
    if not path.is_file():
        raise ModelError(f"no file '{path}', expected weights (.safetensors, .pth, .pt); check the path.")
    with reading(path, "weights", "get the file again", ModelError):
        if path.suffix == ".safetensors":
            return unwrap_checkpoint(load_file(path))
        content = _loaded(path)
        if not isinstance(content, Mapping):
            raise ModelError(
                f"'{path}' holds a {type(content).__name__}, expected a state dict; save the weights alone."
            )
        return unwrap_checkpoint(content)


def _loaded(path: Path) -> Any:
    """What torch.save wrote, read without running code."""
    try:
        check_torch_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        culprit = re.search(r"GLOBAL (\S+)", str(error))
        found = f"it asks for {culprit[1]}" if culprit else "it holds more than tensors, or is not a file of weights"
        raise ModelError(
            f"'{path}' is not loaded: {found}, and weights are read without running code; where you trust "
            "it, save its state dict instead: torch.save(model.state_dict(), file)."
        ) from None


def weights_of(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a file, or in what was read from one.

    Raises:
        ModelError: it is neither, or holds no weights.
    """
    if not isinstance(source, Mapping | str | Path):
        raise ModelError(
            f"got a {type(source).__name__}, expected a file of weights or a state dict; pass one of them."
        )
    return unwrap_checkpoint(source) if isinstance(source, Mapping) else read_weights(source)


def unwrap_checkpoint(checkpoint: Mapping[str, object]) -> dict[str, Tensor]:
    """The weights in a checkpoint, without what is saved beside them and without DataParallel's `module.`.

    Raises:
        ModelError: there are none.
    """
    found: object = checkpoint
    for name in WRAPPERS:
        if isinstance(checkpoint.get(name), Mapping):
            found = checkpoint[name]
    assert isinstance(found, Mapping)
    weights = {str(key).removeprefix("module."): value for key, value in found.items() if isinstance(value, Tensor)}
    if not weights or len(weights) < len(found):
        odd = next((f"{key} is a {type(v).__name__}" for key, v in found.items() if not isinstance(v, Tensor)), "")
        raise ModelError(
            f"the checkpoint holds {len(weights)} tensors among {len(found)} entries ({odd or 'nothing else'}), "
            "expected a state dict; give the weights themselves, or keep them under 'state_dict'."
        )
    for key, value in weights.items():
        check_tensor(key, value)
    return {key: value if value.dim() else value.clone() for key, value in weights.items()}


def counters_of(shapes: Shapes) -> dict[str, Tensor]:
    """Zeros for batch norm's counters, which weights from before PyTorch 0.4.1 or from TensorFlow lack."""
    return {key: torch.zeros((), dtype=torch.long) for key in shapes if key.endswith("num_batches_tracked")}
