"""A user's mistakes end in one clear line and a non-zero status."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from msafusion.cli import main
from msafusion.commands.prepare import run_prepare
from msafusion.commands.recipe_options import parse_recipe, train_parser


def fails(capsys, monkeypatch, *arguments):
    """The last line that the command prints to standard error, after it has ended with a non-zero status."""
    monkeypatch.setattr(sys, "argv", ["msafusion", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    if isinstance(end.value.code, str):  # what Python prints before it exits with 1
        return end.value.code
    assert end.value.code
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian', expected one of train, evaluate"),
        (["train", "--unimodal.epochs", "many"], 'Parser key "unimodal.epochs"'),
        (["train", "--epochs", "3"], "--epochs"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "--unimodal.epochs", "-1"], "epochs is -1, expected 0 or more"),
        (["train", "--data.valid_subjects", "[1,2]"], r"share \[1, 2\]"),
        (["train", "--data.test_subjects", "[11]"], r"name the unknown \[11\]"),
        (["train", "--data.file", "nowhere.npy", "--out", "OUT"], "no file 'nowhere.npy'"),
        (
            ["train", "--network.fusion_options", "{block_channels: 0}", "--out", "OUT"],
            "block_channels is 0, expected a positive integer",
        ),
        (["train", "--network.fuse_at", "[stage9]", "--out", "OUT"], "no submodule 'stage9'; did you mean 'stage"),
        (["train", "--trainer.devices", "-3", "--out", "OUT"], "trainer options do not work here: `devices` selected"),
        (["train", "--out", "/proc/run"], "cannot write into '/proc/run'"),
        (
            ["train", "--unimodal.learning_rate", "1e30", "--trainer.limit_train_batches", "3", "--out", "OUT"],
            "the loss became NaN or infinite in epoch 1",
        ),
        (["train", "--trainer.limit_train_batches", "0", "--out", "OUT"], "ended without a validation"),
        (["train", "--resume"], "--resume needs the run's folder"),
        (["train", "--resume", "--out", "OUT"], "no run to resume in"),
        (["evaluate", "OUT"], "no run in"),
    ],
)
def test_mistake(arguments, message, capsys, monkeypatch, tmp_path):
    arguments = [tmp_path / "out" if argument == "OUT" else argument for argument in arguments]
    line = fails(capsys, monkeypatch, *arguments)
    assert re.search(message, line), line


def test_a_folder_in_use_is_neither_mixed_nor_deleted(capsys, monkeypatch, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "exists already" in fails(capsys, monkeypatch, "train", "--out", tmp_path)
    assert "not the folder of a run" in fails(capsys, monkeypatch, "train", "--out", tmp_path, "--overwrite")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.fixture
def defaults():
    """The configuration of a run without options."""
    parser = train_parser()
    return parser.dump(parse_recipe(parser, []))


@pytest.mark.parametrize(
    ("recipe", "command", "said"),
    [
        (
            "out: victim\noverwrite: true",
            ["train", "--config", "R"],
            "sets out and overwrite, expected it on the command",
        ),
        ("resume: true", ["train", "--out", "victim", "--config=R"], "sets resume, expected"),
        ("out: victim\noverwrite: true", ["compare", "--config", "R"], "sets out and overwrite, expected"),
        ("overwrite: true", ["compare", "--data", "R"], "sets overwrite, expected"),
        ("ray_address: ray://stranger", ["compare", "--config", "R"], "sets ray_address, expected"),
        ("config: [other.yaml]", ["train", "--config", "R"], "names another file by config"),
        ("out: victim", ["train", "--conf", "R"], "--conf"),
    ],
)
def test_a_recipe_does_not_say_where_to_write_and_what_to_delete(
    recipe, command, said, capsys, monkeypatch, tmp_path, defaults
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "config.yaml").write_text(defaults)
    (tmp_path / "victim" / "metrics.json").write_text("{}")
    (tmp_path / "recipe.yaml").write_text(recipe)
    line = fails(capsys, monkeypatch, *(word.replace("R", "recipe.yaml") for word in command))
    assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "victim"]
    assert (tmp_path / "victim" / "metrics.json").is_file()


@pytest.mark.parametrize("out", [["--out", "there"], ["--out=there"]])
def test_where_to_write_is_of_the_command_line_wherever_it_stands(tmp_path, out):
    (tmp_path / "printed.yaml").write_text("out: null\noverwrite: false\nseed: 3\n")
    given = parse_recipe(train_parser(), ["--overwrite", *out, "--config", str(tmp_path / "printed.yaml")])
    assert (str(given.out), given.overwrite, given.seed) == ("there", True, 3)


def test_what_print_config_writes_and_a_runs_configuration_are_recipes(capsys, tmp_path, defaults):
    with pytest.raises(SystemExit):
        train_parser().parse_args(["--print_config"])
    (tmp_path / "recipe.yaml").write_text(capsys.readouterr().out)
    (tmp_path / "config.yaml").write_text(defaults)
    for name in ("recipe.yaml", "config.yaml"):
        assert parse_recipe(train_parser(), ["--config", str(tmp_path / name)]).multimodal.min_updates == 400


def test_another_class_has_its_own_defaults():
    """jsonargparse carries options of the same name from one class to the next."""
    given = parse_recipe(train_parser(), ["--data", "UTDMHAD", "--data.root", "x", "--network", "RAVDESSNet"])
    assert given.data.init_args.valid_subjects == [7]
    assert given.network.init_args.block_dropout == 0.2
    given = parse_recipe(train_parser(), ["--data.valid_subjects", "[6]", "--network.dropout", "0.5"])
    assert given.data.class_path.endswith("SmartwatchExercises")
    assert given.data.init_args.valid_subjects == [6]
    assert given.network.class_path.endswith("SmallCNN")


def test_resuming_with_other_options_is_refused(capsys, monkeypatch, tmp_path, defaults):
    (tmp_path / "config.yaml").write_text(defaults)
    line = fails(capsys, monkeypatch, "train", "--out", tmp_path, "--resume", "--multimodal.epochs", "5")
    assert "--multimodal.epochs is 5, but the run in" in line
    assert "was started without it" in line
    line = fails(capsys, monkeypatch, "train", "--out", tmp_path, "--resume", "--multimodal.batch_size", "5")
    assert "--multimodal.batch_size is 5, but the run in" in line
    assert "was started with 32" in line


def test_a_torn_checkpoint_and_an_unfinished_run_are_named(capsys, monkeypatch, tmp_path, defaults):
    (tmp_path / "config.yaml").write_text(defaults)
    assert "is not finished (no model); go on by" in fails(capsys, monkeypatch, "evaluate", tmp_path)
    checkpoint = tmp_path / "checkpoints" / "unimodal-accelerometer" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"torn")
    assert f"'{checkpoint}' is not loaded: a mark is missing" in fails(
        capsys, monkeypatch, "train", "--out", tmp_path, "--resume"
    )


def test_a_broken_model_is_named(capsys, monkeypatch, tmp_path, defaults):
    (tmp_path / "config.yaml").write_text(defaults)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"network": {}, "classes": []}))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"torn")
    assert "model.safetensors' cannot be read" in fails(capsys, monkeypatch, "evaluate", tmp_path)


def test_a_network_beyond_the_machines_memory_is_named(capsys, monkeypatch, tmp_path):
    absurd = ("--network.widths", "[1000000000, 1000000000, 8]")
    line = fails(capsys, monkeypatch, "train", "--out", tmp_path / "run", *absurd)
    assert "the network's options ask for more than" in line
    assert "(this machine's memory), expected less; choose smaller ones." in line


def test_names_that_are_not_utf8_are_prepared_and_named_in_training(capsys, monkeypatch, tmp_path):
    source = tmp_path / os.fsdecode(b"donn\xe9es")
    source.mkdir()
    rows = ["id,label,split,x"]
    for number, part in enumerate(("train", "train", "valid", "test")):
        np.save(source / f"{number}.npy", np.zeros((4, 3), np.float32))
        rows.append(f"s{number},{'uv'[number % 2]},{part},{number}.npy")
    (source / "manifest.csv").write_text("\n".join(rows) + "\n")
    run_prepare(["Manifest", str(source), str(tmp_path / "out")])
    assert (tmp_path / "out" / "x" / "s3.npy").is_file()
    line = fails(capsys, monkeypatch, "train", "--data", "Manifest", "--data.root", source, "--out", tmp_path / "run")
    assert "whose name is not UTF-8, and the run could not record it; rename it." in line
    assert "--out is" in fails(capsys, monkeypatch, "train", "--out", source / "run")


def test_help_answers_without_importing_torch():
    code = """
import sys
from msafusion.cli import main
for verb in ([], ["train"], ["compare"], ["predict"], ["evaluate"], ["summary"]):
    sys.argv = ["msafusion", *verb, "--help"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (verb, end.code)
    assert "torch" not in sys.modules, verb
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert all(word in done.stdout for word in ("evaluate", "--unimodal.epochs", "RUN/evaluation.json", "RAVDESSNet"))
