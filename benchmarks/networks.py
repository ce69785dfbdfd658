"""Speed of the published networks: as they are, prepared for inference, and in a training step; ratios in one run.

    python benchmarks/networks.py [--network ravdess] [--out results.json] [--rounds 2] [--repeats 5] [--threads 2]

On a CPU, one sample of the paper's size (RAVDESS: 30 x 224 x 224 and its MFCCs), rivals in turns, each turn in a
process of its own:

* plain: the network as `networks` makes it, channels first, float32, eval mode.
* float32, bfloat16: made by `for_inference` (batch norms folded, channels last).
* train, train channels last: forward, backward and Adam step in float32.

All is measured with glibc's default, which returns large freed blocks to the system, so that every step pays page
faults again, and with freed memory kept (`for_inference(..., keep_memory=True)` does that). Errors are relative to
plain's largest output. Where there is a GPU: samples/s and peak memory in float32, bf16, and bf16 compiled, for batches
of 4 and 32.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from msafusion.attach import FusedNetwork
from msafusion.inference import for_inference, keep_freed_memory
from msafusion.networks import NETWORKS, NetworkPlan
from msafusion.summary import summarise

PLANS: dict[str, Callable[[], NetworkPlan]] = {
    "ravdess": NETWORKS["RAVDESSNet"],
    "mosei": NETWORKS["MOSEINet"],
    "ntu_rgbd_i3d": NETWORKS["NTURGBDNet"],
    "ntu_rgbd_resnet50": lambda: NETWORKS["NTURGBDNet"](rgb="resnet50"),  # pyright: ignore[reportCallIssue]
}
RIVALS = ("plain", "float32", "bfloat16", "train", "train channels last")
REGIMES = {"glibc's default": False, "freed memory kept": True}


def build(name: str, batch: int, device: str = "cpu") -> tuple[FusedNetwork, dict[str, Tensor]]:
    """The network with batch norms that have seen something, and a batch of the paper's sizes."""
    torch.manual_seed(0)
    plan = PLANS[name]()
    net = plan.build(plan.typical_channels, plan.typical_outputs)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    inputs = {stream: torch.randn(batch, *shape, device=device) for stream, shape in plan.typical_shapes().items()}
    return net.to(device).eval(), inputs


def training_step(net: FusedNetwork, inputs: dict[str, Tensor]) -> Callable[[], object]:
    """Forward, backward and Adam step; batch norms of the fusion would refuse a single sample, so they stay in eval."""
    net.train()
    for fusion_layer in net.fusion_layers:
        fusion_layer.eval()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        net(inputs).square().mean().backward()
        optimizer.step()

    return step


def step_of(name: str, rival: str) -> Callable[[], object]:
    """What is timed, without arguments."""
    net, inputs = build(name, batch=1)
    if rival == "plain":
        return lambda: torch.inference_mode()(net)(inputs)
    if rival.startswith("train"):
        if "last" in rival:
            for module in net.modules():
                if isinstance(module, nn.Conv3d):
                    module.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
            inputs = {
                stream: value.contiguous(memory_format=torch.channels_last_3d) if value.dim() == 5 else value
                for stream, value in inputs.items()
            }
        return training_step(net, inputs)
    prepared = for_inference(net, inputs, precision=rival)  # pyright: ignore[reportArgumentType]
    return lambda: prepared(inputs)


def measure(name: str, rival: str, threads: int, repeats: int, keep: bool) -> list[float]:
    """Seconds of each of `repeats` calls, after two that warm up."""
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    step, times = step_of(name, rival), []
    for _ in range(2 + repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times[2:]


def errors(name: str, threads: int) -> dict[str, float]:
    """Largest difference of the prepared networks' outputs from plain's, as a part of plain's largest."""
    torch.set_num_threads(threads)
    plain = step_of(name, "plain")()
    assert isinstance(plain, Tensor)
    found = {}
    for rival in ("float32", "bfloat16"):
        output = step_of(name, rival)()
        assert isinstance(output, Tensor)
        found[rival] = float((output - plain).abs().max() / plain.abs().max())
    return found


def fusion_share(name: str, threads: int) -> float:
    """The fusion modules' part of the network's time."""
    torch.set_num_threads(threads)
    net, inputs = build(name, batch=1)
    return sum(part.latency_share for part in summarise(net, inputs, repeats=5) if part.kind == "fusion")


def in_process(function: Callable[..., Any], *arguments: object) -> Any:
    """The result of a function in a process of its own, so that no rival inherits another's memory."""
    # fork: this process has run nothing on torch's threads, so its children may
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def on_cpu(name: str, rounds: int, repeats: int, threads: int) -> dict[str, Any]:
    """Milliseconds of each rival in both regimes, errors, and the share of the fusion."""
    turns = [(regime, rival) for _ in range(rounds) for regime in REGIMES for rival in RIVALS]
    times: dict[tuple[str, str], list[float]] = {}
    for regime, rival in track(turns, name):
        new = in_process(measure, name, rival, threads, repeats, REGIMES[regime])
        times.setdefault((regime, rival), []).extend(new)
    milliseconds = {
        regime: {rival: 1e3 * statistics.median(times[regime, rival]) for rival in RIVALS} for regime in REGIMES
    }
    return {
        "milliseconds": milliseconds,
        "error": in_process(errors, name, threads),
        "fusion_share": in_process(fusion_share, name, threads),
    }


def on_gpu(name: str, repeats: int) -> list[dict[str, Any]]:
    """Samples per second and peak memory (MB) of inference."""
    rows = []
    for batch in (4, 32):
        for kind in ("float32", "bfloat16", "bfloat16 compiled"):
            net, inputs = build(name, batch, "cuda")
            run: Callable[..., Any] = for_inference(net, inputs, precision=kind.split()[0])  # pyright: ignore[reportArgumentType]
            run = torch.compile(run) if "compiled" in kind else run
            times = []
            torch.cuda.reset_peak_memory_stats()
            for _ in range(3 + repeats):
                torch.cuda.synchronize()
                start = time.perf_counter()
                run(inputs)
                torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
            peak = torch.cuda.max_memory_allocated() / 1e6
            rows.append(
                {"batch": batch, "kind": kind, "per_second": batch / statistics.median(times[3:]), "peak_MB": peak}
            )
    return rows


def print_cpu(name: str, figures: dict[str, Any], threads: int) -> None:
    table = Table(title=f"{name}, one sample, CPU, torch {torch.__version__}, {threads} threads")
    default, *_ = REGIMES
    for column in ("rival", *(f"ms, {regime}" for regime in REGIMES), *(f"plain / it, {regime}" for regime in REGIMES)):
        table.add_column(column)
    table.add_column("plain by default / it kept")
    table.add_column("error")
    milliseconds, kept = figures["milliseconds"], list(REGIMES)[1]
    for rival in RIVALS:
        against = "train" if rival.startswith("train") else "plain"
        ratios = [f"{milliseconds[regime][against] / milliseconds[regime][rival]:.2f}" for regime in REGIMES]
        across = f"{milliseconds[default][against] / milliseconds[kept][rival]:.2f}"
        error = f"{figures['error'][rival]:.1e}" if rival in figures["error"] else ""
        table.add_row(rival, *(f"{milliseconds[regime][rival]:.0f}" for regime in REGIMES), *ratios, across, error)
    Console(width=150).print(table, f"fusion modules: {100 * figures['fusion_share']:.3f} % of the network's forward")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=PLANS, default="ravdess", help="which one")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes (benchmarks/networks-NAME.json)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each rival")
    parser.add_argument("--repeats", type=int, default=5, help="calls in a turn")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    given = parser.parse_args()
    content: dict[str, Any] = {"network": given.network, "torch": torch.__version__, "threads": given.threads}
    content["cpu"] = on_cpu(given.network, given.rounds, given.repeats, given.threads)
    print_cpu(given.network, content["cpu"], given.threads)
    if torch.cuda.is_available():
        content["gpu"], content["gpu_name"] = on_gpu(given.network, given.repeats), torch.cuda.get_device_name()
        table = Table("batch", "kind", "samples/s", "peak MB", title=f"{given.network} on {content['gpu_name']}")
        for row in content["gpu"]:
            table.add_row(str(row["batch"]), row["kind"], f"{row['per_second']:.1f}", f"{row['peak_MB']:.0f}")
        Console().print(table)
    target = given.out or Path(f"benchmarks/networks-{given.network}.json")
    target.write_text(json.dumps(content, indent=2))
    print(f"written to {target}")


if __name__ == "__main__":
    main()
