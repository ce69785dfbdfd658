"""What `msafusion summary` does: a table of what the parts of a network cost, and the same as JSON."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from jsonargparse import ArgumentError, Namespace
from rich.console import Console
from rich.table import Table

from msafusion.commands.parser import verb_parser
from msafusion.commands.registered import allow_registered, check_recipe
from msafusion.files.bounds import at_most, memory
from msafusion.files.json_file import write_json
from msafusion.networks import NETWORKS, NetworkPlan
from msafusion.streams import check_count, nearest
from msafusion.summary import PartSummary, summarise

NOTE = (
    "FLOPs: of matrix products, convolutions and recurrent layers, 2 per multiply-add. act.: kept for backward. "
    "MB: 1e6 bytes. Parts run alone, so shares need not add up to 100 %."
)
PEAK = " peak: of a forward without gradients, beyond weights and inputs."


def measure_network(given: Namespace) -> None:
    """Measure the network that the options of `msafusion summary` name, print the table and write the file.

    Raises:
        ValueError: an unknown network, a broken configuration, a device that is not there, too little memory.
    """
    check_count("--batch_size", given.batch_size)
    check_count("--repeats", given.repeats)
    device, plan = _device(given.device), find_plan(given.network)
    name = type(plan).__name__
    target = given.out or Path(f"summary-{Path(given.network).stem}.json")
    if target.is_dir() or not target.parent.is_dir():
        raise ValueError(f"cannot write '{target}', expected a file in a folder that exists; choose another --out.")
    shapes = {stream: (given.batch_size, *shape) for stream, shape in plan.typical_shapes().items()}
    threads_before = torch.get_num_threads()
    console = Console()
    try:
        if device.type == "cpu" and plan.cpu_threads:  # as in training
            torch.set_num_threads(plan.cpu_threads)
        threads = torch.get_num_threads()
        with at_most(memory(), "this machine's memory"):
            net = plan.build(plan.typical_channels, plan.typical_outputs)
        net = net.to(device)
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
    """The plan that a network's name or a YAML file of `train` describes.

    Only the file's `network` is read; the small network where it has none, as in training.

    Raises:
        ValueError: no such network or file, no YAML, or options that the network does not take.
    """
    if text in NETWORKS:
        return NETWORKS[text]()
    path = Path(text)
    if not path.is_file():
        what = "configuration file" if path.suffix in (".yaml", ".yml") else "network"
        known = nearest(text, NETWORKS) if what == "network" else "check the path, or " + nearest("", NETWORKS)
        raise ValueError(f"no {what} '{text}', expected a network's name or a YAML file of `msafusion train`; {known}")
    content = check_recipe(path)
    if not content.keys() & {"data", "network", "unimodal", "multimodal", "seed", "trainer"}:
        raise ValueError(
            f"'{path}' is not a configuration of `msafusion train` (it has {', '.join(map(str, content))})."
        )
    section = content.get("network") or "SmallCNN"
    section = {"class_path": section} if isinstance(section, str) else section
    if not isinstance(section, dict) or not isinstance(section.get("class_path"), str):
        raise ValueError(
            f"network in '{path}' is {section!r}, expected a name or class_path and init_args; correct it."
        )
    allow_registered()
    parser = verb_parser("summary", "")
    parser.add_argument("--network", type=NetworkPlan)
    try:
        return parser.instantiate(parser.parse_object({"network": section})).network
    except ArgumentError as error:
        raise ValueError(f"network in '{path}': {' '.join(str(error).split())}; correct its options.") from None


def _device(text: str) -> torch.device:
    count = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    if text not in ("auto", *known):
        raise ValueError(f"--device is '{text}', expected auto or one that is here; choose from: {', '.join(known)}.")
    return torch.device(("cuda" if count else "cpu") if text == "auto" else text)


def _named(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _table(rows: Sequence[PartSummary], title: str) -> Table:
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
