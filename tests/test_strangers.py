"""What a stranger puts beside the data: modules, names that are paths, recordings that name others, pipes."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_media import grey_frames, write_video

from msafusion.data.datasets import Arrays
from msafusion.data.datasets.table_file import read_manifest
from msafusion.data.media.stored import ImageFile, read_array
from msafusion.data.media.video import read_frames
from msafusion.failures import DataError, Failure, TraceLog
from msafusion.files.links import check_no_links


@pytest.mark.slow
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
    command = [str(Path(sys.executable).with_name("msafusion")), "verify", "Manifest", str(tmp_path)]
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


@pytest.mark.parametrize("name", ["/tmp/elsewhere", "sub/x", "..", ""])
def test_arrays_whose_names_are_paths_are_no_streams(tmp_path, name):
    content = {name: np.ones((8, 3), np.float32), "label": np.arange(8) % 2, "split": np.array(["train", "test"] * 4)}
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=r"a\.npz': '.*' cannot be a stream|cannot be read"):
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


def test_links_are_not_written_through(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "predictions.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"predictions\.jsonl' is a link.*another"):
        check_no_links([tmp_path / "predictions.jsonl"], "choose another file")
    (tmp_path / "errors.log").symlink_to(tmp_path / "mine")
    line = TraceLog(tmp_path / "errors.log").line(Failure("broken", "a traceback"))
    assert "errors.log" not in line
    assert (tmp_path / "mine").read_text() == "precious"


def test_two_manifests_in_a_folder_are_refused(tmp_path):
    for name in ("manifest.csv", "manifest.parquet"):
        (tmp_path / name).write_text("id,label,split\n")
    with pytest.raises(DataError, match=r"holds manifest\.csv and manifest\.parquet, expected one"):
        read_manifest(tmp_path)


def test_two_arrays_of_one_name_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x.npy", archive.read("x.npy"))
    with pytest.raises(DataError, match=r"a\.npz' cannot be read \(.*2 members called 'x\.npy'"):
        read_array(tmp_path / "a.npz")


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_of_several_pictures_the_first_is_read_with_a_note(tmp_path, ending):
    pictures = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (250, 10)]
    pictures[0].save(tmp_path / f"one.{ending}")
    pictures[0].save(tmp_path / f"two.{ending}", save_all=True, append_images=pictures[1:])
    extractor = ImageFile(size=4)
    assert extractor(tmp_path / f"one.{ending}").notes == []
    found = extractor(tmp_path / f"two.{ending}")
    assert found.notes == ["holds several pictures, of which the first is read"]
    assert found.values[0].mean() > 200
