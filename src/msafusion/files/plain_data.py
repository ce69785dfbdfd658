"""What may come out of a pickle: arrays and plain containers that plain functions can walk through."""

from typing import Any

import numpy as np

from msafusion.files.reading import max_size

MAX_DEPTH = 64


class PickleError(ValueError):
    """A pickle that is damaged, or that asks for what is not given."""


class Named:
    """What a pickle has named, and nothing but its name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def kind_of(value: Any) -> str:
    """What a value is, for messages."""
    return str(value) if isinstance(value, Named) else f"a {type(value).__name__}"


def check_plain(value: Any, size: int) -> None:
    """Refuse what plain functions could not walk through: cycles, deep nesting, one object in millions of places.

    Raises:
        PickleError: it is one of these, or holds a bare name.
    """
    weights: dict[int, tuple[int, int]] = {}  # of containers: bytes, each place of an object counted, and depth
    open_ones: set[int] = set()
    waiting = [value]
    while waiting:
        node = waiting[-1]
        if not _holds(node) or id(node) in weights:
            waiting.pop()
            continue
        parts = _parts(node)
        inner = [part for part in parts if _holds(part)]
        if id(node) not in open_ones:
            open_ones.add(id(node))
            if any(id(part) in open_ones for part in inner):
                raise PickleError("it contains itself")
            waiting += [part for part in inner if id(part) not in weights]
            continue
        open_ones.remove(id(node))
        waiting.pop()
        of_inner = [weights[id(part)] for part in inner]
        weight = 8 * len(parts) + sum(map(_own, parts)) + sum(weight for weight, _ in of_inner)
        depth = 1 + max((depth for _, depth in of_inner), default=0)
        if depth > MAX_DEPTH:
            raise PickleError("it is nested too deeply")
        if weight > max_size(size):
            raise PickleError("the same object stands in so many places that they exceed the limit")
        weights[id(node)] = weight, depth
    _own(value)


def _holds(node: Any) -> bool:
    """Whether it is a container, be it an array of objects."""
    return isinstance(node, dict | list | tuple | set | frozenset) or (
        isinstance(node, np.ndarray) and node.dtype.hasobject
    )


def _parts(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [*node.keys(), *node.values()]
    return list(node.ravel()) if isinstance(node, np.ndarray) else list(node)


def _own(part: Any) -> int:
    """Size in bytes of anything but a container."""
    if isinstance(part, str | bytes | bytearray):
        return len(part)
    if isinstance(part, np.ndarray | np.generic):
        return part.nbytes
    if _holds(part) or part is None or isinstance(part, bool | int | float):
        return 0
    raise PickleError(f"it holds {kind_of(part)}")
