"""What each part of a fused network costs: parameters, FLOPs, memory and latency, all of it measured by running it."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from msafusion.attach import FusedNetwork
from msafusion.attach.inputs import main_tensor
from msafusion.attach.network import Inputs
from msafusion.attach.points import Joint
from msafusion.checkpoints import write_json
from msafusion.networks import NETWORKS, NetworkPlan
from msafusion.streams import check_count, nearest

Kind = Literal["network", "fusion", "head", "whole"]
PRECISIONS = ("float32", "bfloat16")
NOTE = (
    "FLOPs: of matrix products, convolutions and recurrent layers, 2 per multiply-add. act.: kept for backward. "
    "MB: 1e6 bytes. Parts run alone, so shares need not add up to 100 %."
)
PEAK = " peak: of a forward without gradients, beyond weights and inputs."


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
    """
    check_count("repeats", repeats)
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, expected float32 or bfloat16; set it to one of them.")
    net.check_inputs(inputs, {}, {})
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

    hooks = [part.register_forward_pre_hook(note, with_kwargs=True) for part in (*net.joints, net.head)]
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
    for joint in net.joints:
        assert isinstance(joint, Joint)
        parts.append(_Part(joint.name, "fusion", joint, joint, *calls[joint]))
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


def run_summary(arguments: Sequence[str]) -> None:
    """`msafusion summary NETWORK`: print what its parts cost on random inputs of its typical shapes, and write it.

    Raises:
        ValueError: an unknown network, a broken configuration, a device that is not there, too little memory.
    """
    from jsonargparse import ArgumentParser
    from rich.console import Console

    parser = ArgumentParser(
        prog="msafusion summary", exit_on_error=False, description="Parameters, FLOPs, memory and latency by part."
    )
    parser.add_argument("network", type=str, help=f"one of {', '.join(NETWORKS)}, or a YAML file of `msafusion train`")
    parser.add_argument("--batch_size", type=int, default=1, help="samples in the batch")
    parser.add_argument(
        "--device", type=str, default="auto", help="cpu, cuda or cuda:N (default: cuda if there is one)"
    )
    parser.add_argument(
        "--precision", type=Literal["float32", "bfloat16"], default="float32", help="bfloat16: by autocast"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed forwards of each part, of which the median")
    parser.add_argument("--out", type=Path | None, default=None, help="JSON file (default: summary-<name>.json)")
    given = _parsed(parser, arguments)
    check_count("--batch_size", given.batch_size)
    check_count("--repeats", given.repeats)
    device, plan = _device(given.device), find_plan(given.network)
    name = type(plan).__name__
    target = given.out or Path(f"summary-{name.lower()}.json")
    if target.is_dir() or not target.parent.is_dir():
        raise ValueError(f"cannot write '{target}', expected a file in a folder that exists; choose another --out.")
    shapes = {stream: (given.batch_size, *shape) for stream, shape in plan.typical_shapes().items()}
    threads_before = torch.get_num_threads()
    console = Console()
    try:
        if device.type == "cpu" and plan.cpu_threads:  # as in training
            torch.set_num_threads(plan.cpu_threads)
        threads = torch.get_num_threads()
        net = plan.build(plan.typical_channels, plan.typical_outputs).to(device)
        inputs = {stream: torch.randn(shape, device=device) for stream, shape in shapes.items()}
        with console.status("building") if console.is_terminal else nullcontext() as status:
            show = None if status is None else lambda part: status.update(f"measuring {part}")
            rows = summarise(net, inputs, repeats=given.repeats, precision=given.precision, progress=show)
    except RuntimeError as error:
        if "allocate" not in str(error):  # on either device
            raise
        raise ValueError(f"{name} does not fit into the memory of {device}; use a smaller --batch_size.") from None
    finally:
        torch.set_num_threads(threads_before)
    setting = {"network": plan.as_dict(), "inputs": shapes, "batch_size": given.batch_size, "device": _named(device)}
    setting |= {"threads": threads, "precision": given.precision, "repeats": given.repeats, "torch": torch.__version__}
    seen = ", ".join(f"{stream} {'x'.join(map(str, shape))}" for stream, shape in shapes.items())
    title = f"{name}: {seen}; {_named(device)}, {threads} thread{'s' * (threads > 1)}, {given.precision}"
    console.print(_table(rows, title))
    write_json(target, {**setting, "parts": [asdict(row) for row in rows]})
    console.print(f"results in {target}")


def find_plan(text: str) -> NetworkPlan:
    """The plan that a network's name (in any case, with or without `_` and `-`) or a YAML file of `train` describes.

    Only the file's `network` is read; the small network where it has none, as in training.

    Raises:
        ValueError: no such network or file, no YAML, or options that the network does not take.
    """
    import yaml
    from jsonargparse import ArgumentError, ArgumentParser

    plain = {name.lower(): plan for name, plan in NETWORKS.items()}
    bare = text.lower().replace("_", "").replace("-", "")
    if bare in plain:
        return plain[bare]()
    path = Path(text)
    if not path.is_file():
        what = "configuration file" if path.suffix in (".yaml", ".yml") else "network"
        names = {name.lower(): name for name in NETWORKS}
        known = nearest(bare, names) if what == "network" else "check the path, or " + nearest("", NETWORKS)
        raise ValueError(f"no {what} '{text}', expected a network's name or a YAML file of `msafusion train`; {known}")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not YAML ({' '.join(str(error).split())}); correct the file.") from None
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' holds {type(content).__name__}, expected options by name; add `network: ...`.")
    section = content.get("network") or "SmallCNN"
    section = {"class_path": section} if isinstance(section, str) else section
    if not isinstance(section, dict) or not isinstance(section.get("class_path"), str):
        raise ValueError(
            f"network in '{path}' is {section!r}, expected a name or class_path and init_args; correct it."
        )
    name = section["class_path"]
    if "." not in name or name.startswith("msafusion."):  # else a plan of the user's own
        name = name.rpartition(".")[2]
        if name not in NETWORKS:
            raise ValueError(f"unknown network '{name}' in '{path}'; {nearest(name, NETWORKS)}")
        name = f"msafusion.networks.{name}"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=NetworkPlan)
    try:
        return parser.instantiate(parser.parse_object({"network": {**section, "class_path": name}})).network
    except ArgumentError as error:
        raise ValueError(f"network in '{path}': {' '.join(str(error).split())}; correct its options.") from None


def _parsed(parser: Any, arguments: Sequence[str]) -> Any:
    from jsonargparse import ArgumentError

    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise ValueError(f"{' '.join(str(error).split())}; see `{parser.prog} --help`.") from None


def _device(text: str) -> torch.device:
    count = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    if text not in ("auto", *known):
        raise ValueError(f"--device is '{text}', expected auto or one that is here; choose from: {', '.join(known)}.")
    return torch.device(("cuda" if count else "cpu") if text == "auto" else text)


def _named(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _table(rows: Sequence[PartSummary], title: str) -> Any:
    from rich.table import Table

    on_cuda = rows[-1].peak_bytes is not None
    table = Table(title=title, caption=NOTE + PEAK * on_cuda, caption_justify="left")
    table.add_column("part", overflow="fold")
    for column in ("parameters", "GFLOPs", "param.\nMB", "act.\nMB", *["peak\nMB"] * on_cuda, "ms", "share %"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        peak = [] if row.peak_bytes is None else [_short(row.peak_bytes / 1e6)]
        sizes = [_short(value) for value in (row.flops / 1e9, row.parameter_bytes / 1e6, row.activation_bytes / 1e6)]
        times = [_short(row.latency_ms), f"{100 * row.latency_share:.2f}"]
        name = "fusion of\n" + row.name.replace(" + ", "\n") if row.kind == "fusion" else row.name
        table.add_row(name, f"{row.parameters:,}", *sizes, *peak, *times, end_section=row is rows[-2])
    return table


def _short(value: float) -> str:
    """At most three decimals, or the power of ten of what would be zero with them."""
    if value and value < 0.001:
        return f"{value:.0e}"
    return f"{value:,.{1 if value >= 100 else 3}f}" if value else "0"
