"""`fuse()`: one network out of several, fused at named submodules."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from msafusion.attach.arguments import check_axes, check_inputs, check_networks, check_type
from msafusion.attach.batch_axes import find_batch_axes
from msafusion.attach.choices import Choice, check_choices, is_alone
from msafusion.attach.containers import fresh, main_tensor
from msafusion.attach.layout import LayoutTracer
from msafusion.attach.lockstep import NetworkRun
from msafusion.attach.methods import Made, make_head
from msafusion.attach.methods import head_options as options_of_head
from msafusion.attach.network import FusedNetwork, Inputs
from msafusion.attach.points import FusionLayer, FusionPoint
from msafusion.attach.reading import HeadAt, NetworkOutputs, Reading, prediction_in, reading_points, taps_of
from msafusion.attach.rows import rows_of
from msafusion.attach.taps import build_fusion_layer, find_taps
from msafusion.attach.time_search import keep_time
from msafusion.attach.tracing import evaluating
from msafusion.fusion import HEADS, Head
from msafusion.streams import FusionError, nearest


def fuse(
    networks: Mapping[str, nn.Module],
    at: Iterable[FusionPoint] | FusionPoint = (),
    *,
    head: str | nn.Module = "sum",
    head_at: HeadAt | None = None,
    head_options: Mapping[str, Any] | None = None,
    num_outputs: int | None = None,
    example: Inputs | None = None,
    time_axis: Mapping[str, int] | None = None,
) -> FusedNetwork:
    """Fuse networks at named submodules, without touching their `forward`.

    Channels and their axes are found by running the networks once on `example`, in eval mode and without gradients.

    Args:
        networks: name -> network; any modules, pretrained or not. They stay in train or eval mode as they are.
        at: the fusion points, or the only one; none: late fusion by the head alone.
        head: a name in `msafusion.fusion.HEADS` ("sum", "concat", "gmu", ...), or a module that maps {network: output}
            to the prediction.
        head_at: network name -> submodule, the layers that a head of HEADS reads, averaged over positions, instead of
            the networks' outputs; or a FusionPoint, where their axes have to be told; or several such levels, for
            head="centralnet".
        head_options: further options of the head's method.
        num_outputs: of the prediction, for all heads but "sum", "mean", "product" and "multiplicative".
        example: network name -> an input for each network; any values of the right shapes, one sample is enough. Only
            needed with fusion points, `head_at`, or a head that needs num_outputs.
        time_axis: network name -> the axis of its input that `lengths` count, where it is not found by itself.

    Raises:
        FusionError: an unknown network or submodule (the nearest names are listed), a submodule that is never or twice
            run, in conflicting orders, inside a checkpointed region, or whose output holds no features.
        ValueError: an unknown head or fusion method, or options that the method refuses.
        TypeError: a network is not a module, an entry of `at` not a FusionPoint, or another argument of another type.

    Examples:
        >>> import torch
        >>> from msafusion import FusionPoint, fuse
        >>> from msafusion.backbones import CNN1d, CNN2d
        >>> networks = {"audio": CNN1d(1, 4), "image": CNN2d(3, 4)}
        >>> batch = {"audio": torch.randn(2, 1, 100), "image": torch.randn(2, 3, 32, 32)}
        >>> points = [FusionPoint({"audio": stage, "image": stage}) for stage in ("stage2", "stage3")]
        >>> fuse(networks, at=points, example=batch)(batch).shape
        torch.Size([2, 4])
        >>> last = {"audio": "dropout", "image": "dropout"}  # layers whose features the head reads
        >>> fuse(networks, head="gmu", head_at=last, num_outputs=4, example=batch)(batch).shape
        torch.Size([2, 4])
    """
    check_networks(networks)
    if not isinstance(at, FusionPoint):
        is_points = not isinstance(at, str | Mapping) and isinstance(at, Iterable)
        check_type("at", at, Iterable if is_points else FusionPoint, 'FusionPoint({network: "submodule"}) or a list')
    check_type("head", head, (str, nn.Module), "a name in HEADS, or a torch.nn.Module")
    check_type("head_options", head_options, (Mapping, type(None)), "{option: value}")
    check_type("example", example, (Mapping, type(None)), "{network: input}; name the networks")
    check_type("time_axis", time_axis, (Mapping, type(None)), "{network: axis of its input}; name the networks")
    check_axes("time_axis", time_axis, "network")
    points = [at] if isinstance(at, FusionPoint) else list(at)
    levels = reading_points(head_at)
    if levels and (unread := [name for name in networks if not any(name in level.members for level in levels)]):
        raise FusionError(f"head_at names no layer of network '{unread[0]}', expected one of each; add it.")
    _check_names(networks, [*points, *levels], time_axis or {})
    if isinstance(head, str) and head not in HEADS:
        raise ValueError(f"unknown head {head!r}; {nearest(head, HEADS)}")
    if not isinstance(head, str | Head) and (levels or head_options):
        raise ValueError("head_at and head_options are for heads of HEADS; let your own module read the outputs.")
    net = FusedNetwork(networks, [*points, *levels], time_axis or {})
    if example is None and (points or levels or head == "concat"):
        raise ValueError(
            "fuse() got no example, expected one input for each network to find the channels; pass example={...}."
        )
    outputs = _dry_run(net, points, levels, example) if example is not None else {}
    if isinstance(head, nn.Module):
        net.head = head
    else:
        net.head_made = _make_head(head, net, outputs, num_outputs, head_options or {})
        net.head = net.head_made.module
        if example is not None:
            net.head.to(main_tensor(next(iter(example.values()))).device)
    if outputs:
        with evaluating(net):
            net.combine(outputs)
    return net


def _check_names(
    networks: Mapping[str, nn.Module], points: Sequence[FusionPoint], time_axis: Mapping[str, int]
) -> None:
    if not networks:
        raise FusionError("got no network, expected {name: module} with at least one; pass the networks to fuse.")
    for name in networks:
        if not name or "." in name or name in ("fusion", "head") or hasattr(nn.ModuleDict, name):
            raise FusionError(
                f"a network cannot be called '{name}'; choose a name without dots that is not 'fusion' or 'head'."
            )
    for name in time_axis:
        if name not in networks:
            raise FusionError(f"time_axis names the unknown network '{name}'; {nearest(name, networks)}")
    for point in points:
        if not isinstance(point, FusionPoint):
            raise TypeError(
                f"`at` holds a {type(point).__name__}, expected FusionPoint objects; write FusionPoint({point!r})."
            )
        for name, member in point.members.items():
            if name not in networks:
                raise FusionError(
                    f"fusion point {point.name} names the unknown network '{name}'; {nearest(name, networks)}"
                )
            known = [key for key, _ in networks[name].named_modules(remove_duplicate=False) if key]
            if member.submodule not in known:
                raise FusionError(
                    f"fusion point {point.name}: network '{name}' ({type(networks[name]).__name__}) has no submodule "
                    f"'{member.submodule}'; {nearest(member.submodule, known)}"
                )


class _Probe:
    """Forward hook for a dry run: notes what a module of one network gives, when that network is what runs."""

    def __init__(self, network: str, tracer: LayoutTracer) -> None:
        self.network, self.tracer = network, tracer

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        run = NetworkRun.current()
        if run is not None and run.network == self.network:  # networks may share modules
            self.tracer.record(module, output)


def _make_head(
    name: str, net: FusedNetwork, outputs: Mapping[str, Any], num_outputs: int | None, options: Mapping[str, Any]
) -> Made:
    """The head for the channels of what it reads.

    Raises:
        ValueError: the method refuses its options, has no such option, or reads one level only.
    """
    if isinstance(outputs, NetworkOutputs) and outputs.vectors:
        channels = {stream: vector.shape[1] for stream, vector in outputs.vectors.items()}
    else:
        channels = {stream: prediction_in(output, stream).shape[-1] for stream, output in outputs.items()}
    if len(net.readings) > 1:
        if "levels" not in options_of_head(name):
            raise ValueError(f'head="{name}" reads one level, got {len(net.readings)} in head_at; name one.')
        options = {"levels": [[tap.stream for tap in taps_of(reading)] for reading in net.readings], **options}
    made = make_head(name, channels, num_outputs, options)
    if isinstance(made.module, Head) and made.module.takes_predictions and net.readings:
        raise ValueError(f'head="{name}" takes the networks\' predictions, got head_at; leave it out.')
    return made


def _dry_run(
    net: FusedNetwork, points: Sequence[FusionPoint], levels: Sequence[FusionPoint], example: Inputs
) -> NetworkOutputs:
    """Run the networks once, make the fusion layers from what they give, and return their outputs."""
    check_inputs(net.input_rules, example, {}, {})
    missing = [name for name in net.networks if name not in example]
    if missing:
        raise FusionError(f"the example has no input for the networks {', '.join(missing)}; give one for each network.")
    networks, tracers = dict(net.networks.items()), {name: LayoutTracer() for name in net.networks}
    device = main_tensor(next(iter(example.values()))).device
    fusion_layers: dict[int, FusionLayer] = {}
    vectors: dict[str, Tensor] = {}
    orders: dict[str, list[int]] = {name: [] for name in networks}
    choices: dict[str, list[Choice]] = {name: [] for name in networks}

    def fuse_at(index: int, outputs: dict[str, Any]) -> dict[str, Any]:
        for name in outputs:
            orders[name].append(index)
        if index >= len(points):
            level = levels[index - len(points)]
            reading = fusion_layers[index] = Reading(find_taps(level, networks, outputs, tracers), level.name)
            vectors.update(reading.vectors(outputs, {}, {}))
            return outputs
        fusion_layer = fusion_layers[index] = build_fusion_layer(points[index], networks, outputs, tracers).to(device)
        for name in outputs:
            submodule = points[index].members[name].submodule
            where = f"submodule '{submodule}' of network '{name}' (fusion point {fusion_layer.name})"
            paths = [tap.path for tap in fusion_layer.taps if tap.network == name]
            alone = is_alone(outputs[name], paths)
            if not (alone and levels):  # a head may read all that comes of it
                choices[name].append(Choice(submodule, paths, alone, where))
        with evaluating(fusion_layer, gradients=True):  # a network may take some in its forward
            return fusion_layer(outputs, {}, {})

    with evaluating(net):
        for name, rule in net.input_rules.items():
            rule.settle_time_axis(example[name])
            met = [one.members[name].submodule for one in (*points, *levels) if name in one.members]
            tracers[name].rows = rows_of(networks[name], rule, example[name], list(dict.fromkeys(met)))
        probes = [
            module.register_forward_hook(_Probe(name, tracers[name]), prepend=True)
            for name, network in networks.items()
            for module in network.modules()
            if not isinstance(module, torch.jit.ScriptModule)  # takes no hook
        ]
        try:
            outputs = net.run_networks({name: fresh(given) for name, given in example.items()}, {}, {}, fuse_at)
        finally:
            for probe in probes:
                probe.remove()
        for name, rule in net.input_rules.items():
            check_choices(networks[name], rule, example[name], choices[name])
            tensors = [leaf for leaf in pytree.tree_leaves(outputs[name]) if isinstance(leaf, Tensor)]
            batch = rule.batch(example[name])
            rule.counts_batch = not tensors or any(batch in tensor.shape for tensor in tensors)
            find_batch_axes(networks[name], rule, example[name], outputs[name])
            keep_time(networks[name], rule, tracers[name], example[name], [*points, *levels], fusion_layers)
    net.orders = orders
    net.fusion_layers.extend(fusion_layers[index] for index in range(len(points)))
    net.readings.extend(fusion_layers[len(points) + index] for index in range(len(levels)))
    return NetworkOutputs(outputs, vectors)
