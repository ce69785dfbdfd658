"""The streams at a fusion point, and the layer that fuses them, made of what submodules give in a dry run."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from msafusion.attach.layout import LayoutTracer, select, tensors_in
from msafusion.attach.methods import make_fusion
from msafusion.attach.paths import get
from msafusion.attach.points import FusionLayer, FusionPoint, Tap
from msafusion.attach.sample_rows import check_same_order, check_streams, rows_of_first
from msafusion.streams import FusionError, nearest


def find_taps(
    point: FusionPoint,
    networks: Mapping[str, nn.Module],
    outputs: Mapping[str, Any],
    tracers: Mapping[str, LayoutTracer],
) -> list[Tap]:
    """The streams at a point, found in what its submodules gave in a dry run.

    Raises:
        FusionError: an output holds no features, or its layout cannot be told; two streams have one name.
    """
    taps: list[Tap] = []
    of_first: dict[str, tuple[bool, ...] | None] = {}
    for network, member in point.members.items():
        output, module = outputs[network], networks[network].get_submodule(member.submodule)
        where = f"submodule '{member.submodule}' of network '{network}' (fusion point {point.name})"
        rows = tracers[network].rows.get(member.submodule, [])
        if not member.selectors:
            paths = tensors_in(output, network, module, where)
            check_streams(rows, paths, member.submodule, where)
        elif isinstance(output, Tensor) and list(member.selectors.values()) == [None]:
            paths = dict.fromkeys(member.selectors, ())
        else:
            paths = {
                stream: select(output, stream, order, selector, where)
                for order, (stream, selector) in enumerate(member.selectors.items())
            }
        for stream, path in paths.items():
            axis = point.channel_axis
            axis = axis.get(stream) if isinstance(axis, Mapping) else axis
            layout = tracers[network].layout(get(output, path), member.submodule, path, module, where, axis)
            taps.append(Tap(stream, network, path, layout, tuple(get(output, path).shape)))
            of_first[stream] = rows_of_first(rows, path, layout.batch_axis)
    check_same_order(of_first, point.name)
    names = [tap.stream for tap in taps]
    for name in names:
        if names.count(name) > 1:
            raise FusionError(f"fusion point {point.name} has two streams called '{name}'; give them different names.")
    for what, told in (("channel_axis", point.channel_axis), ("time_axis", point.time_axis)):
        for stream in told if isinstance(told, Mapping) else ():
            if stream not in names:
                raise FusionError(
                    f"{what} names the unknown stream '{stream}' at {point.name}; {nearest(stream, names)}"
                )
    return taps


def build_fusion_layer(
    point: FusionPoint,
    networks: Mapping[str, nn.Module],
    outputs: Mapping[str, Any],
    tracers: Mapping[str, LayoutTracer],
) -> FusionLayer:
    """Make the fusion of a point for the channels of its streams.

    Raises:
        FusionError: see `find_taps`; the fusion method refuses its options.
    """
    taps = find_taps(point, networks, outputs, tracers)
    if isinstance(point.fusion, nn.Module):
        return FusionLayer(taps, point.fusion, point.name)
    channels = {tap.stream: tap.channels for tap in taps}
    return FusionLayer(
        taps, make_fusion(point.fusion, channels, point.options, f"fusion point {point.name}"), point.name
    )
