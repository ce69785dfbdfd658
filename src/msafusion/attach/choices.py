"""Find out, by changing it, whether a network goes on with the tensor that is fused."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from msafusion.attach.containers import fresh, main_tensor
from msafusion.attach.inputs import InputRule
from msafusion.attach.paths import Path, get, put
from msafusion.attach.trials import quiet
from msafusion.streams import FusionError

Change = Callable[[Any], Any]
"""A submodule's output -> the same with other values in some of its tensors."""


@dataclass(frozen=True)
class Choice:
    """What is fused of one submodule's output.

    Attributes:
        submodule: of the fusion point.
        paths: of the streams in its output.
        alone: the output holds no other floating-point tensor.
        where: the submodule, in messages.
    """

    submodule: str
    paths: Sequence[Path]
    alone: bool
    where: str


def is_alone(output: Any, paths: Sequence[Path]) -> bool:
    """Whether a submodule's output holds no floating-point tensors but those that are fused."""
    return sum(map(_has_features, pytree.tree_leaves(output))) <= len(paths)


def check_choices(network: nn.Module, rule: InputRule, given: Any, choices: Sequence[Choice]) -> None:
    """Refuse streams that a network ignores while it uses other tensors of the same output; warn where it uses none.

    An example of the former are the steps of an LSTM of which only the last state is used. A stream that is connected
    to the network's output but does not change it is accepted: weights that are still zero hide every effect.

    Args:
        network: in eval mode.
        rule: how it takes its input.
        given: its example.
        choices: at its fusion points.

    Raises:
        FusionError: the network's output depends only on the other tensors of a submodule's output.
    """
    if not choices or main_tensor(given).is_meta:  # no values to compare
        return

    def run(submodule: str, change: Change) -> list[Any] | None:
        return _run(network, rule, given, submodule, change)

    as_it_is = run(choices[0].submodule, lambda output: output)
    if as_it_is is None or not any(map(_has_features, as_it_is)):
        return
    for choice in choices:
        if not _same(as_it_is, run(choice.submodule, lambda output, paths=choice.paths: _fused(output, paths))):
            continue
        keys = ", ".join("".join(f"[{key}]" for key in path) or "the whole" for path in choice.paths)
        if not choice.alone and not _same(
            as_it_is, run(choice.submodule, lambda output, paths=choice.paths: _others(output, paths))
        ):
            raise FusionError(
                f"{choice.where} gives several tensors, and network '{rule.network}' goes on with others than {keys}, "
                "which would be fused without effect (an LSTM's last state, for instance); name what it uses with "
                "'submodule[key]', or fuse at a submodule that gives just that."
            )
        if not _connected(network, rule, given, choice):
            warnings.warn(
                f"{choice.where}: network '{rule.network}' does not go on with its output ({keys}), so that fusion "
                "changes the other networks only (what it returns is not used, or was changed in place).",
                stacklevel=4,  # the caller of fuse()
            )


def _has_features(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _other(tensor: Tensor) -> Tensor:
    return tensor + torch.randn_like(tensor) * (1 + tensor.abs().mean())


def _fused(output: Any, paths: Sequence[Path], change: Callable[[Tensor], Tensor] = _other) -> Any:
    """With other values in what is fused, in these places alone: the same tensor may stand in others, too."""
    for path in paths:
        output = put(output, path, change(get(output, path)))
    return output


def _others(output: Any, paths: Sequence[Path]) -> Any:
    """With other values in all that is not fused."""
    changed = pytree.tree_map(lambda leaf: _other(leaf) if _has_features(leaf) else leaf, output)
    for path in paths:
        changed = put(changed, path, get(output, path))
    return changed


def _connected(network: nn.Module, rule: InputRule, given: Any, choice: Choice) -> bool:
    """Whether the network's output was computed from what is fused, whatever came of it; it does not run: True."""
    tensors: list[Tensor] = []

    def change(tensor: Tensor) -> Tensor:
        tensors.append(tensor.detach().clone().requires_grad_())
        return tensors[-1] * 1  # networks may change it in place

    with torch.enable_grad():
        leaves = _run(network, rule, given, choice.submodule, lambda output: _fused(output, choice.paths, change))
        results = [leaf.sum() for leaf in leaves or () if _has_features(leaf) and leaf.requires_grad]
        if leaves is None or not tensors:
            return True
        if not results:
            return False
        return any(one is not None for one in torch.autograd.grad(results, tensors, allow_unused=True))


def _run(network: nn.Module, rule: InputRule, given: Any, submodule: str, change: Change) -> list[Any] | None:
    """The leaves of the network's output with a submodule's output changed; None: it does not take that."""
    handle = network.get_submodule(submodule).register_forward_hook(lambda module, args, output: change(output))
    try:
        with quiet(main_tensor(given).device):
            return pytree.tree_leaves(rule.call(network, fresh(given), None, None))
    except Exception:  # whatever a network says of values that it would not get
        return None
    finally:
        handle.remove()


def _same(one: list[Any], other: list[Any] | None) -> bool:
    if other is None or len(one) != len(other):
        return False
    pairs = zip(one, other, strict=True)
    return all(
        isinstance(a, Tensor) is isinstance(b, Tensor)
        and (not isinstance(a, Tensor) or (a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())))
        for a, b in pairs
    )
