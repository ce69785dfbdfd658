"""What each contender costs: parameters, FLOPs, latency, and the most memory that a training step takes."""

import statistics
import time
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from msafusion.attach import FusedNetwork
from msafusion.summary import summarise

ROUNDS = 7
"""Timed forwards of each network; all networks take turns, so that a slow moment of the machine meets all of them."""


class _PeakMemory(TorchDispatchMode):
    """The most bytes of tensors that were alive at once and made under this mode; on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak = 0, 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in pytree.tree_leaves(result):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if storage not in self._known:
                    self._known.add(storage)
                    self.alive += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return result

    def _freed(self, size: int) -> None:
        self.alive -= size


def training_peak(network: FusedNetwork, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor]) -> int:
    """Bytes that a forward and a backward pass take beyond weights and inputs, gradients included."""
    network.train()
    memory = _PeakMemory()
    with memory:
        network(inputs, lengths).square().mean().backward()
    network.zero_grad(set_to_none=True)
    return memory.peak


def costs_of(
    networks: Mapping[str, FusedNetwork], inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Of each network: parameters; flops and latency_ms of one batch in eval mode; peak_bytes of a training step.

    Args:
        networks: name -> network, which may take some of the streams only.
        inputs: one batch.
        lengths: real steps, by stream.
    """
    costs: dict[str, dict[str, float]] = {}
    given: dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]] = {}
    for name, network in networks.items():
        own = {stream: values for stream, values in inputs.items() if stream in network.networks}
        known = {stream: length for stream, length in lengths.items() if stream in own}
        given[name] = own, known
        whole = summarise(network, own, repeats=1)[-1]
        costs[name] = {"parameters": whole.parameters, "flops": whole.flops}
        costs[name]["peak_bytes"] = training_peak(network, own, known)
        network.eval()
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.no_grad():
        for _ in range(ROUNDS):
            for name, network in networks.items():
                start = time.perf_counter()
                network(*given[name])
                seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        costs[name]["latency_ms"] = 1000 * statistics.median(times)
    return costs
