"""As an attacker would: files, runs and arguments that ask for code."""

import json
import sys
import time

import pytest
import yaml

import msafusion
from msafusion import plugins
from msafusion.commands.compare import compare_parser, run_compare
from msafusion.commands.evaluate import run_evaluate
from msafusion.commands.measuring import find_plan
from msafusion.commands.recipe_options import parse_recipe, train_parser
from msafusion.commands.train import run_train
from msafusion.data.preparation import PreparedFolder
from msafusion.files.yaml_file import MAX_BYTES, read_yaml

TREE = {
    "data": {
        "class_path": "msafusion.data.datasets.Manifest",
        "init_args": {
            "root": "x",
            "streams": {"audio": {"kind": "Mfcc"}},
            "held_out": {"test": ["a"]},
            "augmentation": {"noise": 0.1},
            "workers": 1,
        },
    },
    "network": {
        "class_path": "SmallCNN",
        "init_args": {"widths": [8, 8], "fusion_options": {"x": 1}, "backbones": {"audio": "cnn1d"}, "fusion": "msaf"},
    },
    "weights": {"audio": "x.pth"},
    "unimodal": {"epochs": 1, "decay_after": [3]},
    "multimodal": {"epochs": 1, "monitor": "loss"},
    "trainer": {"strategy": "ddp", "accelerator": "cpu", "devices": [0], "precision": 32, "val_check_interval": 1.0},
    "seed": 1,
    "start": "alone",
    "import": [],
}


def keys(tree, above=()):
    """Paths to every value of a tree, those in the middle included."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield (*above, key)
        if isinstance(tree[key], dict | list):
            yield from keys(tree[key], (*above, key))


def with_value(path, value):
    """The tree with another value at a path."""
    tree = place = json.loads(json.dumps(TREE))
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return tree


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """The name of a class whose module leaves a file when it is imported, and that file."""
    marker = tmp_path / "executed"
    (tmp_path / "payload_module.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nfrom msafusion.networks import SmallCNN\nclass Payload(SmallCNN): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "payload_module.Payload"
    assert not marker.exists()
    assert not {"payload_module", "this"} & sys.modules.keys()


@pytest.fixture(scope="module")
def parsers():
    return {"train": train_parser(), "compare": compare_parser()}


@pytest.mark.parametrize("what", ["object", "name"])
def test_no_key_of_a_recipe_runs_code(what, payload, parsers, tmp_path):
    value = payload if what == "name" else {"class_path": payload, "init_args": {"args": ["touch", "executed"]}}
    run, file = tmp_path / "run", tmp_path / "recipe.yaml"
    (run / "model").mkdir(parents=True)
    for path in keys(TREE):
        if what == "name" and path not in (("data",), ("network",), ("data", "class_path"), ("network", "class_path")):
            continue
        for target in (file, run / "config.yaml"):
            target.write_text(yaml.safe_dump(with_value(path, value)))
        for verb in (
            lambda: parse_recipe(parsers["train"], ["--config", str(file)]),
            lambda: parse_recipe(parsers["compare"], [f"--config={file}"]),
            lambda: find_plan(str(file)),
        ):
            with pytest.raises(ValueError, match=r"payload_module|expected names of modules") as refused:
                verb()
            assert str(file) in str(refused.value)
    for verb in (  # the same file through the whole verbs
        lambda: run_evaluate([str(run)]),
        lambda: run_train(["--out", str(run), "--resume"]),
        lambda: run_train(["--out", str(tmp_path / "new"), "--config", str(file)]),
        lambda: run_compare(["--out", str(tmp_path / "new"), "--data", str(file)]),
    ):
        with pytest.raises(ValueError, match=r"payload_module|expected names of modules"):
            verb()
    assert not (tmp_path / "new").exists()


def test_no_key_runs_code_behind_the_first_look(payload, parsers):
    """jsonargparse itself, were a file to get past `check_recipe`."""
    parser = parsers["train"]
    for path in keys(TREE):
        try:
            given = parser.parse_object(with_value(path, {"class_path": payload, "init_args": {}}))
            parser.instantiate(given)
        except Exception:  # refused, or data and fusion that are not there
            continue


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "PAYLOAD"],
        ["--data.class_path", "PAYLOAD"],
        ["--network=PAYLOAD"],
        ["--network", "{class_path: PAYLOAD}"],
        ["--network.init_args.fusion_options.x", "{class_path: PAYLOAD}"],
        ["--network.fusion_options", "{x: [{class_path: PAYLOAD}]}"],
        [
            "--network.init_args.fusion_options",
            "{x: {class_path: subprocess.Popen, init_args: {args: ls}}}",
        ],
        ["--trainer.strategy", "PAYLOAD"],
        ["--trainer.strategy", "{class_path: lightning.pytorch.strategies.DDPStrategy}"],
        ["--trainer.accelerator", "{class_path: PAYLOAD}"],
        ["--trainer.plugins", "{class_path: PAYLOAD}"],
        ["--weights", "{audio: {class_path: PAYLOAD}}"],
        ["--config", "https://example.org/recipe.yaml"],
        ["--config", "memory://recipe.yaml"],
        ["--config", "network: PAYLOAD"],
        ["--data", "this.X"],
        ["--network", "subprocess.Popen"],
        ["--data.help", "PAYLOAD"],
        ["--network", "msafusion.networks.small.get_args"],
        ["--import", "subprocess", "--network", "subprocess.Popen"],
        ["--import", "../payload_module"],
    ],
)
def test_no_argument_runs_code(arguments, payload, parsers, monkeypatch):
    monkeypatch.setattr(plugins, "_asked", [])
    arguments = [argument.replace("PAYLOAD", payload) for argument in arguments]
    with pytest.raises(ValueError):
        parse_recipe(parsers["train"], arguments)
    with pytest.raises(ValueError):
        parse_recipe(parsers["compare"], arguments)


def test_environment_variables_run_no_code(payload, monkeypatch):
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    monkeypatch.setenv("MSAFUSION_TRAIN_NETWORK", payload)
    monkeypatch.setenv("NETWORK", payload)
    assert parse_recipe(train_parser(), []).network.class_path == "msafusion.networks.SmallCNN"


def test_a_saved_model_and_a_prepared_folder_run_no_code(payload, tmp_path):
    spec = {"class_path": payload, "init_args": {}}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    kept = {"kind": "Windows", "channels": {"a": 3}, "rate": 50.0, "steps": 100, "hop": 50, "mean": {}, "std": {}}
    good = {"network": {"name": "SmallCNN", "options": {}}, "classes": ["a", "b"], "preprocessing": kept}
    for broken in (
        {"network": {"name": payload, "options": {}}},
        {"network": {"name": "SmallCNN", "options": {"fusion_options": spec}}},
        {"network": spec},
        {"preprocessing": {"kind": payload}},
        {"preprocessing": spec},
        {"extraction": {"streams": {"a": {"kind": payload}}}},
        {"imports": ["payload_module"]},
        {"imports": spec},
    ):
        (tmp_path / "model" / "config.json").write_text(json.dumps({**good, **broken}))
        with pytest.raises(ValueError):
            msafusion.load(tmp_path)
    (tmp_path / "samples.csv").write_text("id,label,group\n1,0,a\n")
    for info in ({"dataset": spec, "streams": spec}, {"dataset": "x", "streams": {"a": 1}, "extraction": spec}):
        (tmp_path / "info.json").write_text(json.dumps(info))
        try:
            PreparedFolder(tmp_path, "x")
        except ValueError:
            continue


def nested(levels):
    """YAML in which each level stands for ten of the one before."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, levels)]
    return "\n".join(lines)


BOMBS = {
    "aliases": nested(30),
    "merged": "a0: &a0 {k: v}\n"
    + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join(10 * [f'*a{n - 1}'])}]}}" for n in range(1, 9)),
    "itself": "a: &a [*a]",
    "deep": "[" * 5000,
    "deep blocks": "\n".join(" " * n + "a:" for n in range(1500)),
    "digits": "seed: " + "9" * 50_000,
    "sixties": "seed: 1" + ":1" * 40_000,
    "many": "a: [" + "1," * 500_000 + "]",
    "large": "# " + "x" * (MAX_BYTES + 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_is_read_in_bounded_time(name, tmp_path, parsers):
    file, run = tmp_path / "bomb.yaml", tmp_path / "run"
    (run / "model").mkdir(parents=True)
    file.write_text(BOMBS[name])
    (run / "config.yaml").write_text(BOMBS[name])
    start = time.perf_counter()
    for verb in (lambda: read_yaml(file), lambda: find_plan(str(file)), lambda: run_evaluate([str(run)])):
        with pytest.raises(ValueError, match=r"bomb\.yaml|config\.yaml") as refused:
            verb()
        assert "\n" not in str(refused.value)
    if name != "large":  # which is a comment, and no file
        with pytest.raises(ValueError):
            parse_recipe(parsers["train"], [f"--network.fusion_options={BOMBS[name][:100_000]}"])
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("text", ["a: 1\nb: {c: [a]}\na: 2\n", "x: {a: 1, a: 2}", "x: [[1], {a: {a: 1}, b: 2, a: 3}]"])
def test_a_key_that_comes_twice_is_refused(text, tmp_path, parsers):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"a\.yaml' .*line [13] has the key 'a' again"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("seed: 1\nseed: 2\n")
    with pytest.raises(ValueError, match="line 2 has the key 'seed' again"):
        parse_recipe(parsers["train"], ["--config", str(tmp_path / "b.yaml")])


def test_ordinary_aliases_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("unimodal: &stage {epochs: 3}\nmultimodal: {<<: *stage, batch_size: 4}\n")
    assert read_yaml(tmp_path / "a.yaml")["multimodal"] == {"epochs": 3, "batch_size": 4}
