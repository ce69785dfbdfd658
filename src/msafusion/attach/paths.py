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
    pairs = output.items() if isinstance(output, Mapping) else enumerate(output)
    return with_items(output, {each: inner if each == key else item for each, item in pairs})


def with_items(container: Any, items: Mapping[Any, Any]) -> Any:
    """A copy of a mapping, a tuple or a list with other items: key or index -> item, for all of them."""
    if isinstance(container, MutableMapping):
        changed = copy.copy(container)  # keeps OrderedDict, ModelOutput and other kinds of dict what they are
        for key, item in items.items():
            changed[key] = item
        return changed
    if isinstance(container, Mapping):
        return dict(items)
    parts = list(items.values())
    return type(container)(*parts) if hasattr(container, "_fields") else type(container)(parts)


def describe(output: Any) -> str:
    """A module's output, worded for an error message."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)} and type {output.dtype}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with keys {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {', '.join(type(item).__name__ for item in output) or 'nothing'}"
    return f"a {type(output).__name__}"
