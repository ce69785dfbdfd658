"""The recipes in configs/, each run by `msafusion train` on small prepared folders in the real layout."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import prepared
import pytest
import torch
import yaml

import msafusion
from msafusion.backbones import MFCCNet
from msafusion.commands.evaluate import run_evaluate
from msafusion.commands.recipe_options import train_parser
from msafusion.commands.train import run_train
from msafusion.data.datasets import RAVDESS
from msafusion.data.samples import with_streams
from msafusion.training.stage import bf16_lstms_run

CONFIGS = Path(__file__).parents[2] / "configs"
QUICK = [
    "--unimodal.epochs",
    "1",
    "--multimodal.epochs",
    "1",
    "--trainer.limit_train_batches",
    "2",
    "--num_workers",
    "0",
]
ROWS = {
    "ravdess": {"video alone", "audio alone", "fused"},
    "mosei": {"visual alone", "audio alone", "text alone", "fused"},
    "mosi": {"visual alone", "audio alone", "text alone", "fused"},
    "ntu_rgbd_i3d": {"rgb alone", "skeleton alone", "fused"},
    "ntu_rgbd_resnet50": {"rgb alone", "skeleton alone", "fused"},
}
OWN_DATA = {
    "avletters",
    "avletters_speakers",
    "grid",
    "mosi_arrays",
    "utd_mhad",
    "utd_mhad_depth",
    "smartwatch_exercises",
}
"""Recipes of ours for data that everyone can have, in formats of their own."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Prepared folders of a few samples, by recipe."""
    root = tmp_path_factory.mktemp("prepared")
    prepared.write_ravdess(root / "ravdess", actors=(1, 5, 6, 9, 10))
    prepared.write_ntu(root / "ntu", performers=(1, 2, 3))
    prepared.write_mosei(root / "mosei")
    prepared.write_mosei(root / "mosi", "MOSI")
    return {name: root / name.split("_")[0] for name in ROWS}


def train(config, folders, out, *more):
    name = config.removesuffix("-modern")
    size = [] if name.startswith("mos") else ["--data.size", "32"]
    given = ["--config", CONFIGS / f"{config}.yaml", "--data.root", folders[name], "--out", out, *QUICK, *size, *more]
    run_train(list(map(str, given)))
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def mosei_run(folders, tmp_path_factory):
    """A finished short run of the recipe for MOSEI, and its metrics; no test changes what is in it."""
    folder = tmp_path_factory.mktemp("runs") / "mosei"
    return folder, train("mosei", folders, folder)


@pytest.mark.parametrize(
    "config",
    [
        "mosei",
        pytest.param("mosei-modern", marks=pytest.mark.slow),
        pytest.param("ravdess", marks=pytest.mark.slow),  # without training: `untrained`
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mosi", "ntu_rgbd_i3d", "ntu_rgbd_resnet50")),
        pytest.param("ravdess-modern", marks=pytest.mark.slow),
        *(pytest.param(f"ntu_rgbd_{rgb}-modern", marks=pytest.mark.slow) for rgb in ("i3d", "resnet50")),
    ],
)
def test_recipe_trains_both_stages_tests_and_can_be_loaded(config, folders, tmp_path, request):
    whole = config.endswith("-modern") and ("mos" not in config or not bf16_lstms_run())  # what this CPU cannot do
    more = ["--trainer.precision", "32-true"] if whole else []
    more += ["--unimodal.epochs", "0"] if config == "ravdess" else []  # large checkpoints; the others try that stage
    if config == "mosei":
        run, result = request.getfixturevalue("mosei_run")
    else:
        run, result = tmp_path / "run", train(config, folders, tmp_path / "run", *more)
    assert set(result["rows"]) == ROWS[config.removesuffix("-modern")]
    for row in result["rows"].values():
        figure = row["test"].get("accuracy", row["test"].get("mae"))
        assert figure is not None
        assert row["test"]["num_samples"] == result["num_samples"]["test"] > 0
    saved = yaml.safe_load((run / "config.yaml").read_text())
    model = msafusion.load(run)
    assert type(model.network).__name__ == "FusedNetwork"
    assert (saved["network"]["init_args"]["init"] == "paper") != config.endswith("-modern")
    assert all(
        fusion_layer.fusion.init == saved["network"]["init_args"]["init"]
        for fusion_layer in model.network.fusion_layers
    )


def test_every_recipe_of_the_paper_has_a_modern_one_and_all_of_them_parse():
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert names == set(ROWS) | {f"{name}-modern" for name in ROWS} | OWN_DATA
    for name in names:
        root = [] if name == "smartwatch_exercises" else ["--data.root", "elsewhere"]
        given = train_parser().parse_args(["--config", str(CONFIGS / f"{name}.yaml"), *root])
        assert not root or str(given.data.init_args.root) == "elsewhere"
        assert name in OWN_DATA or given.multimodal.stream_dropout == 0.0  # not of the paper


@pytest.mark.parametrize(
    ("config", "stage"),
    [
        ("ravdess", {"epochs": 70, "batch_size": 4, "learning_rate": 1e-3, "optimizer": "adam", "weight_decay": 0.0}),
        ("mosei", {"epochs": 10, "batch_size": 16, "learning_rate": 1e-3, "optimizer": "adam", "weight_decay": 0.0}),
        ("mosi", {"epochs": 10, "batch_size": 16, "learning_rate": 1e-3, "optimizer": "adam", "weight_decay": 0.0}),
        ("ntu_rgbd_i3d", {"epochs": 20, "batch_size": 4, "learning_rate": 1e-4, "weight_decay": 1e-4}),
        ("ntu_rgbd_resnet50", {"decay_after": [5], "losses": "separate", "optimizer": "adam", "schedule": "constant"}),
    ],
)
def test_recipes_hold_the_papers_numbers(config, stage):
    given = train_parser().parse_args(["--config", str(CONFIGS / f"{config}.yaml")])
    assert {name: given.multimodal[name] for name in stage} == stage


def test_evaluate_gives_the_same_metrics_of_values(mosei_run, tmp_path):
    run, result = mosei_run
    run_evaluate([str(run), "--out", str(tmp_path / "evaluation.json")])
    again = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert {name: row["test"] for name, row in again.items()} == {
        name: row["test"] for name, row in result["rows"].items()
    }


@pytest.fixture(scope="module")
def untrained(folders, tmp_path_factory):
    """A run by the published protocol that starts and ends with given weights: its folder, result, output, weights."""
    folder, network = tmp_path_factory.mktemp("untrained"), MFCCNet(2)
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, folder / "audio.pth")
    only = ["--unimodal.epochs", "0", "--multimodal.epochs", "0", "--data.protocol", "published"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = train("ravdess", folders, folder / "run", *only, "--weights.audio", folder / "audio.pth")
    return folder / "run", result, printed.getvalue(), network.state_dict()


def test_the_published_protocol_chooses_on_the_test_fold_and_says_so(untrained):
    _, result, printed, _ = untrained
    assert result["chosen_on_test"]
    assert set(result["rows"]) == ROWS["ravdess"]
    assert "CHOSEN ON THE TEST SPLIT" in printed


def test_training_starts_from_the_weights_given(untrained):
    run, _, _, weights = untrained
    loaded = msafusion.load(run).network.networks["audio"].state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_a_missing_file_is_found_before_training(folders, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(folders["mosei"], root)
    (root / "text" / "video3$_$0.npy").unlink()
    with pytest.raises(ValueError, match=r"no file '.*video3\$_\$0\.npy', expected the text of sample"):
        train("mosei", {"mosei": root}, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_stage_of_one_stream_reads_that_stream_alone(folders):
    samples = RAVDESS(folders["ravdess"]).splits().train
    assert set(with_streams(samples, {"audio"})[0]["streams"]) == {"audio"}


def test_a_short_utterance_is_padded_in_use_as_in_training(mosei_run):
    model = msafusion.load(mosei_run[0])
    clip = {stream: torch.randn(3, count) for stream, count in model.preprocessing.num_channels().items()}
    assert model(clip).shape == (1, 1)
    with pytest.raises(ValueError, match=r"stream 'text' is float32 \(16, 3\), expected finite \(time, 16\)"):
        model({**clip, "text": clip["text"].T})
    with pytest.raises(ValueError, match=r"holds the network of the stream 'text' alone"):
        msafusion.load(mosei_run[0] / "unimodal" / "text")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--weights.voice", "x.pth"], "weights for the unknown stream 'voice'; choose from: visual, audio, text"),
        (["--weights.audio", "nowhere.pth"], "no file 'nowhere.pth', expected weights"),
        (
            ["--multimodal.per_stream_loss", "1"],
            r"network 'visual' gives \(batch, 32\), expected a prediction \(batch, 1\)",
        ),
        (["--multimodal.monitor", "accuracy"], "monitor is accuracy, expected one of mae, pearson, loss for these"),
        (
            ["--network", "RAVDESSNet"],
            r"network RAVDESSNet got the streams .*'text': 16.*expected video \(3\), audio \(13\)",
        ),
        (["--data.root", "nowhere"], r"'nowhere': no such path, expected a folder of the CMU SDK's \.csd files"),
        (["--data", "MOSI"], "holds MOSEI, expected MOSI"),
        (["--multimodal.losses", "separate"], r"network 'visual' gives \(batch, 32\), expected a prediction"),
    ],
)
def test_mistakes_end_in_one_clear_message(more, message, folders, tmp_path):
    with pytest.raises(ValueError, match=message):
        train("mosei", folders, tmp_path / "run", *more, "--unimodal.epochs", "0")
