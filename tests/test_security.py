"""As an attacker would: files, runs and arguments that ask for code; and the user's own classes, at the user's word."""

import json
import sys
import time

import pytest
import yaml

import msafusion
from msafusion import plugins
from msafusion.bounded_yaml import MOST_BYTES, read_yaml
from msafusion.commands.compare import compare_parser, run_compare
from msafusion.fusion import FUSIONS
from msafusion.preparation import PreparedFolder
from msafusion.preprocessing import Windows
from msafusion.samples import Splits
from msafusion.summary.command import find_plan
from msafusion.training.loadable import check_saved
from msafusion.training.options import parse_recipe, run_evaluate, run_train, train_parser
from msafusion.training.testing import build

TREE = {
    "data": {
        "class_path": "msafusion.data.Manifest",
        "init_args": {
            "root": "x",
            "streams": {"audio": {"kind": "Mfcc"}},
            "held_out": {"test": ["a"]},
            "changes": {"noise": 0.1},
            "workers": 1,
        },
    },
    "network": {
        "class_path": "SmallCNN",
        "init_args": {"widths": [8, 8], "fusion_options": {"x": 1}, "backbones": {"audio": "cnn1d"}, "fusion": "msaf"},
    },
    "weights": {"audio": "x.pth"},
    "alone": {"epochs": 1, "decay_after": [3]},
    "fused": {"epochs": 1, "monitor": "loss"},
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
    "large": "# " + "x" * (MOST_BYTES + 1),
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


def test_ordinary_aliases_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("alone: &stage {epochs: 3}\nfused: {<<: *stage, batch_size: 4}\n")
    assert read_yaml(tmp_path / "a.yaml")["fused"] == {"epochs": 3, "batch_size": 4}


OWN = """
from msafusion.data import Watch
from msafusion.fusion import FUSIONS, MMTM, Head
from msafusion.fusion.late import Mean
from msafusion.networks import SmallCNN
from msafusion.preprocessing import Windows
class OwnPlan(SmallCNN): pass
class OwnData(Watch): pass
class OwnHead(Mean): pass
class OwnWindows(Windows): pass
FUSIONS["own_gates"] = MMTM
"""


def forget(monkeypatch):
    """A process in which the user has said nothing yet."""
    for name in [name for name in sys.modules if name.startswith("own_")]:
        monkeypatch.delitem(sys.modules, name)
    for registry in (*plugins.REGISTRIES.values(), FUSIONS):
        for name in [name for name in registry if name.lower().startswith("own")]:
            del registry[name]
    monkeypatch.setattr(plugins, "_asked", [])
    monkeypatch.setattr(plugins, "_origin", {})


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module with classes of the user's own, on PYTHONPATH."""
    (tmp_path / "own_classes.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    forget(monkeypatch)
    yield "own_classes"
    forget(monkeypatch)


@pytest.mark.slow
def test_own_classes_come_in_at_the_users_word(own, tmp_path, monkeypatch):
    out, word = tmp_path / "run", ["--import", own]
    options = ["--data", "OwnData", "--network", f"{own}.OwnPlan", "--network.fusion", "own_gates"]
    short = ["--alone.epochs", "1", "--fused.epochs", "1", "--trainer.limit_train_batches", "1"]
    for named in (options[:2], options[2:]):
        with pytest.raises(ValueError, match="--import"):
            run_train(["--out", str(out), *named, *short])
    assert own not in sys.modules
    run_train(["--out", str(out), *options, *short, *word])
    assert yaml.safe_load((out / "config.yaml").read_text())["import"] == [own]
    assert json.loads((out / "model" / "config.json").read_text())["imports"] == [own]
    forget(monkeypatch)
    for verb in (
        lambda: msafusion.load(out),
        lambda: run_evaluate([str(out)]),
        lambda: run_train(["--out", str(out), "--resume"]),
    ):
        with pytest.raises(ValueError, match=f"needs {own}.*--import {own}"):
            verb()
        assert own not in sys.modules
    assert msafusion.load(out, imports=[own]).classes
    forget(monkeypatch)
    run_evaluate([str(out), *word])
    tested = json.loads((out / "metrics.json").read_text())["rows"]["fused"]["test"]
    assert json.loads((out / "evaluation.json").read_text())["rows"]["fused"]["test"] == tested
    forget(monkeypatch)
    run_train(["--out", str(out), "--resume", f"--import={own}"])


def test_registered_by_name(own):
    plugins.use([own])
    assert all(
        f"Own{name}" in registry
        for name, registry in zip(
            ("Plan", "Data", "Windows", "Head"),
            [
                next(r for base, r in plugins.REGISTRIES.items() if base.__name__ == n)
                for n in ("NetworkPlan", "DataSource", "Preprocessing", "Head")
            ],
            strict=True,
        )
    )
    assert plugins.needed({"network": {"options": {"fusion": "own_gates"}}}) == [own]
    assert plugins.needed({"network": {"name": "SmallCNN"}}) == []


def test_a_name_of_ours_is_not_taken(own, tmp_path):
    (tmp_path / "own_clash.py").write_text("from msafusion.networks import SmallCNN as S\nclass SmallCNN(S): pass\n")
    with pytest.raises(ValueError, match=r"SmallCNN.*rename yours"):
        plugins.use(["own_clash"])


def test_entry_points_of_installed_packages(own, tmp_path, monkeypatch):
    info = tmp_path / "own_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own_package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[msafusion.plugins]\nmine = {own}\n")
    plugins.load_installed.cache_clear()
    try:
        assert parse_recipe(train_parser(), ["--network", "OwnPlan"]).network.class_path == f"{own}.OwnPlan"
        plugins.check_allowed([own], "a model")
    finally:
        plugins.load_installed.cache_clear()
        plugins._installed.clear()


def test_what_could_not_be_loaded_again_is_not_trained(tmp_path):
    from msafusion.data import Watch
    from msafusion.networks import SmallCNN

    class Unknown(SmallCNN):
        pass

    class Forgetful(SmallCNN):
        def __init__(self, width: int = 8) -> None:
            super().__init__(widths=(width, 2 * width, width))

    splits = Watch().splits()
    saved = {"preprocessing": splits.preprocessing.as_dict(), "extraction": {}}
    for plan, message in ((Unknown(), "add --import tests?|add --import"), (Forgetful(), "add --import")):
        with pytest.raises(ValueError, match=message):
            check_saved({**saved, "network": plan.as_dict()}, plan, splits, build(plan, splits))
    plan = SmallCNN()
    plan.widths = [8, 8, 8]
    net = build(plan, splits)
    described = {"name": "SmallCNN", "options": {"widths": [4, 4, 4]}}
    with pytest.raises(ValueError, match="could not be loaded again"):
        check_saved({**saved, "network": described}, plan, splits, net)
    check_saved({**saved, "network": plan.as_dict()}, plan, splits, net)
    assert isinstance(splits, Splits)
    assert isinstance(splits.preprocessing, Windows)
