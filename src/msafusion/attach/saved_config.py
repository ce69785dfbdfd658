"""What a saved fused network's config.json says, beside the weights: what the dry run found, methods and options.

All of it is kept, so that loading needs no example: a dry run on random tensors would find other things where a network
looks at its values, costs time, and needs inputs of types that files do not describe. What comes back is checked to be
plain values of the right kind before it is used; a file may be anyone's.
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from msafusion.attach.inputs import InputRule
from msafusion.attach.layout import StreamLayout
from msafusion.attach.methods import Made
from msafusion.attach.points import FusionLayer, Tap
from msafusion.attach.timing import LengthRule, Timing
from msafusion.files.saved_model import ModelError

FLAGS = ("masks_matter", "others_matter", "counts_batch")
"""What a dry run finds out about a network's input, beside the axis of time."""


def plain_values(value: Any, where: str) -> Any:
    """A value as JSON has it, which reads back as equal (a tuple as a list).

    Raises:
        ValueError: it has no such form; `where` names it.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain_values(one, where) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(one, where) for one in value]
    raise ValueError(
        f"{where} is {str(value)[:80]!r} ({type(value).__name__}), which config.json cannot hold, expected numbers, "
        "strings, lists and dicts with strings as keys; give the module itself instead of a method's name."
    )


def method_config(module: nn.Module, made: Made | None, where: str) -> dict[str, Any]:
    """How a fusion or head was made; `method` is None where it is a module of the user's own.

    Raises:
        ValueError: an option is not a plain value.
    """
    if made is None or made.module is not module:
        return {"method": None, "class": type(module).__name__}
    return {
        "method": made.method,
        "class": type(module).__name__,
        "num_outputs": plain_values(made.num_outputs, f"num_outputs of {where}"),
        "options": {
            key: plain_values(value, f"option '{key}' of '{made.method}' ({where})")
            for key, value in made.options.items()
        },
        "channels": [[name, int(count)] for name, count in made.channels.items()],
    }


def fusion_layer_config(fusion_layer: FusionLayer, submodules: Mapping[str, str]) -> dict[str, Any]:
    """A fusion point in place, or a level that the head reads: where it is and what streams it has."""
    streams = [
        plain_values(dataclasses.asdict(tap), f"stream '{tap.stream}' of {fusion_layer.name}")
        for tap in fusion_layer.taps
    ]
    return {"name": fusion_layer.name, "submodules": dict(submodules), "streams": streams}


def input_config(rule: InputRule, network: nn.Module, order: Sequence[int] | None) -> dict[str, Any]:
    """A network, and how it takes its input."""
    flags = {flag: bool(getattr(rule, flag)) for flag in FLAGS}
    axis = None if rule.time_axis is None else int(rule.time_axis)
    reached = None if order is None else list(order)
    return {
        "name": rule.network,
        "class": type(network).__name__,
        "time_axis": axis,
        "order": reached,
        "input_axes": dict(rule.input_axes),
        "output_axes": None if rule.output_axes is None else list(rule.output_axes),
        **flags,
    }


@dataclasses.dataclass(frozen=True)
class Entry:
    """One object of config.json, read key by key.

    Args:
        values: what it holds.
        where: the file and the place in it, for messages.
    """

    values: Mapping[str, Any]
    where: str

    def get(self, key: str, *kinds: type) -> Any:
        """The value of a key.

        Raises:
            ModelError: it is missing, or of another kind (a bool does not count as an int).
        """
        value = self.values.get(key, dataclasses.MISSING)
        if value is dataclasses.MISSING or not isinstance(value, kinds) or (type(value) is bool and bool not in kinds):
            got = "nothing" if value is dataclasses.MISSING else repr(value)[:60]
            expected = " or ".join("nothing (null)" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ModelError(f"{self.where} has {got} as '{key}', expected {expected}; save the network again.")
        return value

    def entry(self, key: str) -> "Entry":
        """The object at a key."""
        return Entry(self.get(key, dict), f"{key} of {self.where}")

    def entries(self, key: str) -> list["Entry"]:
        """The objects in the list at a key."""
        return [Entry(one, f"entry {i} of {key} of {self.where}") for i, one in enumerate(self.list_of(key, dict))]

    def list_of(self, key: str, *kinds: type) -> list[Any]:
        """The list at a key, whose values are of one of the kinds."""
        values = self.get(key, list)
        return [Entry({key: value}, self.where).get(key, *kinds) for value in values]

    def pairs(self, key: str, *kinds: type) -> dict[str, Any]:
        """A dict with values of the kinds."""
        return {name: Entry({name: one}, self.where).get(name, *kinds) for name, one in self.get(key, dict).items()}


def taps_from(entry: Entry) -> list[Tap]:
    """The streams that `fusion_layer_config` wrote.

    Raises:
        ModelError: the entry does not hold what was written.
    """
    taps = [_tap(one) for one in entry.entries("streams")]
    submodules = entry.pairs("submodules", str)
    if not taps or {tap.network for tap in taps} != submodules.keys() or len({t.stream for t in taps}) < len(taps):
        raise ModelError(f"{entry.where} has streams that do not go with its submodules; save the network again.")
    return taps


def _tap(entry: Entry) -> Tap:
    layout, timing = entry.entry("layout"), entry.entry("timing")
    rule = None
    if timing.get("rule", dict, type(None)) is not None:
        of = timing.entry("rule")
        rule = LengthRule(
            of.get("factor", int), of.get("offset", int), of.get("stride", int), of.get("keeps_order", bool)
        )
    shape = tuple(entry.list_of("shape", int))
    axes = [layout.get("batch_axis", int), layout.get("channel_axis", int), layout.get("time_axis", int, type(None))]
    followed = timing.get("axis", int, type(None))
    told = [axis for axis in axes if axis is not None]
    if not all(0 <= axis < len(shape) for axis in told) or len(set(told)) < len(told) or followed != axes[2]:
        raise ModelError(f"{entry.where} has the axes {axes} of the shape {shape}, which do not fit; save it again.")
    if rule is not None and (rule.factor < 1 or rule.stride < 1):
        raise ModelError(f"{entry.where} has a rule of steps that cannot be ({rule}); save the network again.")
    return Tap(
        entry.get("stream", str),
        entry.get("network", str),
        tuple(entry.list_of("path", int, str)),
        StreamLayout(*axes),
        shape,
        Timing(followed, rule, timing.get("doubt", str), timing.get("disordered", bool)),
        entry.get("by_sample", bool),
    )


def channels_from(entry: Entry) -> dict[str, int]:
    """The channels that `method_config` wrote, in their order.

    Raises:
        ModelError: the entry does not hold what was written.
    """
    pairs = entry.list_of("channels", list)
    if any(len(pair) != 2 or type(pair[0]) is not str or type(pair[1]) is not int for pair in pairs):
        raise ModelError(f"{entry.where} has other channels than [stream, count]; save the network again.")
    return dict(pairs)
