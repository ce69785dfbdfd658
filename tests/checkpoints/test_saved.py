import json

import numpy as np
import pytest
import torch
from torch import nn

import msafusion
from msafusion.checkpoints import ModelError, read_model, save_model
from msafusion.data.preprocessing import Windows
from msafusion.networks import SmallCNN


def test_a_saved_model_comes_back_bit_for_bit(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    save_model(tmp_path / "deep" / "model", net, {"hello": [1, 2]})
    config, state = read_model(tmp_path / "deep" / "model")
    assert config == {"hello": [1, 2]}
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "deep" / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json in .*expected a saved model"):
        read_model(tmp_path)


@pytest.mark.parametrize(("name", "content"), [("config.json", b"{"), ("model.safetensors", b"torn")])
def test_a_broken_file_is_named(tmp_path, name, content):
    save_model(tmp_path, nn.Linear(2, 2), {})
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}' cannot be read"):
        read_model(tmp_path)


@pytest.fixture
def model(tmp_path):
    plan = SmallCNN(widths=(8, 8), fuse_at=("stage2",), fusion_options={"block_channels": 4})
    windows = Windows(50.0, 20, 10, {"x": [0.0], "y": [1.0, 2.0]}, {"x": [1.0], "y": [1.0, 3.0]})
    config = {
        "msafusion": "0",
        "network": plan.as_dict(),
        "classes": ["a", "b", "c"],
        "preprocessing": windows.as_dict(),
    }
    net = plan.build({"x": 1, "y": 2}, 3)
    save_model(tmp_path / "model", net, config)
    return tmp_path, net


def test_load_gives_the_network_back_and_predicts_raw_recordings(model):
    folder, net = model
    loaded = msafusion.load(folder)
    inputs = {"x": torch.randn(4, 1, 20), "y": torch.randn(4, 2, 20)}
    assert torch.equal(loaded.network(inputs), net.eval()(inputs))
    probabilities = loaded({"x": np.random.default_rng(0).normal(size=(50, 1)), "y": np.zeros((50, 2))})
    assert probabilities.shape == (4, 3)


def test_load_names_a_model_of_another_version(model):
    folder, _ = model
    config = json.loads((folder / "model" / "config.json").read_text())
    config["network"]["options"]["future"] = 1
    (folder / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"does not fit this version of msafusion \(made by 0\).*future"):
        msafusion.load(folder)
