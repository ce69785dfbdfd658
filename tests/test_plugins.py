"""The user's own classes, which come in at the user's word only."""

import gc
import json
import sys

import pytest
import yaml

import msafusion
from msafusion import plugins
from msafusion.commands.evaluate import run_evaluate
from msafusion.commands.recipe_options import parse_recipe, train_parser
from msafusion.commands.train import run_train
from msafusion.data.preprocessing import Windows
from msafusion.data.samples import Splits
from msafusion.fusion import FUSIONS
from msafusion.training.loadable import check_saved
from msafusion.training.testing import build

OWN = """
from msafusion.data.datasets import SmartwatchExercises
from msafusion.fusion import FUSIONS, MMTM, Head
from msafusion.fusion.late import Mean
from msafusion.networks import SmallCNN
from msafusion.data.preprocessing import Windows
class OwnPlan(SmallCNN): pass
class OwnData(SmartwatchExercises): pass
class OwnHead(Mean): pass
class OwnWindows(Windows): pass
FUSIONS["own_gates"] = MMTM
"""


def forget(monkeypatch):
    """A process in which the user has said nothing yet."""
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]  # for good: jsonargparse finds classes as long as they live
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
    gc.collect()


@pytest.mark.slow
def test_own_classes_come_in_at_the_users_word(own, tmp_path, monkeypatch):
    out, word = tmp_path / "run", ["--import", own]
    options = ["--data", "OwnData", "--network", f"{own}.OwnPlan", "--network.fusion", "own_gates"]
    short = ["--unimodal.epochs", "1", "--multimodal.epochs", "1", "--trainer.limit_train_batches", "1"]
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
                for n in ("NetworkPlan", "Dataset", "Preprocessing", "Head")
            ],
            strict=True,
        )
    )
    assert plugins.required_modules({"network": {"options": {"fusion": "own_gates"}}}) == [own]
    assert plugins.required_modules({"network": {"name": "SmallCNN"}}) == []


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
    from msafusion.data.datasets import SmartwatchExercises
    from msafusion.networks import SmallCNN

    class Unknown(SmallCNN):
        pass

    class Forgetful(SmallCNN):
        def __init__(self, width: int = 8) -> None:
            super().__init__(widths=(width, 2 * width, width))

    splits = SmartwatchExercises().splits()
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
