"""What a network's input holds: which tensor has its batch and time, and the rows of one sample."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from msafusion.attach.paths import with_items

PLAIN = (bool, int, float, complex, str, bytes, type(None))
MAIN = ("input_ids", "inputs_embeds", "input_values", "input_features")
"""Names of the inputs, in transformers, that `attention_mask` and `lengths` are of."""


def zero_rows(value: Any, present: Tensor, axis: int = 0) -> Any:
    """A floating-point tensor with zeros for the samples not present; any other value as it is."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.dim():
        return value
    if value.shape[axis] != present.shape[0]:
        return value
    shape = [1] * value.dim()
    shape[axis] = present.shape[0]
    return value.masked_fill(~present.reshape(shape), 0)


def is_ragged(given: Any) -> bool:
    """Whether an input is a list of tensors of unequal sizes: one for each sample."""
    if not isinstance(given, list) or not all(isinstance(value, Tensor) and value.dim() for value in given):
        return False
    return len({len(value) for value in given}) > 1


def zeros(value: Any) -> Any:
    """The same with zeros in its floating-point tensors."""
    return pytree.tree_map_only(Tensor, lambda x: torch.zeros_like(x) if x.is_floating_point() else x, value)


def fresh(value: Any) -> Any:
    """A copy for one trial run: networks may change what they are given in place (inputs, caches)."""

    def copied(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.detach().clone().requires_grad_(leaf.requires_grad)
        try:
            return leaf if isinstance(leaf, PLAIN) else copy.deepcopy(leaf)
        except Exception:  # what cannot be copied is given as it is
            return leaf

    if isinstance(value, PackedSequence):
        return value._replace(data=copied(value.data))
    if isinstance(value, Mapping):  # of any type
        return {key: fresh(one) for key, one in value.items()}
    return pytree.tree_map(copied, value)


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """The same with other tensors, in containers of any type, dataclasses among them; the original stays as it is.

    Raises:
        TypeError: an object of another type holds tensors, which cannot be exchanged.
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping | tuple | list):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        return with_items(value, {key: map_tensors(function, one) for key, one in pairs})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for one in dataclasses.fields(value):
            object.__setattr__(changed, one.name, map_tensors(function, getattr(value, one.name)))
        return changed
    if any(isinstance(one, Tensor) for one in getattr(value, "__dict__", {}).values()):
        raise TypeError(type(value).__name__)
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """The floating-point tensors in containers of any type, in order."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            found.append(tensor)
        return tensor

    with contextlib.suppress(TypeError):  # objects that are not containers have none to tell
        map_tensors(note, value)
    return found


def zero_packed(given: PackedSequence, present: Tensor) -> PackedSequence:
    """Packed sequences with zeros for the samples not present."""
    here = present if given.sorted_indices is None else present[given.sorted_indices]
    rows = torch.cat([here[: int(size)] for size in given.batch_sizes]).to(given.data.device)
    return given._replace(data=zero_rows(given.data, rows))


def main_tensor(given: Any) -> Tensor:
    """The tensor of a network's input that has the batch and time axes: the first with two axes at least.

    Raises:
        ValueError: the input holds no tensor.
    """
    if isinstance(given, PackedSequence):
        return given.data
    values = list(given.values()) if isinstance(given, Mapping) else given
    tensors = [value for value in pytree.tree_leaves(values) if isinstance(value, Tensor)]
    if not tensors:
        raise ValueError(
            f"a network's input is a {type(given).__name__}, expected a tensor, or a tuple or dict with one."
        )
    return next((tensor for tensor in tensors if tensor.dim() > 1), tensors[0])


def timed_tensor(given: Any) -> Tensor:
    """The tensor of a network's input whose steps `attention_mask` and `lengths` count.

    The one called so in transformers, another one as long as the mask, or the main tensor.
    """
    if isinstance(given, Mapping):
        mask = given.get("attention_mask")
        for key in MAIN:
            if isinstance(given.get(key), Tensor):
                return given[key]
        if isinstance(mask, Tensor) and mask.dim() == 2:
            for value in given.values():
                if isinstance(value, Tensor) and value is not mask and mask.shape[1] in value.shape[1:]:
                    return value
    return main_tensor(given)
