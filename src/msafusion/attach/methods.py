"""Fusion methods and heads by their names in the registries, and how each was made, so that it can be made again."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from msafusion.fusion import FUSIONS, HEADS, Head
from msafusion.streams import FusionError


@dataclass(frozen=True)
class Made:
    """A module of FUSIONS or HEADS with the arguments that it was made with.

    Attributes:
        module: the module; if another has taken its place since, this says nothing about that one.
        method: its name in the registry.
        channels: stream name -> number of channels, in the streams' order.
        options: of the method.
        num_outputs: of a head.
    """

    module: nn.Module
    method: str
    channels: dict[str, int]
    options: dict[str, Any]
    num_outputs: int | None = None


def make_fusion(method: str, channels: Mapping[str, int], options: Mapping[str, Any], where: str) -> Made:
    """Make a method of FUSIONS.

    Raises:
        FusionError: it refuses its channels or options; `where` names the point.
    """
    try:
        return Made(FUSIONS[method](channels, **options), method, dict(channels), dict(options))
    except ValueError as error:
        raise FusionError(f"{where}: {error}") from error
    except TypeError as error:  # an unknown option, or a value of another type
        known = ", ".join(list(inspect.signature(FUSIONS[method]).parameters)[1:])
        raise FusionError(f"{where}: {error}; the options of '{method}' are {known}.") from error


def make_head(method: str, channels: Mapping[str, int], num_outputs: int | None, options: Mapping[str, Any]) -> Made:
    """Make a head of HEADS.

    Raises:
        ValueError: it refuses its channels or options, or has no such option.
    """
    known = head_options(method)
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"head '{method}' has no option '{unknown[0]}'; its options are {', '.join(known) or 'none'}.")
    head: Head = HEADS[method](channels, num_outputs, **options)
    return Made(head, method, dict(channels), dict(options), num_outputs)


def head_options(method: str) -> list[str]:
    """The names of a head's own options."""
    return list(inspect.signature(HEADS[method]).parameters)[2:]
