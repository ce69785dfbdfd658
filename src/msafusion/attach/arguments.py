"""Checks of the types of the arguments of `fuse()` and `FusionPoint`."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from msafusion.attach.containers import main_tensor
from msafusion.attach.inputs import InputRule
from msafusion.attach.state import not_traced
from msafusion.streams import nearest


def check_type(what: str, given: Any, kinds: type | tuple[type, ...], expected: str) -> None:
    """Refuse an argument of any other type.

    Raises:
        TypeError: the type is not one of `kinds`.
    """
    if not isinstance(given, kinds):
        got = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
        raise TypeError(f"{what} is {got}, expected {expected}.")


def check_axes(what: str, given: Any, owner: str) -> None:
    """Accept the number of an axis, one for each name, or None, which leaves it to be found.

    Raises:
        TypeError: it is something else.
    """
    axes = given.values() if isinstance(given, Mapping) else [given]
    for axis in axes:
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, Integral)):
            raise TypeError(f"{what} is {given!r}, expected the number of an axis by {owner}.")


def check_networks(networks: Any) -> None:
    """Accept modules by name.

    Raises:
        TypeError: it is something else.
    """
    check_type("networks", networks, (Mapping, nn.ModuleDict), "{name: module}; give each network a name")
    for name, network in networks.items():
        check_type("a network's name", name, str, f"a string (it is {name!r})")
        check_type(f"network '{name}'", network, nn.Module, "a torch.nn.Module; pass the module itself")


@not_traced
def check_inputs(
    rules: Mapping[str, InputRule], inputs: Any, lengths: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> None:
    """Refuse inputs, lengths or presence that are not by network name, or presence that is not bool (batch,).

    Raises:
        ValueError: they are not.
    """
    if not isinstance(inputs, Mapping) or not inputs:
        raise ValueError(
            f"got {type(inputs).__name__} as inputs, expected {{network: input}} with at least one of them."
        )
    for what, given in (("inputs", inputs), ("lengths", lengths), ("present", present)):
        if not isinstance(given, Mapping):
            raise ValueError(f"{what} is a {type(given).__name__}, expected {{network: ...}}; name the networks.")
        for name in given:
            if name not in rules:
                raise ValueError(f"{what} for the unknown network '{name}'; {nearest(name, rules)}")
    for given in inputs.values():
        main_tensor(given)
    for name, here in present.items():
        rules[name].check_present(inputs.get(name), here)
