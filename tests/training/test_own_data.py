"""The recipes for data in formats of one's own, each run from its YAML on miniature raw files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from faces import face_frames
from raw_media import write_video
from raw_utd_mhad import write_raw_utd_mhad

import msafusion
from msafusion.commands.train import run_train

CONFIGS = Path(__file__).parents[2] / "configs"
SPLITS = ("train", "train", "train", "valid", "test", "test")


def write_table(root, rows):
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def utd_mhad(root):
    write_raw_utd_mhad(root, frames=20)
    return root


def grid(root):
    """Talking faces: real mp4 with a drawn face that moves, and a tone."""
    rows = []
    for n, split in enumerate(SPLITS):
        corners = np.array([[[20 + frame, 10 + n % 2]] for frame in range(6)])
        tone = 0.3 * np.sin(np.arange(9600) * 2 * np.pi * (300 + 400 * (n % 2)) / 16000)
        write_video(root / f"{n}.mp4", face_frames(corners, 80, 96, 128), rate=10, sound=(tone, 16000))
        rows.append({"id": f"c{n}", "label": n % 2, "split": split, "video": f"{n}.mp4", "audio": f"{n}.mp4"})
    return write_table(root, rows)


def avletters(root):
    random = np.random.default_rng(0)
    rows = []
    for n, split in enumerate(SPLITS):
        lips = random.integers(0, 255, (10 + n, 24, 32), dtype=np.uint8)
        np.savez(root / f"{n}.npz", lips=lips, mfcc=random.normal(size=(20 + n, 26)))
        rows.append({"id": f"c{n}", "label": "AB"[n % 2], "split": split})
        rows[-1] |= {"lips": f"{n}.npz#lips", "audio": f"{n}.npz#mfcc"}
    return write_table(root, rows)


def mosi_arrays(root):
    random = np.random.default_rng(0)
    streams = {name: random.normal(size=(18, width)) for name, width in (("text", 9), ("audio", 5), ("visual", 7))}
    np.savez(root / "a.npz", label=np.arange(18) % 2, split=np.array(SPLITS * 3), **streams)
    return root / "a.npz"


@pytest.mark.parametrize("write", [utd_mhad, grid, avletters, mosi_arrays])
def test_recipe_goes_from_raw_files_to_a_tested_model(write, tmp_path, monkeypatch):
    monkeypatch.setenv("MSAFUSION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "raw").mkdir()
    root, out = write(tmp_path / "raw"), tmp_path / "run"
    given = ["--config", CONFIGS / f"{write.__name__}.yaml", "--data.root", root, "--out", out]
    given += [
        "--unimodal.epochs",
        1,
        "--multimodal.epochs",
        1,
        "--unimodal.batch_size",
        2,
        "--multimodal.batch_size",
        2,
    ]
    run_train(list(map(str, [*given, "--trainer.limit_train_batches", 2])))
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    model = msafusion.load(out)
    assert set(rows) == {*(f"{stream} alone" for stream in model.streams), "fused"}
    assert 0 <= rows["fused"]["test"]["accuracy"] <= 1
    assert set(model.extraction) == (set() if write is mosi_arrays else set(model.streams))
    if write is grid:
        prediction = model.predict(root / "0.mp4")
        assert prediction.label in ("0", "1")
        assert all(part.present for part in prediction.streams.values())
