"""Files of numbers that the tests of `prepare` share, and their reader: worker processes import it by this name."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msafusion.data.dataset import Dataset
from msafusion.data.media import WHOLE, Extracted, Extractor
from msafusion.data.preparation.raw import RawItem
from msafusion.failures import DataError


@dataclass(frozen=True)
class Numbers(Extractor):
    """A sequence (time, 2) of an .npy file, which leaves a trace in `<file>.reads` whenever it is read."""

    scale: float = 1.0

    layout = "sequence"
    channels = 2

    def __call__(self, file, *, span=WHOLE, companion=None):
        with file.with_suffix(".reads").open("a") as trace:
            trace.write(f"{os.getpid()}\n")
        until = time.monotonic() + 60
        while (file.parent / "wait_for_3").exists() and len(readers(file.parent)) < 3 and time.monotonic() < until:
            time.sleep(0.01)  # a worker may be done with everything before the other one has started
        if file.read_bytes() == b"ctrl-c":
            raise KeyboardInterrupt
        if file.read_bytes() == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            values = np.load(file)
        except ValueError as error:
            raise DataError(f"'{file}' is no array\n({error}); save it again.") from None
        return Extracted(values * self.scale, ["short"] if len(values) < 4 else [])

    def probe(self, file):
        return len(np.load(file)) / 2


class Files(Dataset):
    """A folder of .npy files; those called `odd...` are of the second class."""

    classes = ("even", "odd")

    def __init__(self, root: Path, scale: float = 1.0) -> None:
        self.root, self.extraction = root, {"numbers": Numbers(scale)}

    def items(self):
        files = sorted(self.root.glob("*.npy"))
        return [
            RawItem(f.stem, f.stem.startswith("odd") * 1, "g", {"numbers": f}, columns={"part": "x"}) for f in files
        ]


def write(folder, count=5):
    folder.mkdir()
    for number in range(count):
        np.save(folder / f"{('even', 'odd')[number % 2]}{number}.npy", np.full((3 + number, 2), number, np.float32))
    return folder


def readers(source):
    """The processes that have read files."""
    return {line for file in source.glob("*.reads") for line in file.read_text().split()}


def reads(source):
    """How often each file has been read."""
    return {file.stem: len(file.read_text().splitlines()) for file in sorted(source.glob("*.reads"))}


def content(folder):
    """Every prepared array, and the table."""
    arrays = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.npy")}
    return {**arrays, "table": (folder / "samples.csv").read_text()}
