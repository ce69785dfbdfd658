"""Find out, by changing it, whether a network goes on with the tensor that is fused, where it gives several."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from msafusion.attach.containers import main_tensor
from msafusion.attach.inputs import InputRule
from msafusion.attach.layout import Path, get
from msafusion.attach.trials import quiet
from msafusion.streams import FusionError

Pick = Callable[[Any], list[Tensor]]
"""Tensors of a submodule's output."""


def passed_over(output: Any, paths: Sequence[Path]) -> list[Tensor]:
    """The floating-point tensors in a submodule's output that are not fused."""
    fused = [get(output, path) for path in paths]
    return [
        leaf
        for leaf in pytree.tree_leaves(output)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and all(leaf is not one for one in fused)
    ]


def check_choice(
    network: nn.Module, rule: InputRule, given: Any, submodule: str, paths: Sequence[Path], where: str
) -> None:
    """Refuse streams that a network does not go on with, while it goes on with what stands beside them.

    So it is with an LSTM's steps where only its last state is used. What neither changes is not refused: layers whose
    weights are still zero hide everything.

    Args:
        network: in eval mode.
        rule: how it takes its input.
        given: its example.
        submodule: of the fusion point.
        paths: of the streams in the submodule's output.
        where: the submodule, in messages.

    Raises:
        FusionError: the network's output follows the other tensors only.
    """
    if main_tensor(given).is_meta:  # no values to compare
        return
    as_it_is = _run(network, rule, given, submodule, lambda output: [])
    if as_it_is is None:
        return

    def fused(output: Any) -> list[Tensor]:
        return [get(output, path) for path in paths]

    if not _same(as_it_is, _run(network, rule, given, submodule, fused)):
        return
    if not _same(as_it_is, _run(network, rule, given, submodule, lambda output: passed_over(output, paths))):
        keys = ", ".join("".join(f"[{key}]" for key in path) or "the whole" for path in paths)
        raise FusionError(
            f"{where} gives several tensors, and network '{rule.network}' goes on with others than {keys}, which would "
            "be fused without effect (an LSTM's last state, for instance); name what it uses with 'submodule[key]', or "
            "fuse at a submodule that gives just that."
        )


def _run(network: nn.Module, rule: InputRule, given: Any, submodule: str, pick: Pick) -> list[Any] | None:
    """The leaves of the network's output with the picked tensors changed; None: it does not take them."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        changed = {id(tensor): tensor + torch.randn_like(tensor) * (1 + tensor.abs().mean()) for tensor in pick(output)}
        return pytree.tree_map(lambda leaf: changed.get(id(leaf), leaf), output) if changed else None

    handle = network.get_submodule(submodule).register_forward_hook(hook)
    try:
        with quiet(main_tensor(given).device):
            return pytree.tree_leaves(rule.call(network, given, None, None))
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
