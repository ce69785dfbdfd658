"""`msafusion train`, `evaluate` and `load` on the embedded data: real runs of a few epochs, as a user starts them."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional

import msafusion
from msafusion.commands.evaluate import run_evaluate
from msafusion.commands.train import run_train
from msafusion.data.datasets import SmartwatchExercises
from msafusion.data.datasets.smartwatch_exercises import STREAMS
from msafusion.training.testing import predict_dataset

SHORT = [
    *("--network.widths", "[16,32,32]", "--unimodal.epochs", "2", "--multimodal.epochs", "2", "--seed", "1"),
    *("--unimodal.batch_size", "64", "--multimodal.batch_size", "64", "--simple_models", "false"),
]


def command(*arguments, check=True, **options):
    """Run the command as a user does; returns the finished process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(
        [Path(sys.executable).with_name("msafusion"), *map(str, arguments)],
        capture_output=True, text=True, env=environment, timeout=600, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished short run, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = command("train", "--out", folder, *SHORT)
    return folder, done.stdout


@pytest.fixture(scope="module")
def metrics(run):
    return json.loads((run[0] / "metrics.json").read_text())["rows"]


def test_train_prints_one_row_for_each_stream_and_one_for_their_fusion(run, metrics):
    for row in ("accelerometer alone", "gyroscope alone", "fused"):
        assert row in run[1]
        assert f"{100 * metrics[row]['test']['accuracy']:.1f}" in run[1]
    assert "Traceback" not in run[1]


def test_networks_learn_within_two_epochs(metrics):
    chance = 1 / 7
    assert all(row["test"]["accuracy"] > 3 * chance for row in metrics.values())


def test_metrics_hold_the_per_class_figures_of_every_test_window(metrics):
    for row in metrics.values():
        test = row["test"]
        assert set(test["per_class"]) == {"PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"}
        assert sum(figures["num_samples"] for figures in test["per_class"].values()) == test["num_samples"] == 672
        matrix = torch.tensor(test["confusion_matrix"])
        assert matrix.sum() == 672
        assert float(matrix.diag().sum()) / 672 == pytest.approx(test["accuracy"])


def test_the_model_is_the_best_epoch_on_the_validation_subjects(run, metrics):
    with (run[0] / "logs" / "multimodal" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    accuracies = [float(row["valid/accuracy"]) for row in rows]
    assert [int(row["epoch"]) for row in rows] == [0, 1]
    assert metrics["fused"]["valid"]["accuracy"] == pytest.approx(max(accuracies))
    assert int(metrics["fused"]["valid"]["epoch"]) == accuracies.index(max(accuracies))


def test_config_is_complete(run):
    saved = yaml.safe_load((run[0] / "config.yaml").read_text())
    assert saved["data"]["init_args"]["test_subjects"] == [1, 2, 3]
    assert saved["network"]["init_args"]["fusion"] == "msaf"
    assert saved["multimodal"]["fusion_learning_rate"] == 3e-3
    assert saved["trainer"]["devices"] == 1


def test_evaluate_gives_the_same_test_metrics_again(run, metrics, capsys):
    run_evaluate([str(run[0])])
    again = json.loads((run[0] / "evaluation.json").read_text())["rows"]
    assert {name: row["test"] for name, row in again.items()} == {name: row["test"] for name, row in metrics.items()}
    assert "fused" in capsys.readouterr().out


def test_load_gives_network_and_preprocessing_back(run, metrics):
    model = msafusion.load(run[0])
    splits = SmartwatchExercises().splits()
    samples = splits.test[:64]
    stored = {name: torch.stack([sample["streams"][name] for sample in samples]) for name in STREAMS}
    inputs = splits.preprocessing.inputs(stored)
    assert model.network(inputs).shape == (64, 7)
    assert not model.network.training
    assert model.preprocessing == splits.preprocessing
    raw = SmartwatchExercises()._read()
    number = int(samples[0]["id"].split("/")[0])
    recording = {"accelerometer": raw["X"][number][:, :3], "gyroscope": raw["X"][number][:, 3:]}
    probabilities = model(recording)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(probabilities)))
    torch.testing.assert_close(
        probabilities[:1],
        torch.softmax(model.network({k: v[:1] for k, v in inputs.items()}) / model.temperature, 1),
    )
    assert model({"gyroscope": recording["gyroscope"]}).shape == probabilities.shape


def test_the_fused_prediction_is_calibrated_and_its_classes_stay(run, metrics):
    test = metrics["fused"]["test"]
    temperature = test["calibration"]["temperature"]
    assert 0.05 < temperature != 1
    assert f"temperature {temperature:.2f}" in run[1]
    assert test["log_loss"] != test["calibration"]["before"]["log_loss"]
    assert "calibration" not in metrics["gyroscope alone"]["test"]
    model = msafusion.load(run[0])
    assert model.temperature == pytest.approx(temperature)
    splits = SmartwatchExercises().splits()
    outputs, labels = predict_dataset(model.network, splits.test, splits.preprocessing)
    assert functional.cross_entropy(outputs[""] / temperature, labels) == pytest.approx(test["log_loss"], rel=1e-4)


def _end_after(folder, stage, epochs, number, *arguments):
    """Start a run and send it a signal in the middle of an epoch of a stage; returns its status and standard error."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = Path(sys.executable).with_name("msafusion")
    process = subprocess.Popen(
        [program, "train", "--out", folder, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log, until = folder / "logs" / stage / "metrics.csv", time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) > epochs:
            break
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed"
    time.sleep(0.1)
    process.send_signal(number)
    error = process.communicate(timeout=120)[1]
    return process.returncode, error


@pytest.mark.slow
@pytest.mark.parametrize(
    "ends",
    [{"unimodal-gyroscope": signal.SIGTERM}, {"unimodal-gyroscope": signal.SIGKILL, "multimodal": signal.SIGTERM}],
)
def test_ended_and_resumed_a_run_from_its_config_ends_as_if_nothing_had_happened(ends, run, metrics, tmp_path):
    folder, start = tmp_path / "ended", ("--config", run[0] / "config.yaml")
    for stage, number in ends.items():
        status, error = _end_after(folder, stage, 1, number, *start)
        if number == signal.SIGTERM:
            assert status == 128 + signal.SIGTERM
            assert re.fullmatch(r"msafusion: terminated; .*`--resume`.*--out.*\n", error)
        assert not (folder / "metrics.json").exists()
        start = ("--resume",)
    run_train(["--out", str(folder), "--resume"])
    resumed = json.loads((folder / "metrics.json").read_text())["rows"]
    for name, row in metrics.items():
        for figure in ("accuracy", "macro_f1", "unweighted_average_recall"):
            assert resumed[name]["test"][figure] == pytest.approx(row["test"][figure], abs=1e-6)
    for part in ("model", "unimodal/accelerometer", "unimodal/gyroscope"):
        one, other = (load_file(place / part / "model.safetensors") for place in (run[0], folder))
        assert all(torch.equal(one[name], other[name]) for name in one)
    for stage in ("unimodal-accelerometer", "unimodal-gyroscope", "multimodal"):
        with (folder / "logs" / stage / "metrics.csv").open() as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]


@pytest.mark.slow
def test_two_processes_in_bf16_with_separate_losses_agree_on_one_result(tmp_path):
    options = [
        *(
            "--network.widths",
            "[16,32,32]",
            "--multimodal.losses",
            "separate",
            "--unimodal.epochs",
            "1",
            "--multimodal.epochs",
            "1",
        ),
        *("--trainer.devices", "2", "--trainer.accelerator", "cpu"),
    ]
    done = command("train", "--out", tmp_path / "two", *options, "--trainer.precision", "bf16-mixed")
    assert done.stdout.count("results in") == 1
    rows = json.loads((tmp_path / "two" / "metrics.json").read_text())["rows"]
    assert rows["fused"]["test"]["num_samples"] == 672
