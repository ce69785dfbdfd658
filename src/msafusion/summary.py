"""What each part of a fused network costs: parameters, FLOPs, memory and latency, all of it measured by running it."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from msafusion.attach import FusedNetwork
from msafusion.attach.arguments import check_inputs
from msafusion.attach.containers import main_tensor
from msafusion.attach.network import Inputs
from msafusion.attach.points import FusionLayer
from msafusion.streams import check_count

__all__ = ["PartSummary", "summarise"]

Kind = Literal["network", "fusion", "head", "whole"]
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class PartSummary:
    """What one part costs for one batch, in eval mode.

    Attributes:
        name: of the network or of the fusion point; "head"; "whole".
        kind: network, fusion, head or whole.
        parameters: number of them; one used twice in the part counts once.
        parameter_bytes: their size.
        flops: of matrix products, convolutions and recurrent layers, a multiply-add as two; elementwise work is free.
        activation_bytes: distinct storages that a forward keeps for its backward, without parameters and buffers, with
            inputs that are kept and, under autocast, the cast copies of weights.
        peak_bytes: most memory that a forward without gradients takes beyond its weights and inputs; None: not CUDA.
        latency_ms: median of the timed forwards without gradients, in milliseconds.
        latency_share: of the whole network's latency; parts run by themselves, so theirs need not add up to 1.

    Examples:
        >>> import torch
        >>> from msafusion.networks import SmallCNN
        >>> from msafusion.summary import summarise
        >>> net = SmallCNN().build({"signal": 3}, num_outputs=7)
        >>> whole = summarise(net, {"signal": torch.randn(2, 3, 100)}, repeats=1)[-1]
        >>> f"{whole.name}: {whole.parameters} parameters"
        'whole: 77323 parameters'
    """

    name: str
    kind: Kind
    parameters: int
    parameter_bytes: int
    flops: int
    activation_bytes: int
    peak_bytes: int | None
    latency_ms: float
    latency_share: float


class _Part(NamedTuple):
    name: str
    kind: Kind
    module: nn.Module
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> None:
        self.call(*self.args, **self.kwargs)


def summarise(
    net: FusedNetwork,
    inputs: Inputs,
    *,
    repeats: int = 5,
    precision: str = "float32",
    progress: Callable[[str], object] | None = None,
) -> list[PartSummary]:
    """Measure each network alone, each fusion point and the head on what they get in a forward of all, and the whole.

    Runs in eval mode; each module's mode is put back afterwards.

    Args:
        net: on the same device as the inputs.
        inputs: one batch, as for its `forward`, with every network.
        repeats: timed forwards of each part, after one that warms up.
        precision: float32 (as the weights are) or bfloat16 (autocast).
        progress: called with each part's name before it is measured.

    Returns:
        Networks and fusion points in their order, the head, the whole.

    Raises:
        ValueError: a network without input, an unknown precision, repeats below 1.

    Examples:
        >>> import torch
        >>> from msafusion.networks import SmallCNN
        >>> from msafusion.summary import summarise
        >>> net = SmallCNN().build({"accelerometer": 3, "gyroscope": 3}, num_outputs=7)
        >>> batch = {"accelerometer": torch.randn(2, 3, 100), "gyroscope": torch.randn(2, 3, 100)}
        >>> [part.kind for part in summarise(net, batch, repeats=1)]
        ['network', 'network', 'fusion', 'fusion', 'head', 'whole']
    """
    check_count("repeats", repeats)
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, expected float32 or bfloat16; set it to one of them.")
    check_inputs(net.input_rules, inputs, {}, {})
    missing = [name for name in net.networks if name not in inputs]
    if missing:
        raise ValueError(f"no input for network '{missing[0]}', expected one for each of them; add it to inputs.")
    device = main_tensor(next(iter(inputs.values()))).device
    modes = {module: module.training for module in net.modules()}
    net.eval()
    rows: list[PartSummary] = []
    try:
        with torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext():
            for part in _parts(net, inputs):  # the whole comes first, for the shares
                if progress is not None:
                    progress(part.name)
                rows.append(_measure(part, device, repeats, rows[0].latency_ms if rows else None))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return [*rows[1:], rows[0]]


def _parts(net: FusedNetwork, inputs: Inputs) -> list[_Part]:
    """The whole, then the networks, fusion points and head, with what they are called with in one forward."""
    calls: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[module] = args, kwargs

    hooks = [part.register_forward_pre_hook(note, with_kwargs=True) for part in (*net.fusion_layers, net.head)]
    try:
        with torch.no_grad():
            net(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    parts = [_Part("whole", "whole", net, net, (inputs,), {})]
    for name, network in net.networks.items():
        call = net.input_rules[name].call
        parts.append(_Part(name, "network", network, call, (network, inputs[name], None, None), {}))
    for fusion_layer in net.fusion_layers:
        assert isinstance(fusion_layer, FusionLayer)
        parts.append(_Part(fusion_layer.name, "fusion", fusion_layer, fusion_layer, *calls[fusion_layer]))
    return [*parts, _Part("head", "head", net.head, net.head, *calls[net.head])]


def _measure(part: _Part, device: torch.device, repeats: int, whole_ms: float | None) -> PartSummary:
    parameters = list(part.module.parameters())
    with torch.no_grad():
        part.run()  # warms up
        latency = statistics.median(_milliseconds(part, device) for _ in range(repeats))
        peak = _peak_bytes(part, device) if device.type == "cuda" else None
        counter = FlopCounterMode(display=False, custom_mapping=RECURRENT)
        with counter:
            part.run()
    return PartSummary(
        name=part.name,
        kind=part.kind,
        parameters=sum(parameter.numel() for parameter in parameters),
        parameter_bytes=sum(parameter.nbytes for parameter in parameters),
        flops=counter.get_total_flops(),
        activation_bytes=_activation_bytes(part),
        peak_bytes=peak,
        latency_ms=latency,
        latency_share=1.0 if whole_ms is None else latency / whole_ms,
    )


def _milliseconds(part: _Part, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    part.run()
    _wait(device)
    return 1000 * (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_bytes(part: _Part, device: torch.device) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    part.run()
    return torch.cuda.max_memory_allocated(device) - before


def _activation_bytes(part: _Part) -> int:
    if part.kind in ("fusion", "head"):  # what they get comes from networks that train
        part = part._replace(args=pytree.tree_map(_trained, part.args), kwargs=pytree.tree_map(_trained, part.kwargs))
    own = {tensor.untyped_storage().data_ptr() for tensor in (*part.module.parameters(), *part.module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is given out twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    recurrent = [module for module in part.module.modules() if isinstance(module, nn.RNNBase)]
    try:
        for module in recurrent:  # in eval mode cuDNN's keep nothing
            module.training = True
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            part.run()
    finally:
        for module in recurrent:
            module.training = False
    return sum(storage.nbytes() for storage in kept.values())


def _trained(value: Any) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value.detach().requires_grad_().clone()  # no leaf, so that it may be changed in place


def _recurrent_flops(steps: Sequence[int], weights: Sequence[Sequence[int]]) -> int:
    """Each step (all axes of the input but the last) meets each weight matrix once."""
    return 2 * math.prod(steps[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) == 2)


RECURRENT: dict[Any, Callable[..., int]] = {
    torch.ops.aten.mkldnn_rnn_layer: lambda steps, *rest, **_: _recurrent_flops(steps, rest[:4]),
    torch.ops.aten._cudnn_rnn: lambda steps, weights, *_, **__: _recurrent_flops(steps, weights),
}
"""Fused layers that torch's counter does not know and would count as nothing."""
