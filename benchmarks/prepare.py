"""Files per second of `msafusion prepare` on talking-face clips, against plain OpenCV + librosa scripts.

    python benchmarks/prepare.py --data ../shared/data/grid_s1 [--out results.json] [--clips 100] [--rounds 2]

All do the same work on each clip: 30 frames spread evenly over it, the face found, cropped with a margin and resized to
224x224, and 13 MFCCs of 2.45 s of sound at 44.1 kHz, both written as .npy. The scripts are what one writes in an
afternoon: cv2.VideoCapture through the whole clip, a detector on each of the 30 frames, librosa; one process, OpenCV's
own threads. They differ in the detector:

* each frame: the networks that `prepare` uses, on each frame by itself, as face detectors are commonly called.
* same boxes: `face_boxes`, as `prepare` calls it; what differs is reading, cropping, sound and writing alone.

OpenCV 5 has no face detector that works without a file of weights from elsewhere (its Haar cascades are gone).
librosa cannot open the sound of a film, so that the scripts decode it by PyAV. They neither check nor go on after
an interruption; `prepare` does. Each turn is a process of its own, warmed up on four clips, so that starting
workers (given apart) does not count.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

NUM_FRAMES, SIZE, MARGIN = 30, 224, 0.1
RATE, OFFSET, SECONDS = 44100, 0.5, 2.45
RIVALS = ("prepare, 1 worker", "prepare, 2 workers", "script, each frame", "script, same boxes")
Detector = Callable[[np.ndarray], np.ndarray]
"""RGB frames (n, height, width, 3) -> boxes (n, 4): left, top, right, bottom (pixels)."""


def each_frame(frames: np.ndarray) -> np.ndarray:
    """The largest face of each frame; where there is none, the box before."""
    from msafusion.data.media.face import MIN_SHARE, MIN_SIDE
    from msafusion.data.media.mtcnn import FaceDetector

    height, width = frames.shape[1:3]
    detector, boxes = FaceDetector(max(MIN_SIDE, min(height, width) * MIN_SHARE)), []
    box = np.array([0.0, 0.0, width, height])
    for frame in frames:
        found = [face.box for face in detector(frame)]
        box = max(found, key=lambda box: (box[2] - box[0]) * (box[3] - box[1])) if found else box
        boxes.append(box)
    return np.stack(boxes)


def same_boxes(frames: np.ndarray) -> np.ndarray:
    from msafusion.data.media.face import face_boxes

    return face_boxes(frames)[0]


def plain_video(file: Path, detect: Detector) -> np.ndarray:
    """uint8 (3, frames, size, size)."""
    import cv2

    capture, frames = cv2.VideoCapture(str(file)), []
    while True:
        there, frame = capture.read()
        if not there:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    kept = np.stack([frames[int((i + 0.5) * len(frames) / NUM_FRAMES)] for i in range(NUM_FRAMES)])
    height, width = kept.shape[1:3]
    pictures = []
    for frame, box in zip(kept, detect(kept), strict=True):
        half = max(box[2] - box[0], box[3] - box[1]) * (0.5 + MARGIN)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        left, right = max(0, round(x - half)), min(width, round(x + half))
        top, bottom = max(0, round(y - half)), min(height, round(y + half))
        pictures.append(cv2.resize(frame[top:bottom, left:right], (SIZE, SIZE), interpolation=cv2.INTER_AREA))
    return np.stack(pictures).transpose(3, 0, 1, 2)


def plain_sound(file: Path) -> np.ndarray:
    """float32 (13, steps)."""
    import av
    import librosa

    with av.open(str(file)) as container:
        stream = container.streams.audio[0]
        sound = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(stream)])
        rate = stream.rate
    sound = librosa.resample(sound.astype(np.float32), orig_sr=rate, target_sr=RATE)
    sound = sound[int(OFFSET * RATE) : int((OFFSET + SECONDS) * RATE)]
    sound = np.pad(sound, (0, int(SECONDS * RATE) - len(sound)))
    return librosa.feature.mfcc(y=sound, sr=RATE, n_mfcc=13)


def run_script(files: Sequence[Path], target: Path, detect: Detector) -> dict[str, float]:
    for stream in ("video", "audio"):
        (target / stream).mkdir(parents=True)
    start = time.perf_counter()
    for file in files:
        np.save(target / "video" / f"{file.stem}.npy", plain_video(file, detect))
        np.save(target / "audio" / f"{file.stem}.npy", plain_sound(file))
    return {"files/s": len(files) / (time.perf_counter() - start)}


def run_prepare(data: Path, target: Path, workers: int, clips: int) -> dict[str, float]:
    from msafusion.data.datasets import Manifest
    from msafusion.data.preparation.preparing import prepare

    video = {"kind": "Frames", "num_frames": NUM_FRAMES, "size": SIZE, "face": "crop", "margin": MARGIN}
    audio = {"kind": "Mfcc", "rate": RATE, "offset": OFFSET, "seconds": SECONDS}
    report = prepare(Manifest(data, {"video": video, "audio": audio}), target, workers=workers, limit=clips)
    return {"files/s": report.rate, "failed": len(report.failed)}


def turn(rival: str, data: Path, clips: int) -> dict[str, float]:
    """Figures of one rival on all clips, in a process of its own."""
    files = sorted((data / "clips").glob("*.mpg"))
    chosen = [files[i * len(files) // clips] for i in range(clips)] if clips < len(files) else files
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if rival.startswith("prepare"):
            workers = int(rival.split()[1])
            run_prepare(data, Path(folder, "warm"), workers, 4)
            warm = time.perf_counter() - start
            return {**run_prepare(data, Path(folder, "out"), workers, clips), "first 4 clips, s": warm}
        detect = each_frame if "each" in rival else same_boxes
        run_script(chosen[:4], Path(folder, "warm"), detect)
        warm = time.perf_counter() - start
        return {**run_script(chosen, Path(folder, "out"), detect), "first 4 clips, s": warm}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv and clips/*.mpg")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/prepare.json"), help="where the JSON goes")
    parser.add_argument("--clips", type=int, default=100, help="how many, spread over the set")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each rival")
    parser.add_argument("--turn", choices=RIVALS, help="one turn of one rival, its figures as JSON on standard output")
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(turn(options.turn, options.data, options.clips)))
        return
    turns: dict[str, list[dict[str, float]]] = {rival: [] for rival in RIVALS}
    for rival in track([rival for _ in range(options.rounds) for rival in RIVALS], "prepare benchmark"):
        words = [sys.executable, __file__, "--data", str(options.data), "--clips", str(options.clips), "--turn", rival]
        told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        turns[rival].append(json.loads(told.splitlines()[-1]))
    figures = {
        rival: {name: statistics.median(row[name] for row in rows) for name in rows[0]} for rival, rows in turns.items()
    }
    table = Table(title=f"{options.clips} clips: {NUM_FRAMES} frames, face crop, MFCC")
    for column in ("", "files/s", *(f"x {rival}" for rival in RIVALS[2:]), "first 4 clips, s"):
        table.add_column(column)
    for rival, row in figures.items():
        row |= {f"x {other}": row["files/s"] / figures[other]["files/s"] for other in RIVALS[2:]}
        ratios = [f"{row[f'x {other}']:.2f}" for other in RIVALS[2:]]
        table.add_row(rival, f"{row['files/s']:.2f}", *ratios, f"{row['first 4 clips, s']:.1f}")
    Console().print(table)
    options.out.write_text(json.dumps({"clips": options.clips, "figures": figures, "turns": turns}, indent=2))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
