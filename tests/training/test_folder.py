"""Folders of runs: one process at a time, and nothing is deleted but what a run wrote."""

import multiprocessing
import os
import signal
import stat

import pytest
from torch import nn

from msafusion.checkpoints import save_model
from msafusion.compare import folder as comparison_folder
from msafusion.training.folder import lock, remove_written
from msafusion.training.recipe import FILES, check_folder, prepare_folder


def held(folder, ready):
    """Hold a folder until something kills this process."""
    with lock(folder):
        ready.send(True)
        signal.pause()


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


RUN = (
    *("config.yaml", "metrics.json", "model/config.json", "model/model.safetensors", "unimodal/a/config.json"),
    *("model/.model.safetensors", ".metrics.json", "checkpoints/multimodal/last.ckpt", "logs/multimodal/metrics.csv"),
    "logs/multimodal/events.out.tfevents.1.host.2.0",
)


def test_overwriting_deletes_what_a_run_wrote(tmp_path):
    fill(tmp_path / "run", *RUN)
    check_folder(tmp_path / "run", resume=False, overwrite=True)
    prepare_folder(tmp_path / "run", "new", resume=False, overwrite=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]
    assert (tmp_path / "run" / "config.yaml").read_text() == "new"


@pytest.mark.parametrize(
    "other", ["notes.txt", "model/mine.bin", "unimodal/a/b/config.json", ".git/config", "data/a.npz"]
)
def test_a_folder_that_holds_anything_else_is_not_overwritten(tmp_path, other):
    fill(tmp_path, *RUN, other)
    with pytest.raises(ValueError, match=other.replace(".", r"\.")):
        prepare_folder(tmp_path, "new", resume=False, overwrite=True)
    assert all((tmp_path / name).read_text() == "x" for name in (*RUN, other))


def test_links_are_not_followed(tmp_path):
    fill(tmp_path / "elsewhere", "config.json")
    fill(tmp_path / "run", "config.yaml")
    (tmp_path / "run" / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="model"):
        remove_written(tmp_path / "run", FILES)
    assert (tmp_path / "elsewhere" / "config.json").exists()


def test_a_folder_with_links_is_not_written_into(tmp_path):
    fill(tmp_path / "elsewhere", "config.json")
    fill(tmp_path / "run", "config.yaml")
    (tmp_path / "run" / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"run/model' is a link"), lock(tmp_path / "run"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")  # the user's own way to say where
    with lock(tmp_path / "link"):
        pass


def test_a_comparison_is_overwritten_and_its_leftovers_are_removed_as_far_as_they_are_its_own(tmp_path):
    ours = "recipe.json", "runs/sum-0.json", "unimodal/a-0/config.json", "ranks.png", "scratch/sum-0-1f/logs/x/y"
    fill(tmp_path, *ours, "thesis.tex")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        comparison_folder.prepare_folder(tmp_path, {}, overwrite=True)
    assert all((tmp_path / name).exists() for name in ours)
    (tmp_path / "thesis.tex").unlink()
    (tmp_path / "recipe.json").write_text('{"seed": 1}')
    comparison_folder.prepare_folder(tmp_path, {"seed": 1}, overwrite=False)
    assert not (tmp_path / "scratch").exists()
    assert (tmp_path / "runs" / "sum-0.json").exists()
    comparison_folder.prepare_folder(tmp_path, {"seed": 2}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_folder_in_use_by_another_process_is_refused_until_that_one_ends_however_it_does(tmp_path):
    forking = multiprocessing.get_context("fork")  # a new Python would spend seconds on imports
    ready, sender = forking.Pipe(duplex=False)
    other = forking.Process(target=held, args=(tmp_path, sender))
    other.start()
    try:
        assert ready.poll(60)
        with pytest.raises(ValueError, match=str(tmp_path)), lock(tmp_path):
            pass
    finally:
        other.kill()
        other.join()
    with lock(tmp_path):
        pass


def test_a_lock_leaves_a_folder_as_empty_as_it_was(tmp_path):
    with lock(tmp_path / "new"):
        pass
    check_folder(tmp_path / "new", resume=False, overwrite=False)


def test_saved_models_have_the_users_umask(tmp_path):
    before = os.umask(0o027)
    try:
        save_model(tmp_path, nn.Linear(2, 2), {})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o640}
