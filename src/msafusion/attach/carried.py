"""What modules carry from call to call, put back after trial runs: running statistics, states, counters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy

PLAIN = (bool, int, float, str, type(None), Tensor)


@dataclass(frozen=True)
class Carried:
    """Buffers, tensors and plain values of one module.

    Numbers belong to it as much as tensors: a table that grows with the longest input has its length beside it.
    Containers are left as they are.
    """

    part: nn.Module
    parts: frozenset[str]
    values: Mapping[str, Any]
    copies: Mapping[str, Tensor]

    @classmethod
    def of(cls, part: nn.Module) -> "Carried":
        """As they are now."""
        if isinstance(part, torch.jit.ScriptModule):  # keeps them in C++
            return cls(part, frozenset(), {}, {})
        values = {name: value for name, value in _own(part).items() if isinstance(value, PLAIN)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        copies = {name: value.detach().clone() for name, value in tensors.items() if _has_values(value)}
        return cls(part, _built(part), values, copies)

    def put_back(self) -> None:
        """Give the module what it had, unless its first input has built it, which is not undone."""
        if isinstance(self.part, torch.jit.ScriptModule) or self.parts != _built(self.part):
            return
        now = _own(self.part)
        for name, value in self.values.items():
            if name in now and now[name] is not value and isinstance(now[name], PLAIN):
                place = self.part._buffers if name in self.part._buffers else vars(self.part)
                place[name] = value
        for name, copy in self.copies.items():
            if not torch.equal(self.values[name], copy):
                self.values[name].detach().copy_(copy)


def _own(part: nn.Module) -> dict[str, Any]:
    return {**vars(part), **part._buffers}


def _built(part: nn.Module) -> frozenset[str]:
    """Names of submodules, and of parameters and buffers that are there and not lazy."""
    tensors = {**part._parameters, **part._buffers}
    there = [name for name, tensor in tensors.items() if tensor is None or not is_lazy(tensor)]
    return frozenset(
        [type(part).__name__, *part._modules, *part._parameters, *part._buffers, *(f"{n}!" for n in there)]
    )


def _has_values(tensor: Tensor) -> bool:
    return not (tensor.is_meta or is_lazy(tensor) or isinstance(tensor, FakeTensor))
