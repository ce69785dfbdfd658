"""`msafusion compare` on small arrays, end to end."""

import json
import shutil

import numpy as np
import pytest
import torch

from msafusion.commands.compare import run_compare
from msafusion.compare.config import Method, check_names
from msafusion.compare.costs import training_peak
from msafusion.compare.jobs import Job
from msafusion.compare.tuning import STAGE, draw_options
from msafusion.data.datasets import Arrays
from msafusion.networks import SmallCNN
from msafusion.training.same_samples import fingerprint

QUICK = [
    *("--network.widths", "[8,8]", "--network.fuse_at", "[stage1,stage2]", "--workers", "1"),
    *(
        "--unimodal.epochs",
        "1",
        "--multimodal.epochs",
        "1",
        "--unimodal.batch_size",
        "16",
        "--multimodal.batch_size",
        "16",
    ),
]


MANY_CALLS = pytest.mark.usefixtures("without_shape_checks")  # which `finished` has had


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Two streams of which each tells half of the label."""
    draw = np.random.default_rng(0)
    label = np.arange(96) % 4
    file = tmp_path_factory.mktemp("data") / "halves.npz"
    np.savez(
        file,
        text=(np.eye(2)[label // 2] @ draw.normal(size=(2, 6)) + 0.1 * draw.normal(size=(96, 6))).astype("float32"),
        sound=(np.eye(2)[label % 2][:, None] @ draw.normal(size=(2, 3)) + 0.1 * draw.normal(size=(96, 12, 3))).astype(
            "float32"
        ),
        label=label,
        split=np.array(["train", "train", "valid", "test"])[np.arange(96) // 4 % 4],
    )
    return file


def compare(arrays, out, *more, simple_models=False):
    more = [*more, "--simple_models", str(simple_models).lower()]
    run_compare(["--data", str(arrays), "--out", str(out), *QUICK, *more])
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(arrays, tmp_path_factory, with_simple_models):
    """A finished comparison and its folder; no test changes what is in it."""
    out = tmp_path_factory.mktemp("compare") / "run"
    return compare(arrays, out, "--fusions", "msaf,gmu,none", "--seeds", "2", simple_models=True), out


def test_every_method_and_every_single_stream_has_a_row_for_every_seed(finished):
    result, _ = finished
    names = {"msaf", "gmu", "none", "text alone", "sound alone"}  # as they were typed
    simple = {f"{model} ({of})" for model in ("linear", "SVM", "trees") for of in ("text", "sound", "all streams")}
    runs = {(name, s) for name in names for s in (0, 1)} | {(name, 0) for name in simple}
    assert {(row["fusion"], row["seed"]) for row in result["rows"]} == runs
    for row in result["rows"]:
        assert 0 <= row["metrics"]["accuracy"] <= 1
        assert 0 <= row["valid"]["accuracy"] <= 1
        if row["kind"] == "simple":
            continue
        assert row["cost"].keys() >= {"parameters", "flops", "latency_ms", "peak_bytes", "train_seconds"}
    assert [entry["fusion"] for entry in result["table"]].count("msaf") == 1
    assert result["data"]["name"] == "halves"
    versus = next(entry["versus_sum"] for entry in result["table"] if entry["fusion"] == "msaf")
    assert versus["fusion"] == "none"


def test_all_streams_serve_a_simple_model_better_than_half_of_the_label(finished):
    result, _ = finished
    means = {entry["fusion"]: entry["mean"] for entry in result["table"]}
    assert means["linear (all streams)"] > 0.9 > 0.6 > max(means["linear (text)"], means["linear (sound)"])
    assert result["verdict"]["against"][1]["fusion"] in {name for name in means if name.endswith("(all streams)")}


def test_robustness_has_a_row_for_each_condition(finished):
    result, _ = finished
    row = next(row for row in result["rows"] if row["fusion"] == "msaf")
    assert {"without text", "noise 1 on sound", "sound shifted by 0.1"} <= row["robustness"].keys()
    assert not any("text shifted" in name for name in row["robustness"])
    assert {entry["condition"] for entry in result["robustness"]} == set(row["robustness"])


def test_report_and_plots_are_written(finished):
    _, out = finished
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("msaf", "gmu", "sound alone"))
    assert {file.name for file in out.glob("*.png")} == {"accuracy.png", "cost.png", "robustness.png"}


@MANY_CALLS
def test_the_same_again_runs_only_what_is_missing_and_gives_the_same(arrays, finished, tmp_path):
    result, out = finished
    again = tmp_path / "again"
    shutil.copytree(out, again)
    kept, redone = again / "runs" / "gmu-1.json", again / "runs" / "msaf-0.json"
    kept_time = kept.stat().st_mtime_ns
    redone.unlink()
    later = compare(arrays, again, "--fusions", "msaf,gmu,none", "--seeds", "2", simple_models=True)
    assert kept.stat().st_mtime_ns == kept_time
    accuracies = [[(row["fusion"], row["metrics"]) for row in one["rows"]] for one in (result, later)]
    assert accuracies[0] == accuracies[1]


def test_another_setting_does_not_go_on_in_the_folder(arrays, finished):
    with pytest.raises(ValueError, match="was begun with another multimodal; choose another --out"):
        compare(arrays, finished[1], "--fusions", "msaf", "--multimodal.epochs", "2", simple_models=True)


@MANY_CALLS
def test_all_methods_start_from_the_same_networks(finished, arrays, tmp_path):
    """With no second stage, and mid-network methods that begin as no fusion, all are the sum."""
    out = tmp_path / "start"
    fusions = "sum,msaf,mmtm,se,cross_attention,bottleneck"
    result = compare(
        arrays, out, "--fusions", fusions, "--seeds", "1", "--multimodal.epochs", "0", "--robustness", "false"
    )
    fused = {row["fusion"]: row["metrics"] for row in result["rows"] if "alone" not in row["fusion"]}
    assert all(metrics == fused["sum"] for metrics in fused.values())
    assert result["robustness"] == []


@MANY_CALLS
def test_tuning_gives_every_method_the_same_number_of_trials_and_keeps_the_test_out(arrays, tmp_path):
    out = tmp_path / "tuned"
    result = compare(arrays, out, "--fusions", "mmtm,concat", "--seeds", "1", "--tune", "2", "--robustness", "false")
    trials = [json.loads(file.read_text())[0] for file in (out / "runs").glob("*trial*")]
    assert sorted(row["fusion"] for row in trials) == ["concat", "concat", "mmtm", "mmtm"]
    assert not any("metrics" in row for row in trials)
    best = {
        name: max(
            (row for row in trials if row["fusion"] == name), key=lambda row: (row["valid"]["accuracy"], -row["trial"])
        )
        for name in ("mmtm", "concat")
    }
    chosen = {row["fusion"]: row["options"] for row in result["rows"] if "options" in row}
    assert chosen == {name: row["options"] for name, row in best.items()}


@MANY_CALLS
def test_folds_test_every_sample_once_and_choose_inside_each(arrays, tmp_path):
    out = tmp_path / "folds"
    more = ["--fusions", "sum,gmu", "--seeds", "1", "--folds", "3", "--tune", "2", "--robustness", "false"]
    result = compare(arrays, out, *more)
    assert (result["data"]["num_tested"], result["folds"]) == (96, 3)
    assert {row["num_folds"] for row in result["rows"]} == {3}
    runs = [json.loads(file.read_text())[0] for file in (out / "runs").glob("gmu-0-fold*.json")]
    assert sorted(run["metrics"]["num_samples"] for run in runs if "trial" not in run) == [32, 32, 32]
    assert sum("trial" in run for run in runs) == 6
    (row,) = (row for row in result["rows"] if row["fusion"] == "gmu")
    assert row["metrics"]["accuracy"] == pytest.approx(np.mean([run["metrics"]["accuracy"] for run in row["folds"]]))
    assert "3 folds, of which each sample is tested in one" in (out / "report.md").read_text()


@MANY_CALLS
def test_a_run_that_diverges_is_undefined_and_the_others_count(arrays, tmp_path):
    boom = "{boom: {fusion: msaf, learning_rate: 1.0e+30}}"
    more = ["--fusions", "sum,boom", "--variants", boom, "--seeds", "1", "--robustness", "false"]
    result = compare(arrays, tmp_path / "boom", *more)
    entries = {entry["fusion"]: entry for entry in result["table"]}
    assert entries["boom"]["mean"] is None
    assert not entries["boom"]["tied_for_best"]
    assert entries["sum"]["mean"] is not None


@pytest.mark.parametrize("content", ["", "[", "{}", "[{}]"])
def test_a_broken_run_is_not_a_finished_one(finished, tmp_path, content):
    folder = tmp_path / "run"
    (folder / "runs").mkdir(parents=True)
    job = Job(0, Method.parse("msaf", {}))
    shutil.copy(job.file(finished[1]), job.file(folder))
    assert job.rows(folder) is not None
    job.file(folder).write_text(content)
    assert job.rows(folder) is None


def test_single_networks_without_their_weights_are_not_finished(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[1], folder)
    assert Job(1).rows(folder) is not None
    shutil.rmtree(folder / "unimodal" / "text-1")
    assert Job(1).rows(folder) is None


def test_other_samples_do_not_go_on_in_the_folder(arrays, finished, tmp_path):
    changed = dict(np.load(arrays))
    changed["label"] = changed["label"][::-1]
    other = tmp_path / arrays.name
    np.savez(other, **changed)
    assert fingerprint(Arrays(other).splits()) != fingerprint(Arrays(arrays).splits())
    assert json.loads((finished[1] / "recipe.json").read_text())["samples"]


@pytest.mark.parametrize("name", ["alone", "sum", "none", "a/b", "msaf alone", ""])
def test_variants_cannot_be_called_anything(name):
    with pytest.raises(ValueError, match="a variant cannot be called"):
        check_names({name: {"fusion": "msaf"}})


def test_tuning_leaves_what_a_variant_fixes_and_draws_the_stage_alike_for_all():
    half = Method.parse("half", {"half": {"fusion": "msaf", "lowest_attention": 0.5}})
    assert all(draw_options(half, trial)["lowest_attention"] == 0.5 for trial in range(1, 9))
    one, other = draw_options(half, 3), draw_options(Method.parse("gmu", {}), 3)
    assert {name: one[name] for name in STAGE} == {name: other[name] for name in STAGE}


def test_trials_differ_and_do_not_depend_on_what_is_drawn_before():
    method = Method.parse("mmtm", {})
    assert draw_options(method, 1) == draw_options(method, 1)
    assert len({str(draw_options(method, trial)) for trial in range(1, 6)}) > 1
    assert draw_options(method, 1).keys() == {*STAGE, "reduction"}


def test_variants_are_methods_with_options_of_their_own():
    method = Method.parse("half", {"half": {"fusion": "msaf", "lowest_attention": 0.5, "per_stream_loss": 0.0}})
    plan = method.plan(SmallCNN())
    assert (plan.fusion, plan.fusion_options) == ("msaf", {"lowest_attention": 0.5})
    with pytest.raises(ValueError, match="unknown fusion 'msaff'; did you mean 'msaf'"):
        Method.parse("msaff", {})
    with pytest.raises(ValueError, match="the variant 'half' names no method"):
        Method.parse("half", {"half": {"lowest_attention": 0.5}})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--fusions", "msaf,msaff"], "unknown fusion 'msaff'; did you mean 'msaf'"),
        (["--fusions", "sum,sum"], "fusions names 'sum' twice"),
        (["--seeds", "0"], "seeds is 0, expected a positive integer"),
        (["--network", "MOSEINet", "--fusions", "msaf"], "does not suit the data"),
        (["--tune", "-1"], "tune is -1"),
        (["--folds", "1"], "folds is 1"),
        (["--folds", "97"], "folds is 97.* 2 to 96"),
        (["--engine", "rey"], "engine"),
    ],
)
def test_mistakes_are_named(arrays, tmp_path, more, message):
    quick = [] if "MOSEINet" in more else QUICK
    with pytest.raises(ValueError, match=message):
        run_compare(["--data", str(arrays), "--out", str(tmp_path / "out"), *quick, *more])


def test_a_missing_data_file_and_a_folder_in_use_are_named(arrays, tmp_path):
    with pytest.raises(ValueError, match=r"no file 'nowhere\.npz'"):
        run_compare(["--data", "nowhere.npz"])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else than a comparison"):
        compare(arrays, tmp_path, "--fusions", "sum")


def test_peak_memory_counts_maps_that_wait_for_their_gradients():
    inputs = {"a": torch.randn(8, 3, 64), "b": torch.randn(8, 3, 64)}
    small, large = (
        training_peak(SmallCNN(widths=(width, width)).with_fusion("sum", {}).build({"a": 3, "b": 3}, 4), inputs, {})
        for width in (8, 32)
    )
    kept = 2 * 8 * 32 * (64 + 32) * 4  # output of the two convolutions of two networks, float32
    assert kept < large < 20 * kept
    assert 2.5 * small < large
