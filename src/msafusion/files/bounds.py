"""Building a network from options that somebody else wrote: it takes no more memory than is there for it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

MAKING: frozenset[Callable[..., Any]] = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.randint, torch.eye, torch.arange}
)
"""What makes the tensors of layers, and of the examples that networks are tried with, from sizes alone."""
COPYING: frozenset[Callable[..., Any]] = frozenset(
    {torch.cat, torch.stack, torch.tile, torch.repeat_interleave, Tensor.repeat, Tensor.tile, Tensor.repeat_interleave}
)
"""What makes tensors of others. Layers do so in each of many trial runs, so each is bounded by itself."""
MAX_RATIO, UNSUSPICIOUS = 4, 2**28
"""Building takes as much as the weights, little more; so many times their bytes, and so many beside, are no attack."""


class NetworkTooLarge(ValueError):
    """A network's options ask for more memory than there is for it."""


def memory() -> int | None:
    """Bytes of this machine; None: the system does not say (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def needed_for(weights: Mapping[str, Tensor]) -> int:
    """Bytes that may be taken to build a network with weights of such a size."""
    return MAX_RATIO * sum(tensor.nbytes for tensor in weights.values()) + UNSUSPICIOUS


@contextmanager
def at_most(most: int | None, there: str) -> Iterator[None]:
    """Refuse to make larger tensors, all counted together, before memory is taken for them.

    Args:
        most: bytes; None: any number.
        there: what the bound comes from, for the message.

    Raises:
        NetworkTooLarge: more are asked for.
    """
    if most is None:
        yield
        return
    with _Counting(most, there):
        yield


class _Counting(TorchFunctionMode):
    def __init__(self, most: int, there: str) -> None:
        super().__init__()
        self.most, self.there, self.taken = most, there, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in MAKING:
            outline = {name: value for name, value in kwargs.items() if name not in ("generator", "out", "pin_memory")}
            self.taken += self._size(func, args, {**outline, "device": "meta"})
            self._check(self.taken)
        elif func in COPYING and not any(isinstance(value, Tensor) for value in (*args[1:], *kwargs.values())):
            # repeats that are a tensor have values, which outlines lack
            args_there = pytree.tree_map_only(Tensor, lambda tensor: tensor.detach().to("meta"), args)
            self._check(self._size(func, args_there, {name: v for name, v in kwargs.items() if name != "out"}))
        return func(*args, **kwargs)

    @staticmethod
    def _size(func: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]) -> int:
        """Bytes of a tensor that is made, found without making it."""
        try:
            return func(*args, **kwargs).nbytes
        except (RuntimeError, TypeError) as error:
            return 2**63 if "overflow" in str(error).lower() else 0  # what else is wrong, the call itself will say

    def _check(self, size: int) -> None:
        if size > self.most:
            raise NetworkTooLarge(
                f"the network's options ask for more than {self.most / 1e9:,.1f} GB ({self.there}), expected less; "
                "choose smaller ones."
            )
