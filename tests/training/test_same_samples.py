"""A run goes on with, and is evaluated on, the samples that it began with; options that mean nothing are refused."""

import shutil
import sys

import numpy as np
import pytest

from msafusion.cli import main

QUICK = ("--unimodal.epochs", "0", "--multimodal.epochs", "1", "--trainer.accelerator", "cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of a finished run, its file of arrays)."""
    folder = tmp_path_factory.mktemp("runs")
    generator, num = np.random.default_rng(0), 30
    arrays = {name: generator.normal(size=(num, 12, channels)).astype("f") for name, channels in (("a", 2), ("b", 3))}
    splits = np.repeat(["train", "valid", "test"], [16, 7, 7])
    np.savez(folder / "d.npz", label=np.resize(["u", "v", "w"], num), split=splits, **arrays)
    command(["train", "--data", "Arrays", "--data.root", folder / "d.npz", "--out", folder / "run", *QUICK])
    return folder / "run", folder / "d.npz"


@pytest.fixture
def changed(run):
    """(run, function that changes its arrays); they are as they were afterwards."""
    folder, file = run
    before, result = dict(np.load(file)), folder.parent / "again"
    shutil.copytree(folder, result)

    def change(**arrays):
        np.savez(file, **{name: values for name, values in {**before, **arrays}.items() if values is not None})

    yield result, change
    change()
    shutil.rmtree(result)


def command(arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["msafusion", *map(str, arguments)])
        main()


def refused(*arguments):
    with pytest.raises(SystemExit) as stopped:
        command(arguments)
    return str(stopped.value)


def test_other_classes_are_not_evaluated_by_their_number(run, changed):
    folder, change = changed
    command(["evaluate", folder])
    labels = np.load(run[1])["label"]
    change(label=np.where(labels == "u", "x", labels))
    line = refused("evaluate", folder)
    assert all(part in line for part in ("v, w, x", "u, v, w", str(folder)))


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_not_resumed_with_other_samples(run, changed, finished):
    folder, change = changed
    if not finished:
        (folder / "metrics.json").unlink()
        shutil.rmtree(folder / "model")
    metrics = folder / "metrics.json"
    before = metrics.read_bytes() if finished else None
    change(label=np.load(run[1])["label"][::-1])
    line = refused("train", "--out", folder, "--resume")
    assert "began with" in line
    assert str(folder) in line
    assert (metrics.read_bytes() if metrics.exists() else None) == before
    change()
    command(["train", "--out", folder, "--resume"])


def test_a_stream_that_data_lack_is_named(changed):
    folder, change = changed
    change(b=None)
    line = refused("evaluate", folder)
    assert "streams a, and" in line
    assert "a, b" in line
    change(b=np.zeros((30, 12, 5), "f"))
    assert "networks.b" in refused("evaluate", folder)


def test_what_lightning_refuses_with_separate_losses_is_one_line(run, tmp_path):
    arguments = ["--data", "Arrays", "--data.root", run[1], "--out", tmp_path / "run", *QUICK]
    line = refused("train", *arguments, "--multimodal.losses", "separate", "--trainer.gradient_clip_val", "2")
    assert "the trainer options do not work here" in line


@pytest.mark.parametrize(
    "option",
    ["accumulate_grad_batches 0", "accumulate_grad_batches -1", "gradient_clip_val -1", "check_val_every_n_epoch 0"],
)
def test_numbers_that_mean_nothing_are_refused(run, tmp_path, option):
    name, value = option.split()
    arguments = ["--data", "Arrays", "--data.root", run[1], "--out", tmp_path / "run", *QUICK]
    assert f"--trainer.{name} is {value}, expected" in refused("train", *arguments, f"--trainer.{name}", value)
