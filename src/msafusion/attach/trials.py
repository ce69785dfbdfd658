"""Trial runs of one network, as far as its last fusion point, with its example changed along one axis."""

import contextlib
import functools
import random
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from msafusion.attach.containers import fresh, timed_tensor
from msafusion.attach.inputs import InputRule
from msafusion.attach.paths import Path, get

OTHERS = ("decoder_", "pixel_", "labels")
"""Names of inputs, in transformers, whose steps are never those of the main input, even where there are as many."""


class _Enough(BaseException):
    """All points have been seen; no network catches it."""


class Trials:
    """Runs a network, in eval mode, on variants of one example.

    Args:
        network: in eval mode already.
        rule: how it takes its input.
        given: the example.
        seen: for each stream of interest the submodule and the path in its output.
    """

    def __init__(self, network: nn.Module, rule: InputRule, given: Any, seen: Sequence[tuple[str, Path]]) -> None:
        self.network, self.rule, self.seen = network, rule, seen
        given = dict(given) if hasattr(given, "keys") else given
        keyed, self.spec = pytree.tree_flatten_with_path(given)
        self.keys = [pytree.keystr(path[:1]).strip("[]'") if path else "" for path, _ in keyed]
        self.leaves = [leaf for _, leaf in keyed]
        bearer, lengths = timed_tensor(given), rule.own_lengths(given)
        self.bearer = next(i for i, leaf in enumerate(self.leaves) if leaf is bearer)
        self.own_lengths = [i for i, leaf in enumerate(self.leaves) if leaf is lengths and lengths is not None]
        self.bearer_tensor, self.shape = bearer, tuple(bearer.shape)
        self.lengths: Tensor | None = None
        """For the network's own parameter `lengths`, where its input holds none; None: all steps are real."""

    def run(self, leaves: list[Any]) -> list[Any] | None:
        """What the streams (or whole outputs) are on these inputs; None: the network does not take them."""
        found: dict[int, Any] = {}
        hooks = []
        device = self.leaves[self.bearer].device
        modules = {submodule: self.network.get_submodule(submodule) for submodule, _ in self.seen}

        def note(submodule: str, output: Any) -> None:
            for index, (name, path) in enumerate(self.seen):
                if name == submodule and index not in found:
                    found[index] = get(output, path)
            if len(found) == len(self.seen):
                raise _Enough

        for name, module in modules.items():
            hook = functools.partial(lambda name, module, args, output: note(name, output), name)
            hooks.append(module.register_forward_hook(hook, prepend=True))
        try:
            with quiet(device):
                self.rule.call(self.network, pytree.tree_unflatten(fresh(leaves), self.spec), self.lengths, None)
        except _Enough:
            return [found[index] for index in range(len(self.seen))]
        except Exception:  # whatever a network says of an input of another size: it does not take it
            return None
        finally:
            for handle in hooks:
                handle.remove()
        return None

    def unchanged(self) -> list[Any]:
        """The inputs as they are, all steps of them real."""
        return [
            torch.ones_like(leaf) if key == "attention_mask" and isinstance(leaf, Tensor) else leaf
            for key, leaf in zip(self.keys, self.leaves, strict=True)
        ]

    def uneven(self, axis: int) -> list[Any] | None:
        """The inputs as three samples or more of unequal length, the first one neither the longest nor the shortest.

        Args:
            axis: of the main input's samples.

        Returns:
            None where nothing in the input tells lengths.
        """
        leaves, samples = self.unchanged(), max(self.shape[axis], 3)
        for i, leaf in enumerate(leaves):
            along = axis if i == self.bearer else 0
            if isinstance(leaf, Tensor) and leaf.dim() > along and leaf.shape[along] == self.shape[axis]:
                leaves[i] = leaf.index_select(along, torch.arange(samples, device=leaf.device) % leaf.shape[along])
        steps = self.rule.steps(pytree.tree_unflatten(leaves, self.spec))
        lengths = torch.full((samples,), steps, device=self.bearer_tensor.device)
        lengths[0], lengths[-1] = (steps + 1) // 2, (steps + 3) // 4
        told = self.rule.lengths_at is not None
        for i, (key, leaf) in enumerate(zip(self.keys, leaves, strict=True)):
            if i in self.own_lengths:
                leaves[i] = lengths.to(leaf)
            elif key == "attention_mask" and isinstance(leaf, Tensor) and tuple(leaf.shape) == (samples, steps):
                leaves[i] = (torch.arange(steps, device=leaf.device) < lengths.unsqueeze(1)).to(leaf)
                told = True
        self.lengths = lengths if self.rule.lengths_at is not None and not self.own_lengths else None
        return leaves if told and samples > 2 else None

    def followers(self, axis: int) -> list[tuple[int, int]]:
        """Other inputs with as many steps: (index, axis)."""
        steps, batch = self.shape[axis], self.shape[1 if axis == 0 else 0]
        result = []
        for i, leaf in enumerate(self.leaves):
            if i == self.bearer or i in self.own_lengths or not isinstance(leaf, Tensor):
                continue
            if self.keys[i].startswith(OTHERS) or leaf.dim() < 2:
                continue
            axes = [a for a in range(leaf.dim()) if leaf.shape[a] == steps and (a or steps != batch or axis == 0)]
            if axes:
                result.append((i, axis if axis in axes else axes[-1] if axes[0] == 0 and len(axes) > 1 else axes[0]))
        return result

    def resized(self, axis: int, steps: int, followers: Sequence[tuple[int, int]]) -> list[Any]:
        """The inputs with so many steps, cut or with the last one repeated; all of them real."""
        leaves = self.unchanged()
        for i, along in [(self.bearer, axis), *followers]:
            leaf = leaves[i]
            index = torch.arange(steps, device=leaf.device).clamp(max=leaf.shape[along] - 1)
            leaves[i] = leaf.index_select(along, index)
        for i in self.own_lengths:
            leaves[i] = torch.full_like(leaves[i], steps)
        return leaves

    def changed(self, axis: int, first: int, last: int, leaves: list[Any] | None = None) -> list[Any]:
        """The inputs (None: as they are) with other values at some steps of the main one, `first` to before `last`."""
        leaves = self.unchanged() if leaves is None else list(leaves)
        given = leaves[self.bearer].clone()
        at = given.narrow(axis, first, last - first)
        if given.is_floating_point():  # no constant, which a normalisation would take away
            noise = torch.randn(at.shape, generator=torch.Generator().manual_seed(first))
            at.add_(noise.to(at) * (at.detach().abs().mean() + 1))
        else:
            low, high = int(given.min()), int(given.max())
            other = high if high > low else max(low - 1, 1 - low)
            at.copy_(torch.where(at == low, other, low))
        leaves[self.bearer] = given
        return leaves


@contextlib.contextmanager
def quiet(device: torch.device) -> Iterator[None]:
    """The same random numbers for every trial, none taken from the user; no warnings."""
    devices = [device] if device.type == "cuda" else []
    pythons, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if device.type == "cpu":
                torch.default_generator.manual_seed(0)  # all devices' generators, by torch.manual_seed, take far longer
            else:
                torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)
