"""What modules carry from call to call, put back after trial runs: running statistics, states, counters, generators."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy

KEPT = (bool, int, float, str, type(None), Tensor, tuple, list, dict)
"""Types of the values that are put back: an LSTM's state may be a tuple, or in a dict."""
Generator = torch.Generator | random.Random | np.random.Generator | np.random.RandomState


@dataclass(frozen=True)
class Carried:
    """Buffers, tensors and plain values of one module.

    Numbers belong to it as much as tensors: a table that grows with the longest input has its length beside it.
    Containers that are exchanged for others are put back, but not what is changed inside them.
    """

    part: nn.Module
    parts: frozenset[str]
    values: Mapping[str, Any]
    copies: Mapping[str, Tensor]
    generators: Sequence[tuple[Generator, Any]] = ()

    @classmethod
    def of(cls, part: nn.Module) -> "Carried":
        """As they are now."""
        if isinstance(part, torch.jit.ScriptModule):  # keeps them in C++
            return cls(part, frozenset(), {}, {})
        values = {name: value for name, value in _own(part).items() if isinstance(value, KEPT)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        copies = {name: value.detach().clone() for name, value in tensors.items() if _has_values(value)}
        generators = [(one, _state_of(one)) for one in vars(part).values() if isinstance(one, Generator)]
        return cls(part, _built(part), values, copies, generators)

    def put_back(self) -> None:
        """Give the module what it had, unless its first input has built it, which is not undone."""
        if isinstance(self.part, torch.jit.ScriptModule) or self.parts != _built(self.part):
            return
        now = _own(self.part)
        for name, value in self.values.items():
            if name in now and now[name] is not value and isinstance(now[name], KEPT):
                place = self.part._buffers if name in self.part._buffers else vars(self.part)
                place[name] = value
        for name, copy in self.copies.items():
            if not torch.equal(self.values[name], copy):
                self.values[name].detach().copy_(copy)
        for generator, state in self.generators:
            _set_state(generator, state)


def _state_of(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _set_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


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
