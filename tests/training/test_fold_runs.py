"""`msafusion train --folds`: one run a fold, and a table over all of them."""

import json
import shutil

import numpy as np
import pytest

from msafusion.commands.evaluate import run_evaluate
from msafusion.commands.train import run_train

pytestmark = pytest.mark.usefixtures("with_simple_models")
QUICK = [
    *("--network.widths", "[8]", "--network.fuse_at", "[stage1]", "--unimodal.epochs", "1", "--multimodal.epochs", "1"),
    *("--unimodal.batch_size", "16", "--multimodal.batch_size", "16", "--folds", "3"),
]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Six people, of whom two do not make the fold."""
    draw, label = np.random.default_rng(0), np.arange(72) % 2
    file = tmp_path_factory.mktemp("data") / "people.npz"
    x = (draw.normal(size=(72, 3)) + 3 * label[:, None]).astype("float32")
    who = np.array([f"p{number // 12}" for number in range(72)])
    split = np.array(["train", "train", "train", "train", "valid", "test"])[np.arange(72) // 12]
    np.savez(file, x=x, y=draw.normal(size=(72, 8, 2)).astype("float32"), label=label, who=who, split=split)
    return ["--data", "Arrays", "--data.root", str(file), "--data.group", "who"]


@pytest.fixture(scope="module")
def finished(arrays, tmp_path_factory, with_simple_models):
    out = tmp_path_factory.mktemp("runs") / "folds"
    run_train([*arrays, *QUICK, "--out", str(out)])
    return out


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_each_fold_is_a_run_and_the_table_is_over_all(finished):
    whole, folds = metrics(finished), [metrics(finished / f"fold-{fold}") for fold in (1, 2, 3)]
    assert [fold["num_samples"]["test"] for fold in folds] == [24, 24, 24]
    assert whole["rows"].keys() == {"x alone", "y alone", "fused", "simple model"}
    for name, row in whole["rows"].items():
        values = [fold["rows"][name]["test"]["accuracy"] for fold in folds]
        assert row["test"]["accuracy"] == pytest.approx({"mean": np.mean(values), "std": np.std(values, ddof=1)})
    assert whole["rows"]["simple model"]["test"]["accuracy"]["mean"] > 0.9


def test_a_fold_can_be_evaluated_on_its_own_people(finished):
    run_evaluate([str(finished / "fold-2")])
    again = json.loads((finished / "fold-2" / "evaluation.json").read_text())
    assert again["rows"]["fused"]["test"] == metrics(finished / "fold-2")["rows"]["fused"]["test"]
    with pytest.raises(ValueError, match="fold-1"):
        run_evaluate([str(finished)])


def test_one_fold_alone_is_the_same_run(finished, arrays, tmp_path):
    run_train([*arrays, *QUICK, "--fold", "2", "--out", str(tmp_path / "two"), "--simple_models", "false"])
    one, of_all = metrics(tmp_path / "two")["rows"], metrics(finished / "fold-2")["rows"]
    assert one["fused"] == of_all["fused"]


def test_resuming_repeats_only_what_is_missing(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    (again / "metrics.json").unlink()
    shutil.rmtree(again / "fold-3")
    kept = (again / "fold-1" / "checkpoints" / "multimodal" / "last.ckpt").stat().st_mtime_ns
    run_train(["--out", str(again), "--resume"])
    assert metrics(again)["rows"] == metrics(finished)["rows"]
    assert (again / "fold-1" / "checkpoints" / "multimodal" / "last.ckpt").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--folds", "1"], "folds is 1"),
        (["--fold", "4"], "fold is 4, expected 1 to 3"),
        (["--folds", "0", "--fold", "1"], "--folds"),
        (["--folds", "7"], r"folds is 7.* 2 to 6"),
    ],
)
def test_folds_that_cannot_be_are_refused(more, named, arrays, tmp_path):
    with pytest.raises(ValueError, match=named):
        run_train([*arrays, *QUICK, "--out", str(tmp_path / "x"), *more])
