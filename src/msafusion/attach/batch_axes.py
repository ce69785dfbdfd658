"""On which axes of a network's inputs and outputs its samples lie, found by giving it one sample more."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from msafusion.attach.containers import fresh, is_ragged, main_tensor, tensors_of
from msafusion.attach.inputs import InputRule
from msafusion.attach.trials import quiet

Axes = dict[int, int | None]
"""Number of an input's leaf -> the axis of its samples; None: it is the same for all samples."""


def find_batch_axes(network: nn.Module, rule: InputRule, given: Any, output: Any) -> None:
    """Set `rule.input_axes` and `rule.output_axes`, by trial where sizes alone do not tell them.

    Args:
        network: in eval mode.
        rule: how it takes its input.
        given: its example.
        output: what it gave for that.
    """
    if isinstance(given, PackedSequence) or is_ragged(given) or not rule.counts_batch or main_tensor(given).is_meta:
        return
    trials = _Trials(network, rule, given)
    outputs = tensors_of(output)
    odd = [tensor for tensor in outputs if tensor.dim() and tensor.shape[0] != trials.batch]
    certain = {i: None for i in trials.tensors if i not in trials.choices}
    certain |= {i: axes[0] for i, axes in trials.choices.items() if i == trials.main}
    rule.input_axes = {trials.keys[i]: axis for i, axis in certain.items()}
    if not trials.batch or (rule.batch_axis == 0 and not odd and len(trials.choices) < 2):
        return
    assigned = trials.first_that_runs()
    if assigned is None:
        return
    axes, more = assigned
    rule.input_axes |= {trials.keys[i]: None if trials.is_same_for_all(i, axes) else axes[i] for i in trials.choices}
    if len(more) == len(outputs):
        rule.output_axes = tuple(_grown(one, other) for one, other in zip(outputs, more, strict=True))


class _Trials:
    """Runs of a network, to its end, with one sample more in some of its inputs."""

    def __init__(self, network: nn.Module, rule: InputRule, given: Any) -> None:
        self.network, self.rule, self.batch = network, rule, rule.batch(given)
        given = dict(given) if isinstance(given, Mapping) else given
        keyed, self.spec = pytree.tree_flatten_with_path(given)
        self.keys, self.leaves = [pytree.keystr(path) for path, _ in keyed], [leaf for _, leaf in keyed]
        main = main_tensor(given)
        self.main = next(i for i, leaf in enumerate(self.leaves) if leaf is main)
        self.tensors = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        self.choices: dict[int, list[int]] = {}
        """Leaf -> the axes that are as long as there are samples."""
        for i in self.tensors:
            usual = [rule.batch_axis] if i == self.main else dict.fromkeys((rule.batch_axis, 0))
            axes = [a for a in usual if self.leaves[i].dim() > a and self.leaves[i].shape[a] == self.batch]
            if axes:
                self.choices[i] = axes

    def run(self, axes: Axes, changed: int | None = None) -> list[Tensor] | None:
        """The tensors in the network's output; None: it does not take these inputs.

        Args:
            axes: of the leaves that get one sample more.
            changed: the leaf that gets other values.
        """
        leaves = list(self.leaves)
        for i, axis in axes.items():
            if axis is not None:
                index = torch.arange(self.batch + 1, device=leaves[i].device) % self.batch
                leaves[i] = leaves[i].index_select(axis, index)
        if changed is not None:
            leaf = leaves[changed]
            leaves[changed] = leaf + torch.rand_like(leaf) if leaf.is_floating_point() else leaf.flip(0)
        try:
            with quiet(self.leaves[self.main].device):
                return tensors_of(
                    self.rule.call(self.network, fresh(pytree.tree_unflatten(leaves, self.spec)), None, None)
                )
        except Exception:  # whatever a network says of inputs that do not go together
            return None

    def first_that_runs(self) -> tuple[Axes, list[Tensor]] | None:
        """All inputs by sample as usual; else with one of them otherwise."""
        usual: Axes = {i: axes[0] for i, axes in self.choices.items()}
        others = [
            {**usual, i: axis} for i, axes in self.choices.items() if i != self.main for axis in (*axes[1:], None)
        ]
        for axes in (usual, *others):
            if (outputs := self.run(axes)) is not None:
                return axes, outputs
        return None

    def is_same_for_all(self, i: int, axes: Axes) -> bool:
        """Whether the network needs no further sample in an input that it reads."""
        if i == self.main or axes[i] is None:
            return i != self.main
        if self.batch < 2 or self.run({**axes, i: None}) is None:  # one row would do for any number
            return False
        before, after = self.run({}), self.run({}, changed=i)
        return (
            before is not None
            and after is not None
            and any(
                one.shape != other.shape or not torch.equal(one, other)
                for one, other in zip(before, after, strict=False)
            )
        )


def _grown(one: Tensor, other: Tensor) -> int | None:
    axes = [axis for axis in range(one.dim()) if one.dim() == other.dim() and other.shape[axis] == one.shape[axis] + 1]
    return axes[0] if axes else None
