"""What a head reads: the networks' predictions, or what named submodules give, averaged over positions."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from msafusion.attach.arguments import check_type
from msafusion.attach.containers import map_tensors, tensors_of, zero_rows
from msafusion.attach.inputs import InputRule
from msafusion.attach.points import DEFAULT_FUSION, FusionLayer, FusionPoint, Tap
from msafusion.attach.timing import TimeMask
from msafusion.fusion import Concat, Head
from msafusion.fusion.base import real_parts, stream_means
from msafusion.streams import FusionError

HeadLevel = Mapping[str, str] | FusionPoint
HeadAt = HeadLevel | Sequence[HeadLevel]
"""Network -> submodule that the head reads; several of them: levels, the first ones first."""


@dataclass(frozen=True)
class NetworkOutputs(Mapping[str, Any]):
    """Each network's own output after fusion, by name, with what the head needs beside it.

    Attributes:
        outputs: network -> what it returned; `self[network]` is the same.
        vectors: stream -> (batch, channels), what the head reads inside the networks.
        present: network -> bool (batch,), for those whose input some sample may lack.
    """

    outputs: Mapping[str, Any]
    vectors: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


class Reading(FusionLayer):
    """The submodules of one level, which the head reads; the networks go on with what they gave."""

    def __init__(self, taps: list[Tap], name: str) -> None:
        super().__init__(taps, nn.Identity(), name)

    def vectors(
        self, outputs: Mapping[str, Any], masks: Mapping[str, TimeMask], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Mean of each stream over its real positions, (batch, channels), zero where it is missing."""
        features, stream_masks, here = self.streams(outputs, masks, present)
        means = stream_means(real_parts(features, stream_masks, here), stream_masks)
        return {stream: mean.to(features[stream].dtype) for stream, mean in means.items()}


def reading_points(head_at: HeadAt | None) -> list[FusionPoint]:
    """One point a level; with several levels a stream is named "network.submodule", else like its network.

    Raises:
        TypeError: a level is neither {network: submodule} nor a FusionPoint.
        ValueError: a FusionPoint has a fusion method of its own.
    """
    expected = '{network: "submodule"} or a FusionPoint, or a list of such levels'
    check_type("head_at", head_at, (Mapping, FusionPoint, Sequence, type(None)), expected)
    levels = [] if head_at is None else [head_at] if isinstance(head_at, Mapping | FusionPoint) else list(head_at)
    return [_level(level, len(levels) > 1) for level in levels]


def _level(level: HeadLevel, several: bool) -> FusionPoint:
    if isinstance(level, Mapping):
        level = FusionPoint(level, name=str(dict(level)))
    if not isinstance(level, FusionPoint):
        raise TypeError(f"head_at holds {level!r}, expected {{network: submodule}} or a FusionPoint, or such levels.")
    if level.fusion != DEFAULT_FUSION or level.options:
        raise ValueError(f"{level!r} of head_at has a fusion method, expected none: the head is what fuses there.")
    streams: dict[str, str | dict[str, str]] = {}
    names: dict[str, str] = {}
    for network, member in level.members.items():
        name = f"{network}.{member.submodule}" if several else network
        if member.selectors:
            streams[network] = member.spec
        else:
            streams[network], names[network] = ({name: member.submodule} if several else member.submodule), name
    channel_axis, time_axis = level.channel_axis, level.time_axis
    if isinstance(channel_axis, Mapping):
        channel_axis = {names.get(stream, stream): axis for stream, axis in channel_axis.items()}
    if isinstance(time_axis, Mapping):
        time_axis = {names.get(stream, stream): axis for stream, axis in time_axis.items()}
    name = f"head at {level.name}"
    return FusionPoint(streams, nn.Identity(), channel_axis=channel_axis, time_axis=time_axis, name=name)


def prediction_in(output: Any, network: str) -> Tensor:
    """The tensor of a network's output that a head reads: itself, `logits`, or the only tensor of a tuple or dict.

    Raises:
        FusionError: the output holds none of these, or several.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return output["logits"]
    items = list(output.values()) if isinstance(output, Mapping) else output
    tensors = [item for item in items if isinstance(item, Tensor)] if isinstance(items, tuple | list) else []
    if len(tensors) == 1:
        return tensors[0]
    keys = ", ".join(map(str, output)) if isinstance(output, Mapping) else type(output).__name__
    raise FusionError(
        f"network '{network}' gives a {type(output).__name__} ({keys}), expected a tensor or `logits` for the head; "
        "give fuse() a head of your own, or wrap the network in a module that returns its prediction."
    )


def taps_of(reading: nn.Module) -> list[Tap]:
    """The streams of one of `readings`."""
    assert isinstance(reading, Reading)
    return reading.taps


def without_missing(output: Any, present: Tensor | None, rule: InputRule) -> Any:
    """A network's output with zeros for the samples that lack it.

    Raises:
        FusionError: it is an object whose tensors cannot be exchanged.
    """
    if present is None:
        return output
    number = itertools.count()

    def zeroed(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or not tensor.dim():
            return tensor if not tensor.is_floating_point() else _counted(tensor, number)
        axis = rule.output_axis(tensor, next(number), present.shape[0])
        return tensor if axis is None else zero_rows(tensor, present, axis)

    try:
        return map_tensors(zeroed, output)
    except TypeError as error:
        raise FusionError(
            f"network '{rule.network}' gives a {error}, in which the samples that lack its input cannot be zeroed; let "
            "it return tensors in tuples, dicts or dataclasses."
        ) from None


def _counted(tensor: Tensor, number: Iterator[int]) -> Tensor:
    next(number)
    return tensor


def batch_first(output: Any, rule: InputRule, present: Tensor | None, batch: int) -> tuple[Tensor, bool]:
    """A network's prediction with its samples on the first axis, zero where they lack it; and whether it was moved."""
    prediction = prediction_in(output, rule.network)
    numbers = [i for i, tensor in enumerate(tensors_of(output)) if tensor is prediction]
    axis = rule.output_axis(prediction, numbers[0], batch) if numbers else 0
    moved = axis == 1 and rule.batch_axis == 1
    tensor = prediction.movedim(1, 0) if moved else prediction
    return (tensor if present is None or axis is None else zero_rows(tensor, present)), moved


def head_of_predictions(
    head: nn.Module, outputs: Mapping[str, Any], rules: Mapping[str, InputRule], present: Mapping[str, Tensor]
) -> Tensor:
    """What a head says of the networks' own outputs.

    Raises:
        FusionError: an output holds no prediction, or the shapes do not go together.
    """
    if not isinstance(head, Head):
        return head({name: without_missing(one, present.get(name), rules[name]) for name, one in outputs.items()})
    batch = next(iter(present.values())).shape[0] if present else -1  # it does not matter where all have all
    found = {name: batch_first(one, rules[name], present.get(name), batch) for name, one in outputs.items()}
    tensors = {name: tensor for name, (tensor, _) in found.items()}
    compared = slice(-1) if isinstance(head, Concat) else slice(None)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first = next(iter(shapes.values()))
    if any(shape[compared] != first[compared] or len(shape) != len(first) for shape in shapes.values()):
        raise FusionError(
            f"the networks' outputs have shapes {shapes}, expected equal ones for this head; give every network "
            'the same samples, and for outputs of different width use head="concat" with num_outputs or your own.'
        )
    prediction = head(tensors, None, dict(present) or None)
    return prediction.movedim(0, 1) if all(moved for _, moved in found.values()) else prediction
