"""CPU time until msafusion is ready, against `import torch` in the same run.

    python benchmarks/startup.py [--processes 5] [--out startup.json] [--names "train, first step"]

Every case is a process of its own, and the cases take turns. Times are user and system CPU seconds of the process and
its children, which other work on the machine disturbs less than the wall clock; medians. One round before is not
counted: it compiles bytecode and brings files into memory.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

FLOOR = "import torch"
STEP = """
import os, resource, sys
import lightning
from lightning.pytorch import Callback
from msafusion.training import stage

class Stop(Callback):
    def on_train_batch_start(self, trainer, module, batch, number):
        os._exit(0)

make = stage.StageProgress
def with_stop(*arguments):
    stage.lightning.Trainer = lambda callbacks, **options: lightning.pytorch.Trainer(
        callbacks=[*callbacks, Stop()], **options)
    return make(*arguments)
stage.StageProgress = with_stop
from msafusion.cli import main
sys.argv = ["msafusion", "train", "--out", sys.argv[1]]
main()
"""
"""`msafusion train`, ended where the first step would begin."""
CASES = {
    FLOOR: ["-c", "import torch"],
    "import msafusion; msafusion.fuse": ["-c", "import msafusion; msafusion.fuse"],
    "msafusion --help": ["-m", "msafusion", "--help"],
    "msafusion train --help": ["-m", "msafusion", "train", "--help"],
    "msafusion compare --help": ["-m", "msafusion", "compare", "--help"],
    "msafusion predict --help": ["-m", "msafusion", "predict", "--help"],
    "import torch._dynamo": ["-c", "import torch._dynamo"],
    "import lightning.pytorch": ["-c", "import lightning.pytorch"],
    "msafusion train, before the first step": ["-c", STEP, "OUT"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """Of a new Python process, to its end.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [str(Path(folder) / "run") if word == "OUT" else word for word in arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)[:80]} failed: {done.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description="CPU time until msafusion is ready.")
    parser.add_argument("--processes", type=int, default=5, help="of each case")
    parser.add_argument("--names", nargs="*", default=[], help="cases with one of these texts in their names only")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    chosen = [name for name in CASES if name == FLOOR or not given.names or any(word in name for word in given.names)]
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in track(range(given.processes + 1), "measuring", console=Console(stderr=True)):
        for name in chosen:
            spent = cpu_seconds(CASES[name])
            if turn:
                seconds[name].append(spent)
    result = {name: statistics.median(values) for name, values in seconds.items()}
    table = Table("case", "CPU s", "of import torch", title=f"medians of {given.processes} processes")
    for name, value in result.items():
        table.add_row(name, f"{value:.2f}", f"{value / result[FLOOR]:.2f}")
    Console().print(table)
    if given.out:
        given.out.write_text(json.dumps({"cpu_seconds": result, "processes": given.processes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
