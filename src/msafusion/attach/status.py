"""What a fused network consists of, as plain values that print as a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from msafusion.attach.methods import Made
from msafusion.attach.points import FusionLayer


@dataclass(frozen=True)
class StreamStatus:
    """One stream at a point.

    Attributes:
        network: whose it is.
        submodule: of that network, which gives it.
        shape: in the example of `fuse()`, as the submodule gives it.
        channel_axis: of that shape.
        time_axis: the axis that follows the input's steps; None: none does.
    """

    network: str
    submodule: str
    shape: tuple[int, ...]
    channel_axis: int
    time_axis: int | None

    def __str__(self) -> str:
        time = "" if self.time_axis is None else f", time on {self.time_axis}"
        return f"{self.network}.{self.submodule} {self.shape}, channels on axis {self.channel_axis}{time}"


@dataclass(frozen=True)
class PointStatus:
    """One fusion point, or one level of layers that the head reads.

    Attributes:
        name: of the point.
        fusion: the method's name, or the class of a module of your own; empty where the head reads.
        options: of the method, as they were given.
        streams: stream -> where it is.
        parameters: number of the method's.
    """

    name: str
    fusion: str
    options: Mapping[str, Any]
    streams: Mapping[str, StreamStatus]
    parameters: int


@dataclass(frozen=True)
class PartStatus:
    """One part: a network, "fusion" or "head".

    Attributes:
        kind: its class, or the head's method.
        parameters: their number.
        trainable: the number of those that require gradients.
        frozen: `freeze` has stopped it.
    """

    kind: str
    parameters: int
    trainable: int
    frozen: bool


@dataclass(frozen=True)
class FusionStatus:
    """What `fusion_status()` tells.

    Attributes:
        points: the fusion points, in the order given to `fuse()`.
        readings: the levels of layers that the head reads; none: it reads the networks' outputs.
        parts: the networks by name, "fusion" and "head".
        counts: trainable parameters and all of them; what parts share counts once.
    """

    points: Sequence[PointStatus]
    readings: Sequence[PointStatus]
    parts: Mapping[str, PartStatus]
    counts: tuple[int, int]

    def __str__(self) -> str:
        lines = []
        for number, point in enumerate(self.points):
            options = ", ".join(f"{key}={value!r}" for key, value in point.options.items())
            lines.append(f"point {number}: {point.name}: {point.fusion}({options}), {point.parameters:,} parameters")
            lines += [f"  {name}: {stream}" for name, stream in point.streams.items()]
        for point in self.readings:
            lines += [f"{point.name}:", *(f"  {name}: {stream}" for name, stream in point.streams.items())]
        for name, part in self.parts.items():
            lines.append(
                f"{name}: {part.kind}, {part.parameters:,} parameters, {part.trainable:,} trainable"
                + (", frozen" if part.frozen else "")
            )
        return "\n".join(lines)


def status_of(
    parts: Mapping[str, nn.Module],
    frozen: Iterable[str],
    head: Made | None,
    fusion_layers: Iterable[nn.Module],
    readings: Iterable[nn.Module],
    submodules: Sequence[Mapping[str, str]],
) -> FusionStatus:
    """The status of a fused network.

    Args:
        parts: by name.
        frozen: the names of those that are.
        head: how it was made.
        fusion_layers: those of the points.
        readings: those of the head's levels.
        submodules: for each fusion_layer, then for each reading: network -> submodule.
    """
    places = [one for one in (*fusion_layers, *readings) if isinstance(one, FusionLayer)]
    points = [_point(fusion_layer, names) for fusion_layer, names in zip(places, submodules, strict=True)]
    count = len(points) - len(list(readings))
    unique = {id(one): one for part in parts.values() for one in part.parameters()}.values()
    kinds = {name: type(part).__name__ for name, part in parts.items()}
    kinds["fusion"] = f"{count} points"
    if head is not None and head.module is parts["head"]:
        kinds["head"] = head.method
    return FusionStatus(
        points[:count],
        points[count:],
        {
            name: PartStatus(kinds[name], *reversed(_counts(part.parameters())), frozen=name in frozen)
            for name, part in parts.items()
        },
        _counts(unique),
    )


def _point(fusion_layer: FusionLayer, submodules: Mapping[str, str]) -> PointStatus:
    made = (
        fusion_layer.made if fusion_layer.made is not None and fusion_layer.made.module is fusion_layer.fusion else None
    )
    streams = {
        tap.stream: StreamStatus(
            tap.network, submodules[tap.network], tap.shape, tap.layout.channel_axis, tap.timing.axis
        )
        for tap in fusion_layer.taps
    }
    kind = "" if isinstance(fusion_layer.fusion, nn.Identity) else type(fusion_layer.fusion).__name__
    parameters = _counts(fusion_layer.fusion.parameters())[1]
    return PointStatus(
        fusion_layer.name, made.method if made else kind, made.options if made else {}, streams, parameters
    )


def _counts(parameters: Iterable[nn.Parameter]) -> tuple[int, int]:
    """Elements that train, and all."""
    every = list(parameters)
    return sum(one.numel() for one in every if one.requires_grad), sum(one.numel() for one in every)
