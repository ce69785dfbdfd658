"""Speed and memory of MSAF against a loop over blocks and against the elementwise floor, all in one run.

    python benchmarks/module.py [--out results.json] [--rounds 2] [--turn-ms 300] [--threads 2]

Two rivals, timed in turns:

* loop: the straightforward version, as the published code does it: one Linear a block, blocks summed and multiplied one
  by one, then concatenated.
* floor: what any such module must do, read every map for its mean and write a reweighted copy (sum + multiply).

All is measured twice: with the memory that a step frees kept for the next one (what is left are computing and memory
traffic), and with glibc's default, which returns large blocks to the system, so that every step pays page faults again
(most of the time of the largest maps). Gradients are dense and random. Times are medians; peak memory is what the step
allocates at most at any moment.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import profile

from msafusion import MSAF
from msafusion.inference import keep_freed_memory

Shapes = list[tuple[int, ...]]
CASES: dict[str, tuple[Shapes, int, int]] = {
    # name: shapes (batch first), block channels, segments; the cases of arXiv 2012.07175's networks
    "ntu fusion 1, enlarged": ([(4, 832, 16, 14, 14), (4, 128, 16, 16), (4, 128, 16, 16)], 64, 1),
    "ntu fusion 2": ([(4, 1024, 4, 7, 7), (4, 512)], 256, 1),
    "mosei, 5 segments": ([(32, 32, 50), (32, 64, 50), (32, 128, 50)], 16, 5),
    "large early maps": ([(4, 64, 15, 56, 56), (4, 32, 200)], 16, 1),
    "late maps": ([(4, 2048, 2, 7, 7), (4, 128, 50)], 128, 1),
}

STEPS = ("eval msaf", "eval loop", "eval floor", "eval multiply", "train msaf", "train loop")


class LoopMSAF(nn.Module):
    """One segment of MSAF in the steps of the published code, padding included, block by block."""

    def __init__(self, channels: list[int], block_channels: int, reduction: int = 4) -> None:
        super().__init__()
        joint, self.block_channels = block_channels // reduction, block_channels
        self.joint = nn.Sequential(nn.Linear(block_channels, joint), nn.BatchNorm1d(joint), nn.ReLU())
        num_blocks = sum(-(-count // block_channels) for count in channels)
        self.dense = nn.ModuleList(nn.Linear(joint, block_channels) for _ in range(num_blocks))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        padding = [-feature.shape[1] % self.block_channels for feature in features]
        padded = [functional.pad(f, (0, 0) * (f.dim() - 2) + (0, p)) for f, p in zip(features, padding, strict=True)]
        split = [torch.split(feature, self.block_channels, dim=1) for feature in padded]
        joined = []
        for blocks in split:
            total = blocks[0]
            for block in blocks[1:]:
                total = total + block
            joined.append(total.flatten(2).mean(dim=2) if total.dim() > 2 else total)
        joint = self.joint(torch.stack(joined).sum(dim=0))
        attention = list(torch.softmax(torch.stack([dense(joint) for dense in self.dense]), dim=0))
        outputs = []
        for blocks in split:
            weighted = []
            for block in blocks:
                gate = attention.pop(0)
                weighted.append(block * gate.reshape(*gate.shape, *[1] * (block.dim() - 2)))
            outputs.append(torch.cat(weighted, dim=1))
        return [output[:, : feature.shape[1]] for output, feature in zip(outputs, features, strict=True)]


class LoopSegments(nn.Module):
    """Segments of time, each with a LoopMSAF of its own."""

    def __init__(self, channels: list[int], block_channels: int, segments: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(LoopMSAF(channels, block_channels) for _ in range(segments))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        if len(self.parts) == 1:
            return self.parts[0](features)
        steps = [feature.shape[2] // len(self.parts) for feature in features]
        outputs = []
        for i, part in enumerate(self.parts):
            ends = [None if i + 1 == len(self.parts) else (i + 1) * step for step in steps]
            outputs.append(part([f[:, :, i * step : end] for f, step, end in zip(features, steps, ends, strict=True)]))
        return [torch.cat(pieces, dim=2) for pieces in zip(*outputs, strict=True)]


def floor(features: list[Tensor], gates: list[Tensor]) -> list[Tensor]:
    """Sum over positions and multiply by a gate: the least that any reweighting of channels costs."""
    outputs = []
    for feature, gate in zip(features, gates, strict=True):
        if feature.dim() > 2:
            feature.sum(dim=tuple(range(2, feature.dim())))
        outputs.append(feature * gate)
    return outputs


def peak_memory(step: Callable[[], object]) -> int:
    """Bytes that `step` holds at most above what was held before it."""
    with profile(profile_memory=True) as profiler:
        step()
    held = most = 0
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]  # missing in torch's stub
        most = max(most, held)
    return most


def steps_of(case: str) -> dict[str, Callable[[], object]]:
    """What is timed in a case: a step without arguments for each rival, forward ("eval ...") or with gradients."""
    torch.manual_seed(0)
    shapes, block_channels, segments = CASES[case]
    channels = {str(i): shape[1] for i, shape in enumerate(shapes)}
    ours = MSAF(channels, block_channels, segments=segments, init="paper")
    loop = LoopSegments(list(channels.values()), block_channels, segments)
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    gradients = [torch.randn(shape) for shape in shapes]
    gates = [torch.rand(*shape[:2], *[1] * (len(shape) - 2)) for shape in shapes]
    named = dict(zip(channels, inputs, strict=True))

    @torch.no_grad()
    def evaluate(module: nn.Module, features: object) -> object:
        return module.eval()(features)

    def train(outputs: list[Tensor]) -> None:
        torch.autograd.backward(outputs, gradients)
        for leaf in inputs:
            leaf.grad = None

    return {
        "eval msaf": lambda: evaluate(ours, named),
        "eval loop": lambda: evaluate(loop, inputs),
        "eval floor": torch.no_grad()(lambda: floor(inputs, gates)),
        "eval multiply": torch.no_grad()(lambda: [feature * 0.5 for feature in inputs]),
        "train msaf": lambda: train(list(ours.train()(named).values())),
        "train loop": lambda: train(loop.train()(inputs)),
    }


def measure(case: str, step_name: str, threads: int, turn_ms: float, keep: bool) -> tuple[list[float], float]:
    """Milliseconds of every call of a step after warming up, and what one call holds at most, in MB."""
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    step, times = steps_of(case)[step_name], []
    for _ in range(8):
        step()
    begin = time.perf_counter()
    while len(times) < 10 or time.perf_counter() - begin < turn_ms / 1e3:
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return times, peak_memory(step) / 1e6


def run(rounds: int, threads: int, turn_ms: float, keep: bool) -> dict[str, dict[str, float]]:
    """Figures of all cases: medians over rounds, in each of which every rival has its turn.

    Each turn is a process of its own: what the allocator keeps from one rival changes the page faults of the next.
    """
    turns = [(case, step) for _ in range(rounds) for case in CASES for step in STEPS]
    times: dict[tuple[str, str], list[float]] = {}
    figures: dict[str, dict[str, float]] = {case: {} for case in CASES}
    for case, step in track(turns, "MSAF benchmark"):
        # fork: this process has run nothing on torch's threads, so its children may
        with multiprocessing.get_context("fork").Pool(1) as pool:
            new, memory = pool.apply(measure, (case, step, threads, turn_ms, keep))
        times.setdefault((case, step), []).append(statistics.median(new))
        figures[case] |= {f"{step} ms": statistics.median(times[case, step]), f"{step} MB": memory}
    for row in figures.values():
        row["eval: loop / msaf"] = row["eval loop ms"] / row["eval msaf ms"]
        row["eval: msaf / (sum + multiply)"] = row["eval msaf ms"] / row["eval floor ms"]
        row["eval: msaf / multiply"] = row["eval msaf ms"] / row["eval multiply ms"]
        row["train: loop / msaf"] = row["train loop ms"] / row["train msaf ms"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/module.json"), help="where the JSON goes")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each rival")
    parser.add_argument("--turn-ms", type=float, default=300.0, help="how long a turn lasts, at least")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args()
    regimes = {}
    for memory, keep in (("freed memory kept", True), ("freed memory returned, glibc's default", False)):
        figures = regimes[memory] = run(options.rounds, options.threads, options.turn_ms, keep)
        table = Table(title=f"MSAF against its rivals, torch {torch.__version__}, {options.threads} threads, {memory}")
        ratios = [name for name in next(iter(figures.values())) if ":" in name]
        for column in ("case", *ratios, "train msaf MB", "train loop MB"):
            table.add_column(column)
        for case, row in figures.items():
            megabytes = [f"{row[f'train {who} MB']:.1f}" for who in ("msaf", "loop")]
            table.add_row(case, *(f"{row[name]:.2f}" for name in ratios), *megabytes)
        Console().print(table)
    content = {"torch": torch.__version__, "threads": options.threads, "regimes": regimes}
    options.out.write_text(json.dumps(content, indent=2))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
