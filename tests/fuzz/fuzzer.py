"""Damages valid miniatures and gives them to every reader of foreign bytes, in processes of their own.

`make fuzz` runs it (FUZZ: inputs a reader); a table is printed and written, and inputs that failed are kept.
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from readers import READERS, Reader

from msafusion.failures import failure_of

SECONDS, MEGABYTES = 20, 1000
"""Of one input: time, and memory beyond what the process had before."""
MAX_SERVED = 500
"""Inputs of one process, so that what a library never gives back does not add up."""
SIZES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 10**9, 2**40, 2**62, 2**64 - 1)
DIGIT = re.compile(rb"[0-9]")
FAILURES = ("traceback", "rawline", "memory", "timeout", "crash")
OUTCOMES = ("accepted", "line", *FAILURES)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four changes: bits, lost ends, large sizes, parts in another place, other digits."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randrange(max(1, len(data)))
        near_start = chance.random() < 0.3
        place = place % 256 if near_start else place
        match chance.randrange(7):
            case 0 if data:
                for _ in range(chance.choice((1, 1, 8))):
                    at = place % len(data) if near_start else chance.randrange(len(data))
                    data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[place:]
            case 2:
                width, order = chance.choice((1, 2, 4, 8)), chance.choice(("little", "big"))
                size = chance.choice(SIZES) % (1 << 8 * width)
                data[place : place + width] = size.to_bytes(width, order)
            case 3:
                length = chance.choice((1, 8, 64, 512))
                data[place:place] = data[chance.randrange(max(1, len(data))) :][:length]
            case 4:
                del data[place : place + chance.choice((1, 4, 100))]
            case 5:
                data[place : place + 4] = chance.randbytes(4)
            case 6:
                if digit := DIGIT.search(data, place) or DIGIT.search(data):
                    data[digit.start() : digit.end()] = chance.choice((b"999999999", b"-1", b"1e999", b"[]", b"null"))
    return bytes(data)


class Worker:
    """A process of its own that gives one file after another to a reader; another takes its place where it dies.

    Libraries are loaded once, by the process that makes it.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.process = 0

    def outcome(self, file: Path) -> tuple[str, str]:
        """What the reader makes of a file, and its words."""
        if not self.process or self.served == MAX_SERVED:
            self.close()
            self._start()
        self.served += 1
        with contextlib.suppress(BrokenPipeError):
            os.write(self.sending, f"{file}\n".encode())
        if said := self.answers.readline():
            kind, text = json.loads(said)
            if kind in FAILURES:  # the next one finds a process without traces of it
                self.close()
            return kind, text
        status = self.close()
        if not os.WIFSIGNALED(status):
            return "crash", f"ended with status {os.waitstatus_to_exitcode(status)}"
        number = os.WTERMSIG(status)
        return ("timeout" if number in (signal.SIGALRM, signal.SIGKILL) else "crash"), signal.Signals(number).name

    def close(self) -> int:
        """End the process, if there is one; gives its status."""
        if not self.process:
            return 0
        os.close(self.sending)
        self.answers.close()
        status = os.waitpid(self.process, 0)[1]
        self.process = 0
        return status

    def _start(self) -> None:
        (taking, self.sending), (receiving, answering) = os.pipe(), os.pipe()
        sys.stdout.flush()
        self.process, self.served = os.fork(), 0
        if not self.process:
            try:
                os.close(self.sending)
                os.close(receiving)
                self._serve(taking, answering)
            finally:
                os._exit(0)
        os.close(taking)
        os.close(answering)
        self.answers = os.fdopen(receiving, "rb")

    def _serve(self, taking: int, answering: int) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, ((_memory("VmSize") + 4 * MEGABYTES) << 20,) * 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with os.fdopen(taking) as files:
            while file := files.readline():
                signal.alarm(SECONDS)
                answer = _attempt(self.reader, Path(file.rstrip("\n")))
                signal.alarm(0)
                os.write(answering, json.dumps(answer).encode() + b"\n")


def _attempt(reader: Reader, file: Path) -> tuple[str, str]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is of this input
    before = _memory("VmRSS")
    try:
        reader.read(file)
        kind, text = "accepted", ""
    except MemoryError:
        return "memory", "MemoryError"
    except BaseException as error:
        failure = failure_of(error)
        text = failure.trace or f"{type(error).__name__}: {failure.line}"
        named = str(file) in text or file.name in text or str(file.parent) in text
        kind = "traceback" if failure.trace else "line" if named else "rawline"
    if _memory("VmHWM") - before > MEGABYTES or "not enough memory" in text:
        return "memory", text
    return kind, text


def _memory(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) >> 10


def fuzz(name: str, inputs: int, kept: Path, seed: int = 0) -> Counter[str]:
    """Outcome -> how many of the inputs; those that failed are kept in a folder, with what was said."""
    counts: Counter[str] = Counter()
    reader, chance = READERS[name], random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory() as scratch:
        origin = Path(scratch, "origin")
        origin.mkdir()
        target = reader.write(origin)
        content = target.read_bytes()
        reader.read(target)  # it must be accepted; libraries are loaded once, not by each process
        shutil.rmtree(origin / "out", ignore_errors=True)
        worker = Worker(reader)
        for number in range(inputs):
            folder = Path(scratch, str(number))  # of a name of its own: readers may remember files
            shutil.copytree(origin, folder, copy_function=os.link)
            file = folder / target.relative_to(origin)
            file.unlink()
            file.write_bytes(damaged(content, chance))
            kind, text = worker.outcome(file)
            counts[kind] += 1
            if kind in FAILURES:
                kept.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, kept / f"{name}-{kind}-{number}{file.suffix}")
                (kept / f"{name}-{kind}-{number}.txt").write_text(text)
            shutil.rmtree(folder)
        worker.close()
    return counts


def main() -> int:
    """Fuzz all readers, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(READERS), help="none: all")
    parser.add_argument("--inputs", type=int, default=200, help="of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder of the table and of what failed")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [f"{'reader':<16}" + "".join(f"{kind:>10}" for kind in OUTCOMES)]
    print(lines[0], flush=True)
    failed = 0
    for name in options.readers:
        counts = fuzz(name, options.inputs, options.out / "failed", options.seed)
        lines.append(f"{name:<16}" + "".join(f"{counts[kind]:>10}" for kind in OUTCOMES))
        print(lines[-1], flush=True)
        (options.out / "table.txt").write_text("\n".join(lines) + "\n")
        failed += sum(counts[kind] for kind in FAILURES)
    print(f"{failed} failures; see {options.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
