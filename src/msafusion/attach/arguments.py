"""Checks of the types of the arguments of `fuse()` and `FusionPoint`."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from torch import nn


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
