"""What a stranger puts beside the data: modules, names that are paths, recordings that name others, pipes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from raw_media import grey_frames, write_video

from msafusion.data import Arrays
from msafusion.media.stored import read_array
from msafusion.media.video import read_frames
from msafusion.preprocessing import DataError


def test_modules_in_the_current_folder_are_not_imported_by_workers(tmp_path):
    """Workers and their trackers are `python -c`, which looks into the current folder first."""
    for name in ("joblib", "multiprocessing", "numpy"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise ImportError('shadow')\n"
        )
    rows = ["id,label,split,signal"]
    for i in range(8):
        np.save(tmp_path / f"{i}.npy", np.ones((5, 2), np.float32))
        rows.append(f"s{i},{'ab'[i % 2]},{'test' if i > 5 else 'train'},{i}.npy")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    source = Path(__file__).parents[1] / "src"
    command = [str(Path(sys.executable).with_name("msafusion")), "verify", "manifest", str(tmp_path)]
    done = subprocess.run(
        [*command, "--thorough", "--workers", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert not (tmp_path / "ran").exists()
    assert "shadow" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["/tmp/elsewhere", "sub/x", "..", "a.b", ""])
def test_arrays_whose_names_are_paths_are_no_streams(tmp_path, name):
    content = {name: np.ones((8, 3), np.float32), "label": np.arange(8) % 2, "split": np.array(["train", "test"] * 4)}
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=r"a\.npz': no stream can be called|cannot be read"):
        Arrays(tmp_path / "a.npz").splits()


def test_a_recording_that_names_another_is_none(tmp_path):
    write_video(tmp_path / "secret.mp4", grey_frames(np.arange(10) * 5))
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(DataError, match=r"a\.mp4' cannot be read as a recording"):
        read_frames(tmp_path / "a.mp4", 4)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a\.npy' is a pipe.*expected an array in a file"):
        read_array(tmp_path / "a.npy")
