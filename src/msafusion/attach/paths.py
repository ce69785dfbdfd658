"""Paths to the tensors in what a module gives: how to get one, how to exchange one, how to name them."""

import copy
from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import Tensor

Path = tuple[int | str, ...]
"""Keys that lead from a module's output to one tensor in it; () is the output itself."""


def get(output: Any, path: Path) -> Any:
    """What is at `path` of a module's output: a tensor, or the output itself."""
    for key in path:
        output = output[key]
    return output


def put(output: Any, path: Path, tensor: Tensor) -> Any:
    """A module's output with the tensor at `path` exchanged; the original is left as it is."""
    if not path:
        return tensor
    key, inner = path[0], put(output[path[0]], path[1:], tensor)
    if isinstance(output, MutableMapping):
        changed = copy.copy(output)  # keeps OrderedDict, ModelOutput and other kinds of dict what they are
        changed[key] = inner
        return changed
    if isinstance(output, Mapping):
        return {**output, key: inner}
    items = [inner if i == key else item for i, item in enumerate(output)]
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


def describe(output: Any) -> str:
    """A module's output, worded for an error message."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)} and type {output.dtype}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with keys {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {', '.join(type(item).__name__ for item in output) or 'nothing'}"
    return f"a {type(output).__name__}"
