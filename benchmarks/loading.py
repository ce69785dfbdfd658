"""Samples per second of the loader on GRID-sized clips, against decoding every time, and against what RAVDESS trains.

    python benchmarks/loading.py [--data PREPARED] [--raw FOLDER] [--out results.json] [--samples 60] [--rounds 3]

A sample is what `prepare` stores: uint8 video 3 x 30 x 224 x 224 and 13 x 212 MFCCs. By turns, each in a process of its
own, batches of 4, torch on two threads:

* prepared: `training.stage.loader` over a prepared folder (random content, unless --data names one), with 0, 1 and 2
  loader processes; cold: its files were dropped from the page cache before the epoch; warm: they were just read.
* decoded: the same loader, but each item is read from its raw file by `Frames` (without looking for the face, which
  `prepare` does too and which takes longer than all else) and `Mfcc`: the .mpg files of --raw (GRID's), or mp4 clips
  of GRID's size, 75 frames of 360 x 288 with sound, which PyAV writes first.
* augmented, inputs: the preprocessing of RAVDESS on a batch in memory, as the training and validation step call it.
* network: forward, backward and Adam step of `networks.ravdess` in float32, on a batch in memory.

The loader must not be the bottleneck: the table gives every rate as a multiple of the network's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from msafusion.data.media import Extractor, Frames, Mfcc
from msafusion.data.preparation.prepared import PreparedFolder, write_prepared
from msafusion.data.preprocessing import Clips
from msafusion.data.samples import Batch, Sample, collate
from msafusion.training.stage import loader

BATCH, THREADS, WORKERS = 4, 2, (0, 1, 2)
STREAMS: dict[str, Extractor] = {"video": Frames(num_frames=30, size=224, face="none"), "audio": Mfcc()}
CHANNELS = {stream: extractor.channels for stream, extractor in STREAMS.items()}
RIVALS = (
    *(f"prepared, {state}, {n} workers" for state in ("cold", "warm") for n in WORKERS),
    *(f"decoded, {n} workers" for n in WORKERS),
    *("augmented", "inputs", "network"),
)


class Decoded(Sequence[Sample]):
    """Raw clips, each decoded when it is asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files, self.groups = files, {"nobody"}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        file = self.files[index]
        streams = {name: torch.from_numpy(extractor(file).values) for name, extractor in STREAMS.items()}
        return {"id": file.stem, "streams": streams, "label": 0, "group": "nobody"}


def write_samples(root: Path, number: int) -> None:
    """A prepared folder of random content."""
    random = np.random.default_rng(0)
    write_prepared(
        root,
        "any",
        ["one", "other"],
        CHANNELS,
        (
            (
                {"id": f"{n:03d}", "label": n % 2, "group": str(n)},
                {
                    "video": random.integers(0, 256, (3, 30, 224, 224), dtype=np.uint8),
                    "audio": random.normal(size=(13, 212)).astype(np.float32),
                },
            )
            for n in range(number)
        ),
        {stream: extractor.layout for stream, extractor in STREAMS.items()},
    )


def write_clips(root: Path, number: int) -> None:
    """mp4 clips of GRID's size: a moving, noisy pattern and a noisy tone."""
    import av

    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:288, :360]
    root.mkdir(parents=True)
    for clip in range(number):
        with av.open(str(root / f"{clip:03d}.mp4"), "w") as container:
            video = container.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 360, 288, "yuv420p"
            sound = container.add_stream("aac", rate=44100, layout="mono")
            for number_of_frame in range(75):
                waves = np.sin((rows + 3 * number_of_frame) / 20) + np.cos((columns + clip * number_of_frame) / 30)
                grey = 128 + 50 * waves + random.normal(scale=4, size=rows.shape)
                picture = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number_of_frame
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            tone = np.sin(np.arange(3 * 44100) / 20) / 2 + random.normal(scale=0.05, size=3 * 44100)
            block = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], format="flt", layout="mono")
            block.rate, block.pts = 44100, 0
            resampler = av.AudioResampler(sound.format.name, "mono", 44100, sound.codec_context.frame_size)
            for part in [*resampler.resample(block), *resampler.resample(None)]:
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))


def drop_from_cache(files: Iterable[Path]) -> None:
    """Have the system forget the content of files, so that the next read is one from the disk."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)  # pages that are not yet written stay
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def pass_rate(batches: Iterable[Batch], number: int) -> float:
    """Samples per second of one pass."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return number / (time.perf_counter() - start)


def load_rate(samples: Sequence[Sample], workers: int, cold: Sequence[Path] = ()) -> float:
    """Samples per second of an epoch, the loader's processes being there already; `cold`: files to read anew."""
    batches = loader(samples, CHANNELS, BATCH, workers)
    for _ in batches:
        pass
    drop_from_cache(cold)
    return pass_rate(batches, len(samples))


def call_rate(call: Any, repeats: int) -> float:
    """Samples per second of a call on one batch, the median of `repeats` after one that warms up."""
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return BATCH / statistics.median(times[1:])


def turn(rival: str, data: Path, raw: Path, clips: int, steps: int) -> float:
    """Samples per second of one rival."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    kind, *words = rival.split(", ")
    workers = int(words[-1].split()[0]) if words else 0
    if kind == "network":
        from networks import build, training_step  # the benchmark beside this one

        return call_rate(training_step(*build("ravdess", BATCH)), steps)
    if kind == "decoded":
        return load_rate(Decoded(sorted(file for file in raw.iterdir() if file.is_file())[:clips]), workers)
    folder = PreparedFolder(data, None)
    samples = folder.samples(folder.rows)
    if kind == "prepared":
        return load_rate(samples, workers, sorted(data.glob("*/*.npy")) if "cold" in words else ())
    mean, std = {"video": [0.485, 0.456, 0.406]}, {"video": [0.229, 0.224, 0.225]}
    preprocessing = Clips(CHANNELS, mean, std, size=224, crop_area=[0.8, 1.4], flip=True)
    stored = collate(samples[:BATCH])["inputs"]
    return call_rate(lambda: getattr(preprocessing, kind)(stored), 10)


def print_rates(rates: dict[str, float], load: tuple[float, float]) -> None:
    table = Table(title=f"load of the machine {load[0]:.1f} before, {load[1]:.1f} after, {os.cpu_count()} cores")
    for column in ("", "samples/s", "ms a sample", "x decoded, as many workers", "x network"):
        table.add_column(column, justify="left" if not column else "right")
    for rival, rate in rates.items():
        decoded = rates.get("decoded, " + rival.split(", ")[-1])
        against = f"{rate / decoded:.1f}" if decoded else ""
        table.add_row(rival, f"{rate:.3g}", f"{1000 / rate:.1f}", against, f"{rate / rates['network']:.0f}")
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a prepared folder with the streams video and audio")
    parser.add_argument("--raw", type=Path, help="folder of raw clips with sound")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/loading.json"), help="where the JSON goes")
    parser.add_argument("--samples", type=int, default=60, help="of random content, where there is no --data")
    parser.add_argument("--clips", type=int, default=24, help="raw clips that are decoded")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each rival; the network has one")
    parser.add_argument(
        "--steps", type=int, default=1, help="of the network, after one that warms up; each takes a minute or two"
    )
    parser.add_argument("--turn", choices=RIVALS, help="one turn of one rival, its figure on standard output")
    given = parser.parse_args()
    if given.turn:
        print(turn(given.turn, given.data, given.raw, given.clips, given.steps))
        return
    with tempfile.TemporaryDirectory() as folder:
        data, raw = given.data or Path(folder, "prepared"), given.raw or Path(folder, "raw")
        if given.data is None:
            write_samples(data, given.samples)
        if given.raw is None:
            write_clips(raw, given.clips)
        turns: dict[str, list[float]] = {}
        before = os.getloadavg()[0]
        order = [rival for number in range(given.rounds) for rival in RIVALS if rival != "network" or not number]
        for rival in track(order, "loading benchmark"):
            words = ["--data", data, "--raw", raw, "--clips", given.clips, "--steps", given.steps, "--turn", rival]
            run = [sys.executable, __file__, *map(str, words)]
            told = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout
            turns.setdefault(rival, []).append(float(told.splitlines()[-1]))
        load = before, os.getloadavg()[0]
    rates = {rival: statistics.median(found) for rival, found in turns.items()}
    print_rates(rates, load)
    content = {"torch": torch.__version__, "load": load, "samples/s": rates, "turns": turns}
    given.out.write_text(json.dumps(content, indent=2))
    print(f"written to {given.out}")


if __name__ == "__main__":
    main()
